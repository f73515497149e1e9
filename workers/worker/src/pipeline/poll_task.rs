//! Owns the question after a task: where it stands, and what that means for the call whose work it is.
//!
//! **Invariant:** the call is not sent here; a question and an answer may be repeated, so none of their faults costs the call an
//! attempt.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use toolfleet_core::call::CallRow;
use toolfleet_core::failure::{Failure, RetryClass};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_executors::mcp::failure_of;
use toolfleet_mcp::{Fault, Questions, TaskQuestion, TaskState};
use tracing::Instrument as _;

use super::audit;
use super::execute::{how_to_answer, outcome_of};
use super::inbound::InboundCall;
use super::prepare::ReadyCall;
use super::progress_buffer::ProgressBuffer;
use crate::backoff;
use crate::context::WorkerContext;
use crate::telemetry::trace;

/// How long a server is left alone that does not say how long it wants to be.
const USUAL_POLL_MS: u64 = 5_000;
/// However short a server says, a message's delay has whole seconds.
const SHORTEST_POLL_MS: u64 = 1_000;
/// However long a server says, one delay of a message is no longer, and a cancellation waits for no more than this.
const LONGEST_POLL_MS: u64 = 900_000;

/// The task of a call.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// The server's name for it.
    pub(super) handle: String,
    /// Whether the answers that it waits for, and this call brings, are still to be given.
    pub(super) input_pending: bool,
}

impl Task {
    /// The task that the call's row knows.
    pub(super) fn of(row: &CallRow) -> Option<Self> {
        Some(Self { handle: row.task.clone()?, input_pending: row.input_pending })
    }

    /// The same once it has what it asked for.
    pub(super) fn answered(&self) -> Self {
        Self { input_pending: false, ..self.clone() }
    }
}

/// What a question brought.
pub(super) enum TaskPoll {
    /// The task is over, and with it the call.
    Over(Outcome),
    /// It goes on; ask again after this.
    Open { after_ms: u64 },
    /// Nothing was learned, nor is an answer known to have been taken, though it may have been; try again after this.
    Troubled { after_ms: u64, may_have_run: MayHaveRun },
    /// It goes on, but nothing will ever be learned of it.
    Unanswerable(Outcome),
    /// The server does not know it.
    Gone { message: String },
}

/// How long a server that named `wish` is left alone.
pub(super) fn poll_after_ms(wish: Option<u64>) -> u64 {
    wish.unwrap_or(USUAL_POLL_MS).clamp(SHORTEST_POLL_MS, LONGEST_POLL_MS)
}

/// Gives the task the answers that are still to be given, or asks where it stands.
pub(super) async fn poll_task(
    context: &WorkerContext,
    inbound: &InboundCall,
    ready: &ReadyCall,
    progress_buffer: &ProgressBuffer,
    task: &Task,
    deadline: Instant,
) -> TaskPoll {
    let server = &ready.call.server.id;
    let permit = match context.breakers.ask(server, &ready.call.request.key.tenant, context.now()) {
        Ok(permit) => permit,
        Err(refusal) => {
            let after_ms = poll_after_ms(Some(refusal.retry_after_ms));
            return TaskPoll::Troubled { after_ms, may_have_run: MayHaveRun::No };
        }
    };
    let within = Instant::now() + Duration::from_millis(ready.call.attempt_ms);
    let onward = inbound.trace_context();
    let question = TaskQuestion {
        endpoint: &ready.endpoint,
        conversation: ready.call.request.session.as_ref().map(|s| s.as_str()),
        task: &task.handle,
        traceparent: onward.traceparent.as_deref(),
        tracestate: onward.tracestate.as_deref(),
        deadline: within.min(deadline),
    };
    let told =
        told(context, ready, progress_buffer, task, question).await.map_err(|fault| failure_of(&fault));
    context.reachable.learn(server, &told, context.now());
    // A question that the caller's own deadline cut short says nothing of the server.
    let cut_short = told.is_err() && Instant::now() >= deadline;
    let pause_ms = if cut_short { None } else { permit.record(&told, context.now()) };
    let failure = match told {
        Ok(asked) => return asked,
        Err(failure) => failure.paused_for(pause_ms),
    };
    let told = audit::for_the_log(&failure, &ready.call.request);
    tracing::info!(call = %ready.call.request.key, server = %server, fault = told, "a question after a task failed");
    let wait = backoff::after_tries(inbound.tries());
    let after_ms = match failure.class {
        RetryClass::Permanent => return TaskPoll::Unanswerable(unanswerable(&failure)),
        RetryClass::Pause { after_ms } => after_ms.unwrap_or(wait),
        RetryClass::NotExecuted | RetryClass::Ambiguous => wait,
    };
    TaskPoll::Troubled { after_ms: poll_after_ms(Some(after_ms)), may_have_run: failure.may_have_run }
}

async fn told(
    context: &WorkerContext,
    ready: &ReadyCall,
    progress_buffer: &ProgressBuffer,
    task: &Task,
    question: TaskQuestion<'_>,
) -> Result<TaskPoll, Fault> {
    let mut refused: Option<Fault> = None;
    if let (true, Some(answers)) = (task.input_pending, answers(ready)) {
        match context.mcp.update_task(question, answers).instrument(trace::step("tasks/update")).await {
            // The server need not have taken them in before it answers.
            Ok(()) => return Ok(TaskPoll::Open { after_ms: SHORTEST_POLL_MS }),
            // No such task, not these answers, not to us, or taken and badly told: the task itself tells which.
            Err(fault) if fault.retry_class() == RetryClass::Permanent => refused = Some(fault),
            Err(fault) => return Err(fault),
        }
    }
    let state = context.mcp.task(question).instrument(trace::step("tasks/get")).await;
    let unsure = refused.as_ref().is_some_and(|fault| fault.may_have_run() == MayHaveRun::Unknown);
    match state {
        Ok(state) => Ok(meaning(context, ready, progress_buffer, state, refused)),
        // Whatever became of the question, the answers may have been taken.
        Err(fault) if unsure => Err(Fault::AnswerLost { detail: fault.to_string() }),
        Err(fault) => Err(fault),
    }
}

/// What the call brings for the task.
fn answers(ready: &ReadyCall) -> Option<&RawValue> {
    ready.call.request.resume.as_ref()?.input_responses.as_deref()
}

/// Whether a task that was given its answers asks for nothing else: it has not taken them in yet.
fn has_them(ready: &ReadyCall, asks: &RawValue) -> bool {
    let answers_a_task = ready.call.answers_a_task();
    let answered = ready.call.request.resume.as_ref().filter(|_| answers_a_task);
    let answered = answered.and_then(|resume| resume.answered().ok());
    let asked = Questions::of(asks).map(|questions| questions.keys);
    matches!((answered, asked), (Some(answered), Some(asked)) if asked.iter().all(|key| answered.contains(key)))
}

/// `refused` is what the server said to the answers, if it did not take them.
fn meaning(
    context: &WorkerContext,
    ready: &ReadyCall,
    progress_buffer: &ProgressBuffer,
    state: TaskState,
    refused: Option<Fault>,
) -> TaskPoll {
    match state {
        TaskState::Working { poll_interval_ms, message } => {
            progress_buffer.hear_of_task(message, context.now());
            TaskPoll::Open { after_ms: poll_after_ms(poll_interval_ms) }
        }
        TaskState::Completed(answer) => TaskPoll::Over(outcome_of(answer)),
        TaskState::InputRequired { asks, poll_interval_ms }
            if refused.is_none() && has_them(ready, &asks) =>
        {
            TaskPoll::Open { after_ms: poll_after_ms(poll_interval_ms) }
        }
        TaskState::InputRequired { asks, .. } => {
            let refused = refused.map(|why| format!("The server did not take the answers ({why}). "));
            let text = format!(
                "{}The server's task asks for input before it goes on; what it asks stands in the result's `inputRequests`. {}",
                refused.unwrap_or_default(),
                how_to_answer(&asks)
            );
            let why = CallError::new(Code::InputRequired, text, MayHaveRun::Unknown);
            TaskPoll::Over(Outcome::answered(OutcomeKind::InputRequired, why, asks))
        }
        TaskState::Failed { code, message } => {
            let text = format!(
                "The server's task failed with JSON-RPC error {code}: {message}. Whether the tool had an effect is not known."
            );
            TaskPoll::Over(Outcome::failed(CallError::new(Code::RpcError, text, MayHaveRun::Unknown)))
        }
        TaskState::Cancelled { message } => {
            let reason = if message.is_empty() { String::new() } else { format!(" ({message})") };
            let text = format!(
                "The server gave the call's task up{reason}. Whether the tool had an effect is not known."
            );
            let why = CallError::new(Code::TaskCancelled, text, MayHaveRun::Unknown);
            TaskPoll::Over(Outcome::ended(OutcomeKind::Cancelled, why))
        }
        TaskState::Unknown { message } => TaskPoll::Gone { message },
    }
}

fn unanswerable(failure: &Failure) -> Outcome {
    let text = format!(
        "The server works on the call as a task and cannot be asked after it: {failure}. Check the tool's effect before you send \
         the call again under a new id."
    );
    Outcome::ended(OutcomeKind::OutcomeUnknown, CallError::new(failure.code, text, MayHaveRun::Unknown))
}

/// The end of a call that is not safe to repeat, or may not be sent once more, when its task is gone.
pub(super) fn task_lost(message: &str) -> Outcome {
    let text = format!(
        "The server no longer knows the task it made of the call ({message}); it may have been restarted. Check the tool's \
         effect before you send the call again under a new id."
    );
    Outcome::ended(OutcomeKind::OutcomeUnknown, CallError::new(Code::TaskLost, text, MayHaveRun::Unknown))
}
