//! Tasks (extension `io.modelcontextprotocol/tasks` of 2026-07-28): a call that goes on beyond the bound. The state of a task is the row of
//! its call; the task's id is a handle of that call, so no gateway stores a task.
//!
//! A task that asked for input goes on as another call, whose id derives from the one that asked. `tasks/get` follows these calls.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use toolfleet_client::{Cancelled, WaitError};
use toolfleet_core::call::{CallRow, State};
use toolfleet_core::ids::CallKey;
use toolfleet_core::outcome::{Code, Outcome, OutcomeKind};
use toolfleet_core::request::derive_call_id;
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;
use toolfleet_mcp_protocol::{error_code, meta_key, result_type};

use crate::answer::{NEVER_RECEIVED, ended_row, fleet_failed, result_of, unknown_result, unreadable_result};
use crate::call_request::CallName;
use crate::gateway::Gateway;
use crate::handle::{Handle, Purpose};
use crate::input::Earlier;
use crate::message::{Answer, Members, Request, RpcError, finish_result, raw};
use crate::uris::PublishedUris;
use crate::wait::is_received;

/// How often a client may ask, in milliseconds.
pub(crate) const POLL_INTERVAL_MS: u64 = 1_000;
/// How often a task may ask for input.
pub(crate) const MAX_ROUNDS: usize = 50;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Params {
    task_id: String,
    #[serde(default)]
    input_responses: Option<Box<RawValue>>,
}

/// A task: its handle, and the row of the call by which it goes on at the moment, without a result that is stored in the bucket.
pub(crate) struct Task {
    pub(crate) id: String,
    pub(crate) handle: Handle,
    pub(crate) key: CallKey,
    pub(crate) row: Option<CallRow>,
}

impl Gateway {
    /// The result that makes a task of a call. The call was accepted by the queue before, so `tasks/get` knows it.
    pub(crate) fn new_task(&self, request: &Request, handle: &Handle) -> Answer {
        let id = self.sealer.seal(Purpose::Task, &request.caller, handle);
        let id = id.ok_or_else(|| RpcError::internal("the id of the task cannot be encrypted"))?;
        let members = members_of(&id, "working", handle.given_at(), self.now(), "The call goes on.");
        Ok(finish_result(members, result_type::TASK, request, &[]))
    }

    /// Answers `tasks/get`.
    pub(crate) async fn get_task(&self, request: &Request) -> Answer {
        let task = self.task_of_extension(request).await?;
        let Task { id, handle, key, row } = task;
        let given = handle.given_at();
        let told = |status: &str, at: Timestamp, text: &str| members_of(&id, status, given, at, text);
        let row = match row {
            Some(row) if row.finished.is_some() => row,
            // What asked for input was cancelled instead of answered.
            Some(row) if !is_received(&row) && key != handle.key(&request.caller) => {
                let members = told("cancelled", row.enqueued_at, "The call was cancelled.");
                return Ok(finish_result(members, result_type::COMPLETE, request, &[]));
            }
            None if handle.is_overdue(self.now()) => {
                let mut members = told("completed", self.now(), "");
                members.insert("result".to_owned(), unknown_result(NEVER_RECEIVED, request));
                return Ok(finish_result(members, result_type::COMPLETE, request, &[]));
            }
            Some(row) => {
                let at = row.notes.as_ref().map_or(row.enqueued_at, |notes| notes.at);
                let members = told("working", at, &state_of(&row));
                return Ok(finish_result(members, result_type::COMPLETE, request, &[]));
            }
            None => {
                let members = told("working", given, "No worker has received the call yet.");
                return Ok(finish_result(members, result_type::COMPLETE, request, &[]));
            }
        };
        let ended_at = row.finished.as_ref().map_or(row.enqueued_at, |end| end.at);
        let row = match self.filled(row).await {
            Ok(row) => row,
            Err(WaitError::Unreadable(error)) => {
                let mut members = told("completed", ended_at, "");
                members.insert("result".to_owned(), unreadable_result(&error, &handle, request));
                return Ok(finish_result(members, result_type::COMPLETE, request, &[]));
            }
            Err(error @ (WaitError::Aws(_) | WaitError::TimeOut { .. })) => {
                return Err(unreadable(&error, &key));
            }
        };
        let Some(result) = ended_row(row) else {
            return Err(RpcError::internal("the call's row has no outcome"));
        };
        let at = result.finished_at;
        let members = match result.outcome.kind {
            OutcomeKind::Cancelled => told("cancelled", at, "The call was cancelled."),
            OutcomeKind::InputRequired => {
                let asking = handle.of_call(key.call_id);
                let earlier = Earlier::of(asking, &result.outcome)?;
                let answered = self.stored_answers(request, &earlier).await?;
                if !answered.is_empty() && answered.len() == earlier.requests().len() {
                    let sent = Box::pin(self.go_on_with_stored(request, earlier.handle(), answered)).await;
                    let (status, text) = sent?;
                    let members = told(status, at, &text);
                    return Ok(finish_result(members, result_type::COMPLETE, request, &[]));
                }
                let asked = earlier.requests().iter().filter(|(key, _)| !answered.contains_key(*key));
                let mut members = told("input_required", at, "The tool asks for input.");
                members.insert("inputRequests".to_owned(), raw(&asked.collect::<BTreeMap<_, _>>()));
                members
            }
            OutcomeKind::Failed if is_rpc_error(&result.outcome) => {
                let message = result.outcome.error.as_ref().map_or("", |error| error.message.as_str());
                let mut members = told("failed", at, "The tool's server answered with an error.");
                members.insert(
                    "error".to_owned(),
                    raw(&json!({"code": error_code::INTERNAL_ERROR, "message": message})),
                );
                members
            }
            OutcomeKind::Succeeded
            | OutcomeKind::ToolError
            | OutcomeKind::Failed
            | OutcomeKind::Refused
            | OutcomeKind::Expired
            | OutcomeKind::TimedOut
            | OutcomeKind::OutcomeUnknown => {
                let mut members = told("completed", at, "");
                let catalog = self.catalog();
                let uris = PublishedUris::of_tool(&catalog, &request.caller, &handle.tool);
                members.insert("result".to_owned(), result_of(&result.outcome, request, &uris));
                members
            }
        };
        Ok(finish_result(members, result_type::COMPLETE, request, &[]))
    }

    /// Answers `tasks/update`: sends the call that goes on with the answers. An answer to what is not asked is passed over.
    pub(crate) async fn update_task(&self, request: &Request) -> Answer {
        let params: Params = request.inbound.params()?;
        let given = params.input_responses.unwrap_or_else(|| raw(&json!({})));
        let task = self.task_of_extension(request).await?;
        let asked = match task.row.filter(asks) {
            None => None,
            Some(row) => match self.filled(row).await {
                Ok(row) => ended_row(row),
                // The task has ended: `tasks/get` says how.
                Err(WaitError::Unreadable(_)) => None,
                Err(error @ (WaitError::Aws(_) | WaitError::TimeOut { .. })) => {
                    return Err(unreadable(&error, &task.key));
                }
            },
        };
        if let Some(result) = asked {
            let handle = task.handle.of_call(task.key.call_id.clone());
            let earlier = Earlier::of(handle.clone(), &result.outcome)?;
            let known = earlier.known(Some(&given))?;
            if known.is_empty() && !earlier.requests().is_empty() {
                return Ok(finish_result(Members::new(), result_type::COMPLETE, request, &[]));
            }
            if known.len() < earlier.requests().len() && self.client.payload_bucket().is_none() {
                let asked: Vec<&str> = earlier.requests().keys().map(String::as_str).collect();
                let text = format!(
                    "`inputResponses` has to answer all of {} at once: the fleet has no bucket",
                    asked.join(", ")
                );
                return Err(RpcError::invalid_params(text));
            }
            if let Some(answers) = self.with_others(request, &earlier, known).await? {
                self.send_answers(request, &handle, raw(&answers), request.can_answer()).await?;
            }
        }
        Ok(finish_result(Members::new(), result_type::COMPLETE, request, &[]))
    }

    /// Answers `tasks/cancel`. A call that has ended stays as it is.
    pub(crate) async fn cancel_task(&self, request: &Request) -> Answer {
        let task = self.task_of_extension(request).await?;
        self.cancel_call_of(request, &task).await?;
        Ok(finish_result(Members::new(), result_type::COMPLETE, request, &[]))
    }

    /// Cancels the call of a task, and says what that has changed; none where the task had ended.
    pub(crate) async fn cancel_call_of(
        &self,
        request: &Request,
        task: &Task,
    ) -> Result<Option<Cancelled>, RpcError> {
        let Some(key) = self.cancelled_by(request, task).await? else { return Ok(None) };
        let cancelled = self.client.cancel(&key).await;
        cancelled.map(Some).map_err(|error| {
            let why = fleet_failed(&error, &key.call_id);
            RpcError::internal(format!("the cancellation is not stored: {why}; send it again"))
        })
    }

    /// The call that a cancellation of the task ends; none where it has ended.
    async fn cancelled_by(&self, request: &Request, task: &Task) -> Result<Option<CallKey>, RpcError> {
        match &task.row {
            // The call by which it would go on with answers: it is cancelled before it is sent.
            Some(row) if asks(row) => Ok(Some(next_of(request, &task.key)?)),
            Some(row) if row.finished.is_some() => Ok(None),
            Some(_) => Ok(Some(task.key.clone())),
            // The id may be that of an earlier call, and this one is about to be refused.
            None => {
                let row = self.client.row_without_result(&task.key).await;
                let row = row.map_err(|error| unreadable(&error, &task.key))?;
                Ok(row.is_none_or(|row| task.handle.is_of(&row)).then(|| task.key.clone()))
            }
        }
    }

    /// The same for a client that has to declare the extension.
    async fn task_of_extension(&self, request: &Request) -> Result<Task, RpcError> {
        if !request.takes_tasks() {
            let extension = json!({"extensions": {meta_key::TASKS_EXTENSION: {}}});
            return Err(RpcError::missing_capability(extension));
        }
        self.task(request).await
    }

    /// The handle of the call by which that one goes on, if it does.
    pub(crate) async fn gone_on(
        &self,
        request: &Request,
        handle: &Handle,
    ) -> Result<Option<Handle>, RpcError> {
        let next = next_of(request, &handle.key(&request.caller))?;
        let row = self.client.row_without_result(&next).await.map_err(|error| unreadable(&error, &next))?;
        Ok(row.map(|_| handle.clone().next(next.call_id, self.now())))
    }

    /// The task that the request names, as far as it has come.
    pub(crate) async fn task(&self, request: &Request) -> Result<Task, RpcError> {
        let id = request.inbound.params::<Params>()?.task_id;
        let handle = self.sealer.open(Purpose::Task, &request.caller, &id);
        let handle = handle.ok_or_else(|| {
            RpcError::invalid_params("Unknown task: it is none of yours, or its key is not in use any more")
        })?;
        let mut key = handle.key(&request.caller);
        let mut row = self.row_of(&handle, request).await.map_err(|error| unreadable(&error, &key))?;
        for _ in 0..MAX_ROUNDS {
            if !row.as_ref().is_some_and(asks) {
                break;
            }
            let next = next_of(request, &key)?;
            match self.client.row_without_result(&next).await.map_err(|error| unreadable(&error, &next))? {
                Some(found) => (key, row) = (next, Some(found)),
                None => break,
            }
        }
        Ok(Task { id, handle, key, row })
    }
}

/// Whether the server answered with a JSON-RPC error, which is the one thing that makes a task fail.
fn is_rpc_error(outcome: &Outcome) -> bool {
    outcome.error.as_ref().is_some_and(|error| error.code == Code::RpcError)
}

/// The id of the call by which a task goes on after that one.
pub(crate) fn next_of(request: &Request, key: &CallKey) -> Result<CallKey, RpcError> {
    let text = CallName::NextOfTask(&key.call_id).idempotency_key(&request.caller).unwrap_or_default();
    let call_id = derive_call_id(&request.caller.tenant, &text);
    let call_id = call_id.map_err(|error| RpcError::internal(error.to_string()))?;
    Ok(CallKey { call_id, ..key.clone() })
}

/// Whether the call has ended with a question.
pub(crate) fn asks(row: &CallRow) -> bool {
    row.finished.as_ref().is_some_and(|end| end.outcome.kind == OutcomeKind::InputRequired)
}

pub(crate) fn unreadable(error: &dyn std::fmt::Display, key: &CallKey) -> RpcError {
    RpcError::internal(format!("the task cannot be read now: {}", fleet_failed(error, &key.call_id)))
}

fn members_of(id: &str, status: &str, given: Timestamp, updated: Timestamp, text: &str) -> Members {
    let mut task = json!({
        "taskId": id,
        "status": status,
        "createdAt": given.to_string(),
        "lastUpdatedAt": updated.max(given).to_string(),
        "ttlMs": RETENTION_MS,
        "pollIntervalMs": POLL_INTERVAL_MS,
    });
    if let Some(task) = task.as_object_mut().filter(|_| !text.is_empty()) {
        task.insert("statusMessage".to_owned(), Value::from(text));
    }
    serde_json::from_value::<serde_json::Map<String, Value>>(task)
        .map(|task| task.iter().map(|(name, value)| (name.clone(), raw(value))).collect())
        .unwrap_or_default()
}

/// Where a call is, in a sentence.
pub(crate) fn state_of(row: &CallRow) -> String {
    let said = row
        .notes
        .as_ref()
        .and_then(|notes| notes.progress.as_ref())
        .and_then(|progress| progress.message.clone());
    match (said, row.state) {
        (Some(said), _) => said,
        (None, State::Claimed) => "The tool runs.".to_owned(),
        (None, State::WaitingTask) => "The tool's server works on it.".to_owned(),
        (None, State::AwaitingApproval) => "The call waits for an approval.".to_owned(),
        (None, State::Pending | State::Released | State::Done) => "The call waits for its turn.".to_owned(),
    }
}
