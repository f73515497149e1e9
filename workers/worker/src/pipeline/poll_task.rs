//! Polls the task that a call has become. The call itself is not sent here, and a poll that fails costs the call no attempt.

use tokio::time::Instant;
use toolfleet_core::answer::TaskStatus;
use toolfleet_core::failure::{Failure, RetryClass};
use toolfleet_core::outcome::{CallError, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_executors::{Attempt, Executor as _};

use super::inbound::InboundCall;
use super::prepare::ReadyCall;
use super::progress_buffer::ProgressBuffer;
use super::redaction;
use super::task::{Task, poll_after_ms};
use crate::backoff;
use crate::context::WorkerContext;

/// What a poll brought.
#[derive(Debug)]
pub(super) enum TaskPoll {
    /// The task has ended, and the call with it.
    Ended(Outcome),
    /// The server works on it; poll it again after this many milliseconds.
    Working { after_ms: u64 },
    /// The poll failed; try again after this many milliseconds. `may_have_run` says whether answers may have been accepted.
    Failed { after_ms: u64, may_have_run: MayHaveRun },
    /// The server works on it, but no poll will ever be answered.
    Unanswerable(Outcome),
    /// The server does not know it.
    Unknown { message: String },
}

/// Gives the task the answers that are still to be given, or polls it.
pub(super) async fn poll_task(
    context: &WorkerContext,
    inbound: &InboundCall,
    ready: &ReadyCall,
    progress_buffer: &ProgressBuffer,
    task: &Task,
    deadline: Instant,
) -> TaskPoll {
    let (call, request) = (&ready.call, &ready.call.request);
    let permit = match context.gate.enter(call.subject(), context.now()) {
        Ok(permit) => permit,
        Err(refusal) => {
            let after_ms = poll_after_ms(Some(refusal.retry_after_ms));
            return TaskPoll::Failed { after_ms, may_have_run: MayHaveRun::No };
        }
    };
    let trace = inbound.trace_context();
    let (traceparent, tracestate) = (trace.traceparent.as_deref(), trace.tracestate.as_deref());
    let attempt = Attempt { deadline, traceparent, tracestate, on_progress: None, admit: None };
    let polled = context.executors.poll(&ready.target, &call.invocation(), task.polled(), attempt).await;
    let cut_short = polled.is_err() && Instant::now() >= deadline;
    let pause_ms = permit.record(&polled, cut_short, context.now());
    match polled {
        Ok(TaskStatus::Working { poll_after_ms: asked_ms, message }) => {
            progress_buffer.add_task_message(message, context.now());
            TaskPoll::Working { after_ms: poll_after_ms(asked_ms) }
        }
        Ok(TaskStatus::Ended(outcome)) => TaskPoll::Ended(outcome),
        Ok(TaskStatus::Unknown { message }) => TaskPoll::Unknown { message },
        Err(failure) => {
            let failure = failure.paused_for(pause_ms);
            let logged = redaction::for_the_log(&failure, request);
            tracing::info!(call = %request.key, server = %call.server.id, fault = logged, "a poll of a task failed");
            after_failure(&failure, backoff::after_tries(inbound.tries()))
        }
    }
}

/// What follows a poll that failed. `backoff_ms` is what the back-off policy proposes to wait.
fn after_failure(failure: &Failure, backoff_ms: u64) -> TaskPoll {
    let after_ms = match failure.class {
        RetryClass::Permanent => return TaskPoll::Unanswerable(unanswerable(failure)),
        RetryClass::Pause { after_ms } => after_ms.unwrap_or(backoff_ms),
        RetryClass::NotExecuted | RetryClass::Ambiguous => backoff_ms,
    };
    TaskPoll::Failed { after_ms: poll_after_ms(Some(after_ms)), may_have_run: failure.may_have_run }
}

fn unanswerable(failure: &Failure) -> Outcome {
    let text = format!(
        "The server works on the call as a task and cannot be asked after it: {failure}. Check the tool's effect before you send \
         the call again under a new id."
    );
    Outcome::ended(OutcomeKind::OutcomeUnknown, CallError::new(failure.code, text, MayHaveRun::Unknown))
}

#[cfg(test)]
mod tests {
    use toolfleet_core::call::HeldReason;
    use toolfleet_core::failure::{Blame, Evidence, Reachability};
    use toolfleet_core::outcome::Code;

    use super::*;

    fn failure(class: RetryClass) -> Failure {
        Failure {
            class,
            blame: Blame::Server,
            may_have_run: MayHaveRun::Unknown,
            code: Code::ServerError,
            detail: "the server answered HTTP 500".to_owned(),
            summary: String::new(),
            evidence: Evidence::Nothing,
            reachability: Reachability::Unknown,
            held: HeldReason::BackOff,
            rpc_code: None,
        }
    }

    #[test]
    fn a_poll_that_failed_is_repeated_unless_that_will_never_help() {
        let rows = [
            (RetryClass::NotExecuted, 2_000),
            (RetryClass::Ambiguous, 2_000),
            (RetryClass::Pause { after_ms: None }, 2_000),
            (RetryClass::Pause { after_ms: Some(30_000) }, 30_000),
        ];
        for (class, expected) in rows {
            let TaskPoll::Failed { after_ms, may_have_run } = after_failure(&failure(class), 2_000) else {
                panic!("{class:?} is repeated");
            };
            assert_eq!((after_ms, may_have_run), (expected, MayHaveRun::Unknown), "{class:?}");
        }
        let TaskPoll::Unanswerable(outcome) = after_failure(&failure(RetryClass::Permanent), 2_000) else {
            panic!("a permanent failure ends the call");
        };
        assert_eq!(
            (outcome.kind, outcome.error.unwrap().code),
            (OutcomeKind::OutcomeUnknown, Code::ServerError)
        );
    }
}
