//! The tasks of the server that answers with tasks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_mcp_protocol::{error_code, method, result_type};

use super::super::behaviour::TaskEnd;
use super::super::ledger::Entry;
use crate::flow::server::micros;

/// The first part of a task's id.
pub(crate) const ID: &str = "task-";
/// How long the server wants to be left alone.
const POLL_MS: u64 = 300;

/// A task that was started.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) call: String,
    /// The worker that sent its call.
    pub(crate) worker: String,
    /// The workers that polled it.
    pub(crate) polled_by: Vec<String>,
    pub(crate) end: TaskEnd,
    /// Whether it was cancelled.
    pub(crate) cancelled: bool,
    /// When its name was written to the worker, in microseconds on the servers' clock.
    pub(crate) handed_us: Option<u64>,
    ends_us: u64,
    entry: Entry,
    text: String,
}

/// What a request about a task is answered.
pub(super) enum TaskAnswer {
    Result(Value),
    Error(i64, &'static str),
}

/// What a request about a task tells of its call: it has ended, or nobody knows any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Ended(Entry),
    Forgotten(Entry),
}

/// All tasks.
#[derive(Default)]
pub(super) struct Tasks(Mutex<Vec<Task>>);

/// A task that is about to be started.
pub(super) struct NewTask<'a> {
    pub(super) call: &'a str,
    pub(super) worker: &'a str,
    pub(super) text: &'a str,
    pub(super) entry: Entry,
    pub(super) end: TaskEnd,
    pub(super) ms: u64,
}

impl Tasks {
    /// Starts a task. Returns the result that hands it over.
    pub(super) fn start(&self, new: &NewTask<'_>, now_us: u64) -> Value {
        let mut tasks = self.lock();
        let id = format!("{ID}{}", tasks.len());
        tasks.push(Task {
            id: id.clone(),
            call: new.call.to_owned(),
            worker: new.worker.to_owned(),
            polled_by: Vec::new(),
            end: new.end,
            cancelled: false,
            handed_us: None,
            ends_us: now_us + micros(Duration::from_millis(new.ms)),
            entry: new.entry,
            text: new.text.to_owned(),
        });
        json!({"resultType": result_type::TASK, "taskId": id, "status": "working", "ttlMs": null, "pollIntervalMs": POLL_MS})
    }

    /// The task of that request was handed over.
    pub(super) fn handed(&self, entry: Entry, now_us: u64) {
        if let Some(task) = self.lock().iter_mut().rev().find(|task| task.entry == entry) {
            task.handed_us = Some(now_us);
        }
    }

    /// The answer to `tasks/get` or `tasks/cancel`.
    pub(super) fn answer(
        &self,
        method: &str,
        id: &str,
        worker: &str,
        now_us: u64,
    ) -> (TaskAnswer, Option<Told>) {
        let unknown = TaskAnswer::Error(error_code::INVALID_PARAMS, "no such task");
        let mut tasks = self.lock();
        let position = id.strip_prefix(ID).and_then(|n| n.parse::<usize>().ok());
        let Some(task) = position.and_then(|n| tasks.get_mut(n)) else { return (unknown, None) };
        if method == method::TASKS_CANCEL {
            task.cancelled = true;
            return (TaskAnswer::Result(json!({"resultType": result_type::COMPLETE})), None);
        }
        if !task.polled_by.iter().any(|polled| polled == worker) {
            task.polled_by.push(worker.to_owned());
        }
        let state = |status: &str, more: Value| {
            let mut state =
                json!({"resultType": result_type::COMPLETE, "taskId": id, "status": status, "ttlMs": null});
            if let (Some(state), Value::Object(more)) = (state.as_object_mut(), more) {
                state.extend(more);
            }
            TaskAnswer::Result(state)
        };
        if now_us < task.ends_us || task.end == TaskEnd::Never {
            let status = if task.cancelled { "cancelled" } else { "working" };
            return (state(status, json!({"pollIntervalMs": POLL_MS})), None);
        }
        match task.end {
            TaskEnd::Forgotten | TaskEnd::Never => (unknown, Some(Told::Forgotten(task.entry))),
            TaskEnd::Fails => {
                let error = json!({"code": error_code::INTERNAL_ERROR, "message": "it failed somewhere"});
                (state("failed", json!({"error": error})), Some(Told::Ended(task.entry)))
            }
            TaskEnd::Answers { is_error } => {
                let content = json!([{"type": "text", "text": task.text}]);
                let result =
                    json!({"resultType": result_type::COMPLETE, "content": content, "isError": is_error});
                (state("completed", json!({"result": result})), Some(Told::Ended(task.entry)))
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Task> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Task>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::ledger::Ledger;
    use super::*;

    fn start(tasks: &Tasks, end: TaskEnd) -> Entry {
        let (entry, _) = Ledger::new().enter(&["c".to_owned()], "tasking", "w");
        tasks.start(&NewTask { call: "c", worker: "w", text: "c ran ", entry, end, ms: 1 }, 0);
        entry
    }

    fn status(tasks: &Tasks, n: usize, now_us: u64) -> (Value, Option<Told>) {
        match tasks.answer(method::TASKS_GET, &format!("task-{n}"), "w2", now_us) {
            (TaskAnswer::Result(result), told) => (result["status"].clone(), told),
            (TaskAnswer::Error(code, _), told) => (json!(code), told),
        }
    }

    #[tokio::test]
    async fn a_task_works_until_its_time_and_ends_in_its_own_way() {
        let tasks = Tasks::default();
        let ends = [TaskEnd::Answers { is_error: false }, TaskEnd::Fails, TaskEnd::Forgotten, TaskEnd::Never];
        let entries = ends.map(|end| start(&tasks, end));
        assert!((0..4).all(|n| status(&tasks, n, 999) == (json!("working"), None)));
        assert_eq!(status(&tasks, 0, 1_000), (json!("completed"), Some(Told::Ended(entries[0]))));
        assert_eq!(status(&tasks, 1, 1_000), (json!("failed"), Some(Told::Ended(entries[1]))));
        assert_eq!(status(&tasks, 2, 1_000), (json!(-32602), Some(Told::Forgotten(entries[2]))));
        assert_eq!(status(&tasks, 3, 1_000), (json!("working"), None));
        tasks.answer(method::TASKS_CANCEL, "task-3", "w", 2_000);
        let all = tasks.all();
        assert!(all[3].cancelled && !all[0].cancelled);
        assert_eq!((all[3].id.as_str(), all[3].handed_us), ("task-3", None));
        tasks.handed(entries[3], 7);
        assert!(tasks.all().iter().any(|task| task.handed_us == Some(7)));
        assert_eq!(all[0].polled_by, ["w2"]);
        assert_eq!(status(&tasks, 9, 0), (json!(-32602), None));
    }
}
