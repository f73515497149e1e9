//! Tasks of 2025-11-25: a client asks for one by `task` in its `tools/call`, polls it, and reads its result by `tasks/result`. State and id are
//! those of [`crate::tasks`]: the row of the call, and a handle of it.
//!
//! A task ends as `completed` also where the result has `isError`: that version says "should be `failed`", but clients read no result of a failed
//! task, and their models would miss what the tool said. What a client is told by the result, it is told here.
//!
//! **Invariant:** a task that was told to be cancelled stays so, whatever its call still does.

use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_client::{Cancelled, WaitError};
use toolfleet_core::outcome::{Outcome, OutcomeKind};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;
use toolfleet_mcp_protocol::{meta_key, result_type};

use crate::answer::{NEVER_RECEIVED, never_run, sentence, unknown_result, unreadable_result};
use crate::gateway::Gateway;
use crate::handle::{Handle, Purpose};
use crate::message::{Answer, Members, Notifications, Request, RpcError, finish_result, raw};
use crate::per_caller::too_many_lasting;
use crate::progress::ProgressReporter;
use crate::questions::Asking;
use crate::tasks::{POLL_INTERVAL_MS, Task, asks, state_of, unreadable};
use crate::wait::{Waited, never_runs};

/// How long `tasks/result` waits on an event stream, which shows that it lives. On another response it waits as long as a call is waited for.
const RESULT_WITHIN: Duration = Duration::from_secs(3_600);

/// Where a task is.
struct Status {
    word: &'static str,
    since: Timestamp,
    text: String,
}

impl Status {
    fn working(since: Timestamp, text: impl Into<String>) -> Self {
        Self { word: "working", since, text: text.into() }
    }

    fn cancelled(since: Timestamp, text: &str) -> Self {
        Self { word: "cancelled", since, text: text.to_owned() }
    }

    fn completed(since: Timestamp, text: impl Into<String>) -> Self {
        Self { word: "completed", since, text: text.into() }
    }

    fn asks(since: Timestamp) -> Self {
        Self {
            word: "input_required",
            since,
            text: "The tool asks for input; `tasks/result` asks for it.".to_owned(),
        }
    }

    fn is_terminal(&self) -> bool {
        !matches!(self.word, "working" | "input_required")
    }

    /// The task as clients read it.
    fn members(&self, id: &str, given: Timestamp) -> Members {
        let mut members: Members = [
            ("taskId", raw(&id)),
            ("status", raw(&self.word)),
            ("createdAt", raw(&given.to_string())),
            ("lastUpdatedAt", raw(&self.since.max(given).to_string())),
            ("ttl", raw(&RETENTION_MS)),
            ("pollInterval", raw(&POLL_INTERVAL_MS)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        if !self.text.is_empty() {
            members.insert("statusMessage".to_owned(), raw(&self.text));
        }
        members
    }
}

impl Gateway {
    /// The answer that makes a task of a call. The call was accepted by the queue before, so `tasks/get` knows it.
    pub(crate) fn requested_task(&self, request: &Request, handle: &Handle) -> Answer {
        let id = self.sealer.seal(Purpose::Task, &request.caller, handle);
        let id = id.ok_or_else(|| RpcError::internal("the id of the task cannot be encrypted"))?;
        let given = handle.given_at();
        let task = Status::working(given, "The call is in the queue.").members(&id, given);
        let members = [("task".to_owned(), raw(&task))].into();
        Ok(finish_result(members, result_type::COMPLETE, request, &[]))
    }

    /// Answers `tasks/get`.
    pub(crate) async fn get_requested_task(&self, request: &Request) -> Answer {
        let task = self.task(request).await?;
        let members = self.status_of(request, &task).members(&task.id, task.handle.given_at());
        Ok(finish_result(members, result_type::COMPLETE, request, &[]))
    }

    /// Answers `tasks/cancel`. The cancellation is stored before it is told.
    pub(crate) async fn cancel_requested_task(&self, request: &Request) -> Answer {
        let task = self.task(request).await?;
        let status = self.status_of(request, &task);
        let ended = |word: &str| {
            RpcError::invalid_params(format!("Cannot cancel task: already in terminal status '{word}'"))
        };
        if status.is_terminal() {
            return Err(ended(status.word));
        }
        match self.cancel_call_of(request, &task).await? {
            Some(Cancelled::Ended | Cancelled::Noted | Cancelled::Ahead) => {}
            Some(Cancelled::TooLate) | None => return Err(ended("completed")),
        }
        let members = Status::cancelled(self.now(), "The call is being cancelled.")
            .members(&task.id, task.handle.given_at());
        Ok(finish_result(members, result_type::COMPLETE, request, &[]))
    }

    /// Answers `tasks/result`: waits for the end of the call, and answers as `tools/call` would have.
    pub(crate) async fn requested_result(&self, request: &Request, notifications: &Notifications) -> Answer {
        let task = self.task(request).await?;
        let Task { id, handle, key, row } = task;
        // The call by which it goes on, if it asked for input before.
        let handle = match key == handle.key(&request.caller) {
            true => handle,
            false => handle.next(key.call_id, self.now()),
        };
        let is_of_task = |result: &RawValue| related(result, &id, request);
        if row.as_ref().is_some_and(never_runs) {
            return Ok(is_of_task(&never_run(request)));
        }
        let has_ended = row.as_ref().is_some_and(|row| row.finished.is_some() && !asks(row));
        // The wait on an event stream lasts.
        let _counted = match notifications.is_some() && !has_ended {
            true => Some(self.lasting.count(&request.caller).ok_or_else(too_many_lasting)?),
            false => None,
        };
        let within = match notifications {
            Some(_) => self.ends_for(&request.caller).map_or(RESULT_WITHIN, |ends| {
                ends.saturating_duration_since(Instant::now()).min(RESULT_WITHIN)
            }),
            None => self.limits.wait,
        };
        let of_progress = handle.clone();
        let mut progress = ProgressReporter::of_task(&id, &of_progress, notifications);
        match self.wait_for(request, &handle, within, &mut progress).await {
            Ok(Waited::Ended(result))
                if result.outcome.kind == OutcomeKind::InputRequired && request.may_be_asked() =>
            {
                let asking = Asking { request, notifications, task: Some(&id) };
                let asked = Box::pin(self.asked(&asking, handle, *result, &mut progress)).await;
                asked.map(|result| is_of_task(&result))
            }
            Ok(Waited::Ended(result)) => {
                self.ended(request, &result, &handle).map(|result| is_of_task(&result))
            }
            Ok(Waited::NeverRuns) => Ok(is_of_task(&never_run(request))),
            Ok(Waited::NotReceived) if handle.is_overdue(self.now()) => {
                Ok(is_of_task(&unknown_result(NEVER_RECEIVED, request)))
            }
            Ok(Waited::Open | Waited::NotReceived) => {
                let text = "The task has not ended, and is not waited for longer. It goes on: send `tasks/result` again.";
                Err(RpcError::internal(text))
            }
            Err(WaitError::Unreadable(error)) => Ok(is_of_task(&unreadable_result(&error, &handle, request))),
            Err(error @ (WaitError::Aws(_) | WaitError::TimeOut { .. })) => {
                Err(unreadable(&error, &handle.key(&request.caller)))
            }
        }
    }

    fn status_of(&self, request: &Request, task: &Task) -> Status {
        let Some(row) = &task.row else {
            return match task.handle.is_overdue(self.now()) {
                true => Status::completed(self.now(), NEVER_RECEIVED),
                false => Status::working(task.handle.given_at(), "No worker has received the call yet."),
            };
        };
        match (&row.finished, row.cancel_requested_at) {
            (Some(end), at) if end.outcome.kind == OutcomeKind::Cancelled => {
                Status::cancelled(at.unwrap_or(end.at), "The call was cancelled.")
            }
            // A task that was told to be cancelled stays so, whatever its call has become.
            (Some(_), Some(at)) => Status::cancelled(at, "The call had ended before it could be cancelled."),
            (None, Some(at)) => Status::cancelled(at, "The call is being cancelled."),
            (Some(end), None) if asks(row) && request.may_be_asked() => Status::asks(end.at),
            (Some(end), None) => Status::completed(end.at, told_of(&end.outcome)),
            (None, None) => {
                let since = row.notes.as_ref().map_or(row.enqueued_at, |notes| notes.at);
                Status::working(since, state_of(row))
            }
        }
    }
}

/// What the status says of a call that has ended; its result says the rest.
fn told_of(outcome: &Outcome) -> String {
    match outcome.kind {
        OutcomeKind::Succeeded => String::new(),
        OutcomeKind::ToolError => "The tool answered with an error.".to_owned(),
        OutcomeKind::InputRequired => {
            "The tool asks for input, for which this client cannot be asked.".to_owned()
        }
        OutcomeKind::Failed
        | OutcomeKind::Refused
        | OutcomeKind::Expired
        | OutcomeKind::TimedOut
        | OutcomeKind::Cancelled
        | OutcomeKind::OutcomeUnknown => sentence(outcome),
    }
}

/// The result, which says of which task it is.
fn related(result: &RawValue, id: &str, request: &Request) -> Box<RawValue> {
    let members: Members = serde_json::from_str(result.get()).unwrap_or_default();
    let task: (&str, Value) = (meta_key::RELATED_TASK, json!({ "taskId": id }));
    finish_result(members, result_type::COMPLETE, request, &[task])
}
