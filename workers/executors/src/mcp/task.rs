//! Requests about the task of a call: the answers that it waits for, and polls.
//!
//! The call itself is not sent here, and each of these requests may be repeated.

use serde_json::value::RawValue;
use toolfleet_core::answer::TaskStatus;
use toolfleet_core::failure::RetryClass;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_mcp::Fault;
use toolfleet_mcp::{Answer, McpClient, TaskQuestion, TaskState};
use tracing::Instrument as _;

use super::outcome::{input_required, outcome_of};
use super::questions::{how_to_answer, questions_in};
use crate::executor::Invocation;
use crate::spans::step;

/// Gives the task the answers that are still to be given, or polls it.
pub(super) async fn poll(
    client: &McpClient,
    call: &Invocation<'_>,
    input_pending: bool,
    question: TaskQuestion<'_>,
) -> Result<TaskStatus, Fault> {
    let mut refused: Option<Fault> = None;
    if let (true, Some(answers)) = (input_pending, call.input_responses()) {
        match client.update_task(question, answers).instrument(step("tasks/update")).await {
            // The server need not have processed them before it answers.
            Ok(()) => {
                return Ok(TaskStatus::Working { poll_after_ms: Some(0), message: String::new() });
            }
            // Unknown task, wrong answers, no access, or accepted with an answer that cannot be read: `tasks/get` tells which.
            Err(fault) if fault.retry_class() == RetryClass::Permanent => refused = Some(fault),
            Err(fault) => return Err(fault),
        }
    }
    let state = client.task(question).instrument(step("tasks/get")).await;
    let unsure = refused.as_ref().is_some_and(|fault| fault.may_have_run() == MayHaveRun::Unknown);
    match state {
        Ok(state) => Ok(status_of(call, state, refused)),
        // Whatever became of this request, the answers may have been accepted.
        Err(fault) if unsure => Err(Fault::AnswerLost { detail: fault.to_string() }),
        Err(fault) => Err(fault),
    }
}

/// Whether the call has already brought all that the task asks for: the task has not processed it yet.
fn has_answers(call: &Invocation<'_>, asks: &RawValue) -> bool {
    let resume = call.request.resume.as_ref().filter(|_| call.answers_a_task());
    let answered = resume.and_then(|resume| resume.answered().ok());
    let asked = questions_in(asks).map(|questions| questions.keys);
    matches!((answered, asked), (Some(answered), Some(asked)) if asked.iter().all(|key| answered.contains(key)))
}

/// `refused` is what the server said to the answers, if it did not accept them.
fn status_of(call: &Invocation<'_>, state: TaskState, refused: Option<Fault>) -> TaskStatus {
    match state {
        TaskState::Working { poll_interval_ms, message } => {
            TaskStatus::Working { poll_after_ms: poll_interval_ms, message }
        }
        TaskState::Completed(Answer { kind, result, .. }) => TaskStatus::Ended(outcome_of(kind, result)),
        TaskState::InputRequired { asks, poll_interval_ms }
            if refused.is_none() && has_answers(call, &asks) =>
        {
            TaskStatus::Working { poll_after_ms: poll_interval_ms, message: String::new() }
        }
        TaskState::InputRequired { asks, .. } => {
            let refused = refused.map(|why| format!("The server did not take the answers ({why}). "));
            let text = format!(
                "{}The server's task asks for input before it goes on; what it asks stands in the result's `inputRequests`. {}",
                refused.unwrap_or_default(),
                how_to_answer(&asks)
            );
            TaskStatus::Ended(input_required(text, asks))
        }
        TaskState::Failed { code, message } => {
            let text = format!(
                "The server's task failed with JSON-RPC error {code}: {message}. Whether the tool had an effect is not known."
            );
            let error = CallError::new(Code::RpcError, text, MayHaveRun::Unknown);
            TaskStatus::Ended(Outcome::failed(error))
        }
        TaskState::Cancelled { message } => {
            let reason = if message.is_empty() { String::new() } else { format!(" ({message})") };
            let text = format!(
                "The server gave the call's task up{reason}. Whether the tool had an effect is not known."
            );
            let error = CallError::new(Code::TaskCancelled, text, MayHaveRun::Unknown);
            TaskStatus::Ended(Outcome::ended(OutcomeKind::Cancelled, error))
        }
        TaskState::Unknown { message } => TaskStatus::Unknown { message },
    }
}
