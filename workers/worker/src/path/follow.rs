//! Owns the question after a task: where it stands, and what that means for the call whose work it is.
//!
//! **Invariant:** the call is not sent here; a question may be repeated, so none of its faults costs the call an attempt.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::breaker::Admission;
use toolfleet_core::fault::{Fault, RetryClass};
use toolfleet_core::outcome::{Code, MayHaveRun, Outcome, OutcomeKind, Trouble as Why};
use toolfleet_mcp::{TaskQuestion, TaskState};
use tracing::Instrument as _;

use super::execute::outcome_of;
use super::overheard::Overheard;
use super::prepare::ReadyCall;
use super::visit::Arrival;
use crate::backoff;
use crate::fleet::Fleet;
use crate::telemetry::trace;

/// How long a server is left alone that does not say how long it wants to be.
const USUAL_POLL_MS: u64 = 5_000;
/// However short a server says, a message's delay has whole seconds.
const SHORTEST_POLL_MS: u64 = 1_000;
/// However long a server says, one delay of a message is no longer, and a cancellation waits for no more than this.
const LONGEST_POLL_MS: u64 = 900_000;

/// What a question brought.
pub(super) enum Asked {
    /// The task is over, and with it the call.
    Over(Outcome),
    /// It goes on; ask again after this. `troubled` if nothing was learned.
    Open { after_ms: u64, troubled: bool },
    /// It goes on, but nothing will ever be learned of it.
    Unanswerable(Outcome),
    /// The server does not know it.
    Gone { message: String },
}

/// How long a server that named `wish` is left alone.
pub(super) fn poll_after_ms(wish: Option<u64>) -> u64 {
    wish.unwrap_or(USUAL_POLL_MS).clamp(SHORTEST_POLL_MS, LONGEST_POLL_MS)
}

pub(super) async fn ask(
    fleet: &Fleet,
    arrival: &Arrival,
    ready: &ReadyCall,
    overheard: &Overheard,
    task: &str,
    deadline: Instant,
) -> Asked {
    let server = &ready.call.server.id;
    if let Admission::Refused { retry_after_ms } = fleet.breakers.ask(server, fleet.now()) {
        return Asked::Open { after_ms: poll_after_ms(Some(retry_after_ms)), troubled: true };
    }
    let within = Instant::now() + Duration::from_millis(ready.call.attempt_ms);
    let onward = arrival.trace_context();
    let question = TaskQuestion {
        endpoint: &ready.endpoint,
        conversation: ready.call.request.session.as_ref().map(|s| s.as_str()),
        task,
        traceparent: onward.traceparent.as_deref(),
        tracestate: onward.tracestate.as_deref(),
        deadline: within.min(deadline),
    };
    let fault = match fleet.mcp.task(question).instrument(trace::step("tasks/get")).await {
        Ok(state) => {
            fleet.breakers.answered(server, fleet.now());
            return meaning(fleet, overheard, state);
        }
        Err(fault) => fault,
    };
    // A question that the caller's own deadline cut short says nothing of the server.
    if Instant::now() < deadline {
        fleet.breakers.failed(server, &fault, fleet.now());
    }
    tracing::info!(call = %ready.call.request.key, server = %server, %fault, "a question after a task failed");
    let wait = backoff::after_tries(arrival.tries());
    let after_ms = match fault.retry_class() {
        RetryClass::Permanent => return Asked::Unanswerable(unanswerable(&fault)),
        RetryClass::Pause { after_ms } => after_ms.unwrap_or(wait),
        RetryClass::NotExecuted | RetryClass::Ambiguous => wait,
    };
    Asked::Open { after_ms: poll_after_ms(Some(after_ms)), troubled: true }
}

fn meaning(fleet: &Fleet, overheard: &Overheard, state: TaskState) -> Asked {
    match state {
        TaskState::Working { poll_interval_ms, message } => {
            overheard.hear_of_task(message, fleet.now());
            Asked::Open { after_ms: poll_after_ms(poll_interval_ms), troubled: false }
        }
        TaskState::Completed(answer) => Asked::Over(outcome_of(answer)),
        TaskState::InputRequired(asks) => {
            let text = "The server's task asks for input before it goes on; what it asks, and the task's id, are in the result.";
            let why = Why::new(Code::InputRequired, text, MayHaveRun::Unknown);
            Asked::Over(Outcome { kind: OutcomeKind::InputRequired, trouble: Some(why), content: Some(asks) })
        }
        TaskState::Failed { code, message } => {
            let text = format!(
                "The server's task failed with JSON-RPC error {code}: {message}. Whether the tool had an effect is not known."
            );
            Asked::Over(Outcome::failed(Why::new(Code::RpcError, text, MayHaveRun::Unknown)))
        }
        TaskState::Cancelled { message } => {
            let reason = if message.is_empty() { String::new() } else { format!(" ({message})") };
            let text = format!(
                "The server gave the call's task up by itself{reason}. Whether the tool had an effect is not known."
            );
            let why = Why::new(Code::TaskCancelled, text, MayHaveRun::Unknown);
            Asked::Over(Outcome::ended(OutcomeKind::Cancelled, why))
        }
        TaskState::Unknown { message } => Asked::Gone { message },
    }
}

fn unanswerable(fault: &Fault) -> Outcome {
    let text = format!(
        "The server works on the call as a task and cannot be asked after it: {fault}. Check the tool's effect before you send \
         the call again under a new id."
    );
    Outcome::ended(OutcomeKind::OutcomeUnknown, Why::new(fault.code(), text, MayHaveRun::Unknown))
}

/// The end of a call that is not safe to repeat, or may not be sent once more, when its task is gone.
pub(super) fn task_lost(message: &str) -> Outcome {
    let text = format!(
        "The server no longer knows the task it made of the call ({message}); it may have been restarted. Check the tool's \
         effect before you send the call again under a new id."
    );
    Outcome::ended(OutcomeKind::OutcomeUnknown, Why::new(Code::TaskLost, text, MayHaveRun::Unknown))
}
