//! The attempts of a call: one after the other, each within its time, until an outcome or a reason to wait.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::answer::{Answer, Meaning};
use toolfleet_core::control::CancelRule;
use toolfleet_core::failure::Failure;
use toolfleet_core::fleet::LimitPart;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_core::retry::{AttemptState, Next, QUICK_TRIES, after};
use toolfleet_executors::{Admit, Executor as _};

use super::disposition::RequeueReason;
use super::execution::{Executed, ExecutionState};
use super::inbound::InboundCall;
use super::lease::Lease;
use super::pace::{MOST_TURNS, Pace};
use super::passes::Passes;
use super::prepare::{ReadyCall, with_what_was_left_out};
use super::progress_buffer::ProgressBuffer;
use super::redaction;
use super::send::{Request, send};
use super::task::{Task, poll_after_ms};
use super::time_left::lacks_time;
use super::turn::Limits;
use super::wait::{Wait, waits_until, within};
use crate::activity::LimitMet;
use crate::backoff;
use crate::context::WorkerContext;

/// An attempt that takes longer is not repeated in the worker's slot.
const SLOW_TRY: Duration = Duration::from_secs(2);
/// So many workers share the retries of the fleet where it is not known how many there are.
const FEW_WORKERS: u32 = 8;

/// What all attempts of one execution share.
pub(super) struct Attempts<'a> {
    pub(super) context: &'a Arc<WorkerContext>,
    pub(super) inbound: &'a InboundCall,
    pub(super) ready: &'a ReadyCall,
    pub(super) progress_buffer: &'a ProgressBuffer,
    pub(super) state: &'a Arc<ExecutionState>,
    pub(super) lease: &'a Arc<Lease>,
    pub(super) deadline: Instant,
    /// What the first attempt holds of the call's limits.
    pub(super) passes: Mutex<Option<Passes>>,
}

impl Attempts<'_> {
    /// Runs attempts until one of them, or a reason to wait, ends the execution.
    pub(super) async fn run(&self) -> Executed {
        let (call, state) = (&self.ready.call, self.state);
        if let Err(outcome) = self.context.executors.check(&call.invocation()) {
            return Executed::Finished(outcome);
        }
        if state.attempts() >= call.max_attempts {
            return Executed::Finished(state.worn_out(call.max_attempts));
        }
        let mut tries = 0;
        loop {
            let begun = Instant::now();
            let failure = match Box::pin(self.attempt(tries > 0)).await {
                Ok(executed) => return executed,
                Err(failure) => failure,
            };
            self.ready.attempt_failed();
            let slow = begun.elapsed() >= SLOW_TRY;
            tries = if slow { QUICK_TRIES + 1 } else { tries + 1 };
            match self.after_failure(&failure, tries, slow) {
                Ok(executed) => return executed,
                Err(pause_ms) => tokio::time::sleep(Duration::from_millis(pause_ms)).await,
            }
        }
    }

    /// One attempt, if the server's gate is open.
    async fn attempt(&self, again: bool) -> Result<Executed, Failure> {
        let (context, call, state) = (self.context, &self.ready.call, self.state);
        let again = again || state.attempts() > 0;
        if let Some(rule) = call.batch() {
            return Box::pin(self.attempt_in_batch(rule, again)).await;
        }
        let server = &call.server.id;
        let mut passes = match self.take_passes(again).await {
            Ok(passes) => passes,
            Err(wait) => return Ok(self.wait(wait)),
        };
        let permit = match context.gate.enter(call.subject(), context.now()) {
            Ok(permit) => permit,
            Err(refusal) => return Ok(self.wait(Wait::refused(context, server, refusal))),
        };
        if let Some(rule) = self.cancelling_rule() {
            return Ok(Executed::Finished(state.cancelled_by_operator(&rule)));
        }
        if let Some(wait) = lacks_time(context, self.inbound, call) {
            return Ok(self.wait(wait));
        }
        // After a freeze (SIGSTOP) this runs before the heartbeat can find the lease lost.
        if state.lease_lost.load(Ordering::Acquire) || self.lease.is_over() {
            return Ok(Executed::Requeue { after_ms: 0, reason: RequeueReason::LeaseLost });
        }
        // One that may need longer than a drain protects its task from its start.
        let may_be_long = context.protect_after.is_some() && call.attempt_ms > drain_ms(context);
        let _long = may_be_long.then(|| context.activity.long_call());
        let number = state.count_attempt();
        state.begin_request();
        let pace = self.pace(&mut passes);
        passes.sent(context.now());
        let answer = {
            let sending = pin!(self.send(number, pace.as_ref()));
            passes.until_answered(sending, call.outlasts_attempt(), &context.meters).await
        };
        state.end_request();
        let lacking = pace.and_then(Pace::lacking);
        // An attempt that the caller's own deadline cut short, or that had no turn, says nothing of the server.
        let cut_short = answer.is_err() && (lacking.is_some() || Instant::now() >= self.deadline);
        passes.record(&answer, cut_short, context.now());
        let pause_ms = permit.record(&answer, cut_short, context.now());
        if let (Some(wait), Err(Failure { may_have_run: MayHaveRun::No, .. })) = (lacking, &answer) {
            state.uncount_attempt();
            return Ok(self.wait(wait));
        }
        match answer {
            Ok(Answer { meaning: Meaning::Ended(outcome), .. }) => Ok(Executed::Finished(outcome)),
            Ok(Answer { meaning: Meaning::Task { handle, poll_after_ms: asked_ms }, .. }) => {
                state.mark_executed();
                // From here on nothing stops the execution: a task whose name is lost cannot be cancelled.
                state.answered.store(true, Ordering::Release);
                if let Some(limits) = Limits::of(context, self.inbound, call) {
                    passes.becomes_task(&limits.task_entry(&handle), context.limits.lease_ms()).await;
                }
                let (task, after_ms) = (Task { handle, input_pending: false }, poll_after_ms(asked_ms));
                Ok(Executed::Parked { task, after_ms, poll_failed: false })
            }
            Err(failure) => {
                let logged = redaction::for_the_log(&failure, &call.request);
                tracing::info!(call = %call.request.key, attempt = number, server = %server, fault = logged, "an attempt failed");
                if failure.may_have_run == MayHaveRun::Unknown {
                    state.mark_executed();
                }
                Err(failure.paused_for(pause_ms))
            }
        }
    }

    /// The operator's rule that cancels the call, by what is known right before it is sent.
    pub(super) fn cancelling_rule(&self) -> Option<String> {
        let control = self.context.gate.control().current()?;
        let facts = self.ready.call.facts(self.inbound.enqueued_at);
        control.cancelled_by(&facts, self.context.now()).map(CancelRule::detail)
    }

    /// What the attempt needs of the call's limits, with the turn come. A first attempt holds it already; a retry asks anew, within the
    /// retry budget of its server.
    pub(super) async fn take_passes(&self, retry: bool) -> Result<Passes, Wait> {
        let Self { context, inbound, .. } = *self;
        let call = &self.ready.call;
        let (limiter, server) = (&context.limiter, &call.server.id);
        let workers = limiter.workers_at_least(FEW_WORKERS);
        let start = match limiter.local.start(server, retry, workers, context.now()) {
            Ok(start) => start,
            Err(after_ms) => {
                let key = LimitKey::Server(server.clone()).to_string();
                let tenant = &call.request.key.tenant;
                let met = LimitMet { key, part: LimitPart::RetryBudget, value: None, tenant, requeued: true };
                context.activity.limit_met(met, context.now());
                context.meters.limit_met(LimitPart::RetryBudget, true);
                return Err(Wait::for_retry_budget(context, server, after_ms));
            }
        };
        let mut held = self.passes.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut missed = false;
        for _ in 0..MOST_TURNS {
            let passes = match held.take() {
                Some(passes) => passes,
                None => match Limits::of(context, inbound, call) {
                    Some(limits) => limits.again(missed).await?,
                    None => return Ok(Passes::default().that_start(start)),
                },
            };
            let Some(due) = passes.due else {
                if passes.are_fresh() {
                    return Ok(passes.that_start(start));
                }
                continue;
            };
            tokio::time::sleep_until(due).await;
            if passes.are_in_time() && passes.are_fresh() {
                return Ok(passes.that_start(start));
            }
            missed = true;
            context.meters.turn_missed();
        }
        Err(Wait::after_missed_turns(context, server))
    }

    /// The turns of the attempt's requests, where a rate limit holds.
    fn pace(&self, passes: &mut Passes) -> Option<Pace<'_>> {
        let call = &self.ready.call;
        let first = passes.take_turns()?;
        let until = self.deadline.min(Instant::now() + Duration::from_millis(call.attempt_ms));
        Some(Pace::new(Limits::of(self.context, self.inbound, call)?, until, first))
    }

    /// Sends the call.
    async fn send(&self, number: u32, pace: Option<&Pace<'_>>) -> Result<Answer, Failure> {
        let Self { context, inbound, ready, progress_buffer, deadline, .. } = *self;
        let add = |note| {
            context.gate.heard(ready.call.subject());
            progress_buffer.add(note, context.now());
        };
        let request = Request {
            target: &ready.target,
            invocation: ready.call.invocation(),
            number,
            deadline,
            sent: inbound.trace_context(),
            on_progress: Some(&add),
            admit: pace.map(|pace| pace as Admit<'_>),
        };
        let sending = pin!(send(context, request));
        match pace {
            Some(pace) => pace.watch(sending).await,
            None => sending.await,
        }
    }

    /// What follows an attempt that failed; the pause before the next attempt, in milliseconds, where one follows in the worker's slot.
    fn after_failure(&self, failure: &Failure, tries: u32, slow: bool) -> Result<Executed, u64> {
        let (context, call, state) = (self.context, &self.ready.call, self.state);
        let attempts = state.attempts();
        let at = AttemptState {
            attempts,
            max_attempts: call.max_attempts,
            repeatable: call.repeatable,
            may_have_executed: state.may_have_executed.load(Ordering::Acquire),
            // The two clocks may differ by a millisecond; at the deadline the one that ended the attempt is right.
            now: if Instant::now() >= self.deadline { call.deadline } else { context.now() },
            deadline: call.deadline,
            backoff_ms: backoff::after_tries(attempts),
            tries,
            unreachable_backoff_ms: backoff::unreachable(self.inbound.tries(), tries),
            slow,
            wait_until: waits_until(context, &call.server.id, failure.held, state.started_at, call.deadline),
        };
        let (executed, counted) = match after(failure, at) {
            Next::End(outcome) => {
                let outcome = with_what_was_left_out(self.inbound.catalog(), &call.server, outcome);
                return Ok(Executed::Finished(outcome));
            }
            Next::Requeue { after_ms, counted } => {
                let wait = Wait::after_failure(context, &call.server.id, failure, after_ms);
                (Ok(Executed::Held(wait)), counted)
            }
            Next::Again { after_ms, counted } => (Err(after_ms), counted),
        };
        if !counted {
            state.uncount_attempt();
        }
        executed
    }

    /// The wait for a server whose gate refuses the call, or the end of a call that cannot wait.
    pub(super) fn wait(&self, wait: Wait) -> Executed {
        let (call, state) = (&self.ready.call, self.state);
        let ran = if state.may_have_run() { MayHaveRun::Unknown } else { MayHaveRun::No };
        match within(self.context, &call.server.id, wait, state.started_at, call.deadline, ran) {
            Ok(wait) => Executed::Held(wait),
            Err(outcome) => Executed::Finished(outcome),
        }
    }
}

fn drain_ms(context: &WorkerContext) -> u64 {
    u64::try_from(context.limits.drain.as_millis()).unwrap_or(u64::MAX)
}
