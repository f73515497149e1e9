//! The step `execute`: runs a claimed call until an outcome or a reason to wait.
//!
//! The work (attempts, or polls of the call's task) runs beside the heartbeat, the deadline and the worker's shutdown, each of which can
//! end it. So no server can keep it past the deadline, and it begins no attempt once the lease is lost. Only storing a result that has
//! arrived may take longer.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::OptionFuture;
use tokio::time::Instant;
use toolfleet_aws::calls::Calls;
use toolfleet_core::execution::{repeats_lost_task, task_lost};
use toolfleet_core::outcome::{AnswerSource, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_executors::Executor as _;

use super::attempts::Attempts;
use super::claim::{ClaimedCall, is_late};
use super::disposition::RequeueReason;
use super::execution::{Executed, ExecutionState};
use super::heartbeat::{self, Beating, Stopped};
use super::inbound::InboundCall;
use super::large_result::{self, Kept};
use super::lease::Lease;
use super::passes::Passes;
use super::poll_task::{self, TaskPoll};
use super::prepare::ReadyCall;
use super::reuse;
use super::task::{Task, poll_after_ms};
use super::turn::Limits;
use super::visibility::keep_hidden;
use crate::context::WorkerContext;

pub(super) async fn execute(
    context: &Arc<WorkerContext>,
    inbound: &InboundCall,
    call: &mut ClaimedCall,
    passes: Option<Passes>,
) -> Executed {
    let started_at = call.row.started_at.unwrap_or_else(|| context.now());
    let state = Arc::new(ExecutionState::new(call.attempts, call.may_have_executed, started_at));
    if is_late(context, call.since) {
        if let Some(task) = call.task.clone() {
            return Executed::Parked { task, after_ms: 0, poll_failed: true };
        }
        return Executed::Requeue { after_ms: 0, reason: RequeueReason::ClaimTooSlow };
    }
    let mut executed = race(context, inbound, call, &state, passes).await;
    call.attempts = state.attempts();
    call.may_have_executed = state.may_have_run();
    if state.task_over.load(Ordering::Acquire) {
        call.task = None;
    }
    if let Executed::Finished(outcome) = &mut executed
        && outcome.source == AnswerSource::Server
        && let Some(id) = state.take_batch()
    {
        outcome.source = AnswerSource::Batch(id);
    }
    executed
}

/// The work against everything that may end it: the heartbeat, the deadline, the worker's shutdown.
async fn race(
    context: &Arc<WorkerContext>,
    inbound: &InboundCall,
    call: &mut ClaimedCall,
    state: &Arc<ExecutionState>,
    passes: Option<Passes>,
) -> Executed {
    let ClaimedCall { ready, claim, row, since, task, progress_buffer, .. } = call;
    let (ready, task, progress_buffer) = (&*ready, task.as_ref(), &*progress_buffer);
    let deadline = Instant::now() + Duration::from_millis(ready.call.deadline.ms_since(context.now()));
    let lease = Arc::new(Lease::new(*since, context.limits.lease));
    let passes = Mutex::new(passes);
    let attempts =
        Attempts { context, inbound, ready, progress_buffer, state, lease: &lease, deadline, passes };
    let mut work = Box::pin(work(&attempts, task));
    let beating = Beating { inbound, ready, lease: &lease };
    let mut heartbeat = Box::pin(heartbeat::keep(context, beating, claim, row, progress_buffer));
    let mut beating = true;
    let mut hidden = OptionFuture::from(None);
    loop {
        tokio::select! {
            biased;
            executed = &mut work => return executed,
            stopped = &mut heartbeat, if beating => match stopped {
                Stopped::Cancelled | Stopped::CancelledByOperator(_) | Stopped::GroupDecided(..)
                    if state.has_answer() =>
                {
                    state.hurried.store(true, Ordering::Release);
                    beating = false;
                }
                Stopped::Cancelled => return Executed::Finished(state.cancelled()),
                Stopped::CancelledByOperator(rule) => {
                    return Executed::Finished(state.cancelled_by_operator(&rule));
                }
                Stopped::GroupDecided(group, result) => {
                    return Executed::Finished(state.ended_by_group(&group, result));
                }
                // A request under way may still be answered; the fence decides whether the answer counts.
                Stopped::LeaseLost => {
                    state.lease_lost.store(true, Ordering::Release);
                    beating = false;
                }
                // Nobody is known to have taken the call over, and nobody should by this message.
                Stopped::LeaseOver => {
                    state.lease_lost.store(true, Ordering::Release);
                    beating = false;
                    hidden = Some(Box::pin(keep_hidden(context, inbound))).into();
                }
            },
            Some(never) = &mut hidden => match never {},
            () = tokio::time::sleep_until(deadline), if !state.has_answer() => {
                if !state.has_answer() {
                    return Executed::Finished(state.out_of_time());
                }
            }
            () = inbound.shutdown().over(), if !state.has_answer() => {
                if !state.has_answer() {
                    return state.stopped_with_worker(ready.call.repeatable, task);
                }
            }
        }
    }
}

/// The answer of an equal call, a poll of the call's task, or attempts; then the result is made fit for its row.
async fn work(attempts: &Attempts<'_>, task: Option<&Task>) -> Executed {
    if let Some(outcome) = reuse::wait(attempts.context, attempts.ready).await {
        return Box::pin(store_result(attempts, outcome)).await;
    }
    let polled = match task {
        Some(task) => Box::pin(poll(attempts, task)).await,
        None => None,
    };
    let executed = match polled {
        Some(executed) => executed,
        None => {
            attempts.inbound.polls_no_longer();
            attempts.run().await
        }
    };
    match executed {
        Executed::Finished(outcome) if outcome.content().is_some() => {
            Box::pin(store_result(attempts, outcome)).await
        }
        executed @ (Executed::Finished(_)
        | Executed::Requeue { .. }
        | Executed::Held(_)
        | Executed::Parked { .. }) => executed,
    }
}

/// Polls the task. `None` if the server no longer knows it and the call may be sent again.
async fn poll(attempts: &Attempts<'_>, task: &Task) -> Option<Executed> {
    let Attempts { context, inbound, ready, progress_buffer, state, deadline, .. } = *attempts;
    if task.input_pending {
        if let Some(limits) = Limits::of(context, inbound, &ready.call)
            && let Err(lack) = limits.keep_task(&task.handle).await
        {
            let after_ms = poll_after_ms(Some(limits.away(lack).after_ms));
            return Some(Executed::Parked { task: task.clone(), after_ms, poll_failed: true });
        }
        // Answers that are under way may have been accepted.
        state.begin_request();
    }
    let polled = poll_task::poll_task(context, inbound, ready, progress_buffer, task, deadline).await;
    state.end_request();
    if is_over(&polled)
        && let Some(limits) = Limits::of(context, inbound, &ready.call)
    {
        // An answer that has come is not lost to the deadline.
        state.answered.store(matches!(polled, TaskPoll::Ended(_)), Ordering::Release);
        // Before the end is stored: from then on nobody would know of the task.
        limits.release_task(&task.handle).await;
    }
    after_poll(ready, task, state, polled)
}

/// Whether the server has no such task any more. One that asks for input lives on, and a later call continues it.
fn is_over(polled: &TaskPoll) -> bool {
    match polled {
        TaskPoll::Ended(outcome) => outcome.kind != OutcomeKind::InputRequired,
        TaskPoll::Unknown { .. } => true,
        TaskPoll::Working { .. } | TaskPoll::Failed { .. } | TaskPoll::Unanswerable(_) => false,
    }
}

/// What follows a poll. Nothing where the call may be sent again.
fn after_poll(ready: &ReadyCall, task: &Task, state: &ExecutionState, polled: TaskPoll) -> Option<Executed> {
    let over = matches!(polled, TaskPoll::Ended(_) | TaskPoll::Unknown { .. });
    state.task_over.store(over, Ordering::Release);
    Some(match polled {
        TaskPoll::Working { after_ms } => {
            state.mark_executed();
            Executed::Parked { task: task.answered(), after_ms, poll_failed: false }
        }
        TaskPoll::Failed { after_ms, may_have_run } => {
            if may_have_run == MayHaveRun::Unknown {
                state.mark_executed();
            }
            Executed::Parked { task: task.clone(), after_ms, poll_failed: true }
        }
        TaskPoll::Ended(outcome) | TaskPoll::Unanswerable(outcome) => Executed::Finished(outcome),
        TaskPoll::Unknown { message } => {
            let call = &ready.call;
            if repeats_lost_task(call.repeatable, call.answers_a_task(), state.attempts(), call.max_attempts)
            {
                return None;
            }
            Executed::Finished(task_lost(&message))
        }
    })
}

/// Packs a result for its row. Compressing a large one takes a while: the claim is held during that time, and the answer is not lost.
async fn store_result(attempts: &Attempts<'_>, outcome: Outcome) -> Executed {
    let Attempts { context, inbound, ready, state, .. } = *attempts;
    let call = &ready.call;
    state.answered.store(true, Ordering::Release);
    let has_bucket = context.payloads.bucket().is_some();
    let fit = |outcome| async move { Calls::fitting(outcome).await.ok() };
    let outcome = context.executors.cut(&call.invocation(), outcome, has_bucket, fit).await;
    let hurried = || state.hurried.load(Ordering::Acquire) || state.lease_lost.load(Ordering::Acquire);
    match large_result::store(context, inbound, &call.request.key.tenant, outcome, hurried).await {
        Kept::Fit(outcome) => Executed::Finished(outcome),
        Kept::Lost(_) if call.repeatable && inbound.shutdown().is_draining() => {
            Executed::Requeue { after_ms: 0, reason: RequeueReason::ResultNotStored }
        }
        Kept::Lost(outcome) => Executed::Finished(outcome),
    }
}
