//! Owns the fifth step: attempts, each within its time, until an outcome or a reason to wait.
//!
//! **Invariant:** ends by the deadline whatever the server does; sends nothing once the lease is unsure.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use toolfleet_core::failure::Failure;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::request::OperationParams;
use toolfleet_core::retry::{AttemptState, Next, QUICK_TRIES, after};
use toolfleet_core::time::Timestamp;
use toolfleet_executors::mcp::failure_of;
use toolfleet_mcp::{Answer, AnswerKind, Questions, TaskHandle, ToolCall};
use tracing::Instrument as _;

use super::audit;
use super::claim::ClaimedCall;
use super::disposition::RequeueReason;
use super::heartbeat::{self, Stopped};
use super::hold::{Wait, waits_until, within};
use super::inbound::InboundCall;
use super::large_result::{self, Kept};
use super::pages::{self, Place};
use super::poll_task::{self, Task, TaskPoll};
use super::prepare::{ReadyCall, with_what_was_left_out};
use super::progress_buffer::ProgressBuffer;
use crate::backoff;
use crate::context::WorkerContext;
use crate::telemetry::trace::{self, Onward};

/// A try to reach a server that takes longer is not repeated in the worker's slot.
const SLOW_TRY: Duration = Duration::from_secs(2);

/// For callers of a call that ended as `input_required`.
pub(super) fn how_to_answer(asks: &RawValue) -> &'static str {
    match Questions::of(asks) {
        Some(_) => {
            "Answer each of its keys in a new call that asks the same: `resume`: {\"call_id\": this call's id, \
             \"input_responses\": {key: answer}}."
        }
        None => "It cannot be read, so no later call can answer it.",
    }
}

pub(super) enum Executed {
    Finished(Outcome),
    Requeue {
        after_ms: u64,
        reason: RequeueReason,
    },
    /// It waits for something that its caller may want to know.
    Held(Wait),
    /// The server works on it as a task, which is to be asked after then.
    Parked {
        task: Task,
        after_ms: u64,
        poll_failed: bool,
    },
}

/// What the attempts leave behind even if they are stopped in the middle.
struct ExecutionState {
    attempts: AtomicU32,
    may_have_executed: AtomicBool,
    sending: AtomicBool,
    lease_lost: AtomicBool,
    /// The task that the claim found is over or gone.
    task_over: AtomicBool,
    /// The answer is there; it is being made fit for its row.
    answered: AtomicBool,
    /// The caller withdrew the call, or its lease is over, while its answer was being stored: nobody waits for a bucket then.
    hurried: AtomicBool,
    /// When the call was claimed first.
    started_at: Timestamp,
}

impl ExecutionState {
    fn may_have_run(&self) -> bool {
        self.may_have_executed.load(Ordering::Acquire) || self.sending.load(Ordering::Acquire)
    }

    fn has_answer(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }
}

pub(super) async fn execute(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: &mut ClaimedCall,
) -> Executed {
    let state = ExecutionState {
        attempts: AtomicU32::new(call.attempts),
        may_have_executed: AtomicBool::new(call.may_have_executed),
        sending: AtomicBool::new(false),
        lease_lost: AtomicBool::new(false),
        task_over: AtomicBool::new(false),
        answered: AtomicBool::new(false),
        hurried: AtomicBool::new(false),
        started_at: call.row.started_at.unwrap_or_else(|| context.now()),
    };
    if call.since.elapsed() >= context.limits.lease {
        if let Some(task) = call.task.clone() {
            return Executed::Parked { task, after_ms: 0, poll_failed: true };
        }
        // The claim's own answer took so long that another worker may hold the call by now.
        return Executed::Requeue { after_ms: 0, reason: RequeueReason::ClaimTooSlow };
    }
    let executed = race(context, inbound, call, &state).await;
    call.attempts = state.attempts.load(Ordering::Acquire);
    call.may_have_executed = state.may_have_run();
    if state.task_over.load(Ordering::Acquire) {
        call.task = None;
    }
    executed
}

/// The attempts against everything that may end them: the heartbeat, the deadline, the worker's own end.
async fn race(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: &mut ClaimedCall,
    state: &ExecutionState,
) -> Executed {
    let ClaimedCall { ready, claim, row, since, task, progress_buffer, .. } = call;
    let task = task.as_ref();
    let deadline = Instant::now() + Duration::from_millis(ready.call.deadline.ms_since(context.now()));
    let attempts = async {
        match work(context, inbound, ready, task, progress_buffer, state, deadline).await {
            // A large result takes a while to be compressed: the claim is held meanwhile, and nothing takes the answer away.
            Executed::Finished(outcome) if outcome.content().is_some() => {
                state.answered.store(true, Ordering::Release);
                let outcome = pages::fitting(&ready.call, outcome, context.payloads.bucket().is_some()).await;
                let hurried =
                    || state.hurried.load(Ordering::Acquire) || state.lease_lost.load(Ordering::Acquire);
                match large_result::store(context, &ready.call.request.key.tenant, outcome, hurried).await {
                    Kept::Fit(outcome) => Executed::Finished(outcome),
                    Kept::Lost(_) if ready.call.repeatable && context.shutdown.is_draining() => {
                        Executed::Requeue { after_ms: 0, reason: RequeueReason::ResultNotStored }
                    }
                    Kept::Lost(outcome) => Executed::Finished(outcome),
                }
            }
            executed @ (Executed::Finished(_)
            | Executed::Requeue { .. }
            | Executed::Held(_)
            | Executed::Parked { .. }) => executed,
        }
    };
    let mut attempts = Box::pin(attempts);
    let mut heart = Box::pin(heartbeat::keep(context, inbound, claim, row, *since, progress_buffer));
    let mut beating = true;
    loop {
        tokio::select! {
            biased;
            executed = &mut attempts => return executed,
            stopped = &mut heart, if beating => match stopped {
                Stopped::Cancelled if state.has_answer() => {
                    state.hurried.store(true, Ordering::Release);
                    beating = false;
                }
                Stopped::Cancelled => return Executed::Finished(cancelled(state)),
                Stopped::LeaseLost => {
                    // What is under way may still answer; the fence decides whether the answer counts.
                    state.lease_lost.store(true, Ordering::Release);
                    beating = false;
                }
            },
            () = tokio::time::sleep_until(deadline), if !state.has_answer() => {
                if !state.has_answer() {
                    return Executed::Finished(out_of_time(state));
                }
            }
            () = context.shutdown.over(), if !state.has_answer() => {
                if !state.has_answer() {
                    return stopped_with_worker(ready, task, state);
                }
            }
        }
    }
}

/// The question after a call's task; attempts where there is none, or none any more and the call is safe to repeat.
async fn work(
    context: &WorkerContext,
    inbound: &InboundCall,
    ready: &ReadyCall,
    task: Option<&Task>,
    progress_buffer: &ProgressBuffer,
    state: &ExecutionState,
    deadline: Instant,
) -> Executed {
    if let Some(task) = task {
        // An answer that is under way may have been taken.
        state.sending.store(task.input_pending, Ordering::Release);
        let asked = poll_task::poll_task(context, inbound, ready, progress_buffer, task, deadline).await;
        state.sending.store(false, Ordering::Release);
        state.task_over.store(matches!(asked, TaskPoll::Over(_) | TaskPoll::Gone { .. }), Ordering::Release);
        match asked {
            TaskPoll::Open { after_ms } => {
                state.may_have_executed.store(true, Ordering::Release);
                return Executed::Parked { task: task.answered(), after_ms, poll_failed: false };
            }
            TaskPoll::Troubled { after_ms, may_have_run } => {
                if may_have_run == MayHaveRun::Unknown {
                    state.may_have_executed.store(true, Ordering::Release);
                }
                return Executed::Parked { task: task.clone(), after_ms, poll_failed: true };
            }
            TaskPoll::Over(outcome) | TaskPoll::Unanswerable(outcome) => return Executed::Finished(outcome),
            TaskPoll::Gone { message } => {
                let made = state.attempts.load(Ordering::Acquire);
                if ready.call.answers_a_task() || !ready.call.repeatable || made >= ready.call.max_attempts {
                    return Executed::Finished(poll_task::task_lost(&message));
                }
            }
        }
    }
    attempts(context, inbound, ready, progress_buffer, state, deadline).await
}

async fn attempts(
    context: &WorkerContext,
    inbound: &InboundCall,
    ready: &ReadyCall,
    progress_buffer: &ProgressBuffer,
    state: &ExecutionState,
    deadline: Instant,
) -> Executed {
    let call = &ready.call;
    if let OperationParams::List { cursor } = &call.ask
        && let Err(outcome) = Place::of(call, cursor.as_deref())
    {
        return Executed::Finished(outcome);
    }
    if state.attempts.load(Ordering::Acquire) >= call.max_attempts {
        return Executed::Finished(worn_out(call.max_attempts, state));
    }
    let mut tries = 0;
    loop {
        if state.lease_lost.load(Ordering::Acquire) {
            return Executed::Requeue { after_ms: 0, reason: RequeueReason::LeaseLost };
        }
        let (server, tenant) = (&call.server.id, &call.request.key.tenant);
        let permit = match context.breakers.ask(server, tenant, context.now()) {
            Ok(permit) => permit,
            Err(refusal) => {
                let wait = Wait::refused(context, server, refusal);
                let ran = if state.may_have_run() { MayHaveRun::Unknown } else { MayHaveRun::No };
                return match within(context, server, wait, state.started_at, call.deadline, ran) {
                    Ok(wait) => Executed::Held(wait),
                    Err(outcome) => Executed::Finished(outcome),
                };
            }
        };
        let made = state.attempts.fetch_add(1, Ordering::AcqRel) + 1;
        state.sending.store(true, Ordering::Release);
        let operation = call.request.operation;
        let span = trace::attempt(operation, &call.name, &ready.endpoint.url, made);
        let begun = Instant::now();
        let onward = trace::onward(&span).or(inbound.trace_context());
        let answer =
            attempt(context, ready, progress_buffer, &onward, deadline).instrument(span.clone()).await;
        let error = trace::ended(&span, &answer);
        context.meters.attempted(operation, &call.server.id, begun.elapsed(), error);
        drop(span);
        state.sending.store(false, Ordering::Release);
        context.reachable.learn(&call.server.id, &answer, context.now());
        // An attempt that the caller's own deadline cut short says nothing of the server.
        let cut_short = answer.is_err() && Instant::now() >= deadline;
        let pause_ms = if cut_short { None } else { permit.record(&answer, context.now()) };
        let failure = match answer {
            Ok(answer) => {
                if let AnswerKind::Task(TaskHandle { id, poll_interval_ms }) = answer.kind {
                    let after_ms = poll_task::poll_after_ms(poll_interval_ms);
                    state.may_have_executed.store(true, Ordering::Release);
                    let task = Task { handle: id, input_pending: false };
                    return Executed::Parked { task, after_ms, poll_failed: false };
                }
                return Executed::Finished(outcome_of(answer));
            }
            Err(failure) => failure.paused_for(pause_ms),
        };
        let told = audit::for_the_log(&failure, &call.request);
        tracing::info!(call = %call.request.key, attempt = made, server = %call.server.id, fault = told, "an attempt failed");
        if failure.may_have_run == MayHaveRun::Unknown {
            state.may_have_executed.store(true, Ordering::Release);
        }
        tries = if begun.elapsed() < SLOW_TRY { tries + 1 } else { QUICK_TRIES + 1 };
        let standing = AttemptState {
            attempts: made,
            max_attempts: call.max_attempts,
            repeatable: call.repeatable,
            may_have_executed: state.may_have_executed.load(Ordering::Acquire),
            // The two clocks may differ by a millisecond; at the deadline the one that ended the attempt is right.
            now: if Instant::now() >= deadline { call.deadline } else { context.now() },
            deadline: call.deadline,
            backoff_ms: backoff::after_tries(made),
            tries,
            unreachable_backoff_ms: backoff::unreachable(inbound.tries(), tries),
            wait_until: waits_until(context, server, failure.held, state.started_at, call.deadline),
        };
        match after(&failure, standing) {
            Next::End(outcome) => {
                let outcome = with_what_was_left_out(inbound.catalog(), &call.server, outcome);
                return Executed::Finished(outcome);
            }
            Next::Requeue { after_ms, counted } => {
                if !counted {
                    state.attempts.fetch_sub(1, Ordering::AcqRel);
                }
                return Executed::Held(Wait::after_failure(context, &call.server.id, &failure, after_ms));
            }
            Next::Again { after_ms, counted } => {
                if !counted {
                    state.attempts.fetch_sub(1, Ordering::AcqRel);
                }
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
            }
        }
    }
}

async fn attempt(
    context: &WorkerContext,
    ready: &ReadyCall,
    progress_buffer: &ProgressBuffer,
    onward: &Onward,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let call = &ready.call;
    let patience = Duration::from_millis(call.attempt_ms);
    let within = Instant::now() + patience;
    let arguments = match &call.ask {
        OperationParams::Prompt { arguments, .. } => arguments,
        OperationParams::Tool | OperationParams::Resource { .. } | OperationParams::List { .. } => {
            &call.request.arguments
        }
    };
    let mut request = ToolCall {
        operation: call.request.operation,
        resume: call.resumed.as_ref().map(|earlier| earlier.again(&call.request)).unwrap_or_default(),
        conversation: call.request.session.as_ref().map(|s| s.as_str()),
        traceparent: onward.traceparent.as_deref(),
        tracestate: onward.tracestate.as_deref(),
        repeatable: call.repeatable,
        ..ToolCall::new(&ready.endpoint, &call.name, arguments, within.min(deadline))
    };
    let hear = |note| progress_buffer.hear(note, context.now());
    if call.progress {
        // The attempt's time counts from the last progress then.
        request = ToolCall { on_note: Some(&hear), patience: Some(patience), deadline, ..request };
    }
    match &call.ask {
        OperationParams::List { cursor } => {
            let place = Place::of(call, cursor.as_deref()).unwrap_or_default();
            context.mcp.list(request, place.theirs()).await.map_err(|fault| failure_of(&fault))
        }
        OperationParams::Tool | OperationParams::Resource { .. } | OperationParams::Prompt { .. } => {
            context.mcp.call_tool(request).await.map_err(|fault| failure_of(&fault))
        }
    }
}

/// What an answer that ends the call means. The answer of a task that is a task again is none that we know.
pub(super) fn outcome_of(answer: Answer) -> Outcome {
    match answer.kind {
        AnswerKind::Complete => Outcome::succeeded(answer.result),
        AnswerKind::ToolError { text } => {
            let sentence =
                if text.is_empty() { "The tool reported an error without a text.".to_owned() } else { text };
            Outcome::tool_error(answer.result, sentence)
        }
        AnswerKind::InputRequired => {
            let text = format!(
                "The server asks for input before it goes on; what it asks stands in the result's `inputRequests`. {}",
                how_to_answer(&answer.result)
            );
            let why = CallError::new(Code::InputRequired, text, MayHaveRun::Unknown);
            Outcome::answered(OutcomeKind::InputRequired, why, answer.result)
        }
        AnswerKind::Task(_) => {
            let text = "The server answered with the handle of a task where the tool's answer has to stand; the result is stored as it came.";
            let why = CallError::new(Code::UnknownResultType, text, MayHaveRun::Unknown);
            Outcome::answered(OutcomeKind::Failed, why, answer.result)
        }
        AnswerKind::Unknown(kind) => {
            let text = format!(
                "The server's result has the type `{kind}`, which this fleet does not know; the result is stored as it came."
            );
            let why = CallError::new(Code::UnknownResultType, text, MayHaveRun::Yes);
            Outcome::answered(OutcomeKind::Failed, why, answer.result)
        }
    }
}

fn cancelled(state: &ExecutionState) -> Outcome {
    let (ran, text) = if state.may_have_run() {
        (
            MayHaveRun::Unknown,
            "The caller cancelled this call while it ran; whether the tool had an effect is not known.",
        )
    } else {
        (MayHaveRun::No, "The caller cancelled this call before the tool was executed.")
    };
    Outcome::ended(OutcomeKind::Cancelled, CallError::new(Code::CancelledByCaller, text, ran))
}

fn out_of_time(state: &ExecutionState) -> Outcome {
    if state.may_have_run() {
        let text = "The deadline passed while the tool ran. Whether it had an effect is not known; check before you send it again.";
        return Outcome::ended(
            OutcomeKind::TimedOut,
            CallError::new(Code::DeadlineExceeded, text, MayHaveRun::Unknown),
        );
    }
    let text = "The deadline passed before the tool could be executed.";
    let why = CallError::new(Code::DeadlineExceeded, text, MayHaveRun::No).retryable(None);
    Outcome::ended(OutcomeKind::Expired, why)
}

/// The worker must leave: what may be repeated goes back, for what may not its doubt is said now and not after a lease.
fn stopped_with_worker(ready: &ReadyCall, task: Option<&Task>, state: &ExecutionState) -> Executed {
    if let Some(task) = task.filter(|_| !state.task_over.load(Ordering::Acquire)) {
        if state.sending.load(Ordering::Acquire) {
            state.may_have_executed.store(true, Ordering::Release);
        }
        return Executed::Parked { task: task.clone(), after_ms: 0, poll_failed: false };
    }
    if ready.call.repeatable || !state.may_have_run() {
        if state.sending.load(Ordering::Acquire) {
            state.may_have_executed.store(true, Ordering::Release);
        }
        return Executed::Requeue { after_ms: 0, reason: RequeueReason::Draining };
    }
    let text = "The worker had to stop while the tool ran, and the tool is not safe to repeat. Check its effect before you send the call again under a new id.";
    Executed::Finished(Outcome::ended(
        OutcomeKind::OutcomeUnknown,
        CallError::new(Code::WorkerLost, text, MayHaveRun::Unknown),
    ))
}

fn worn_out(max_attempts: u32, state: &ExecutionState) -> Outcome {
    let ran = if state.may_have_run() { MayHaveRun::Unknown } else { MayHaveRun::No };
    let text = format!("All {max_attempts} attempts are used up; workers were lost while they ran the call.");
    Outcome::failed(CallError::new(Code::WorkerLost, text, ran).retryable(None))
}
