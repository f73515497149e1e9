//! Executes a claimed call: attempts or a poll, beside the heartbeat, the deadline and the end of the worker.

use std::cell::Cell;
use std::task::Poll;

use toolfleet_core::answer::{Meaning, TaskStatus};
use toolfleet_core::call::{Claim, Effect, Event, Held};
use toolfleet_core::execution::{self, Stop};
use toolfleet_core::failure::{Failure, RetryClass};
use toolfleet_core::outcome::{MayHaveRun, Outcome};
use toolfleet_core::retry::{AttemptState, Next, QUICK_TRIES, after};
use toolfleet_core::time::Timestamp;

use super::control;
use super::delivery::{ClaimedCall, Delivery, after_tries};
use super::limits;
use super::passes::Passes;
use super::planted::Planted;
use super::scenario::LEASE_MS;
use super::scheduler::{Either, join, race};
use super::server::{Ask, Said, request};
use super::supersede;
use super::table::Applied;
use super::truth;

/// A try to reach a server that takes longer is not repeated in the worker's slot.
const SLOW_TRY_MS: u64 = 2_000;
/// Time between two heartbeats.
const HEARTBEAT_MS: u64 = LEASE_MS / 3;

/// What an execution came to.
pub(crate) enum Executed {
    Finished(Outcome),
    Requeue { after_ms: u64 },
    Held(Held),
    Parked { task: String, after_ms: u64, poll_failed: bool },
}

/// What the attempts have done so far.
pub(crate) struct ExecutionState {
    attempts: Cell<u32>,
    may_have_executed: Cell<bool>,
    sending: Cell<bool>,
    lease_lost: Cell<bool>,
    /// Until when the lease is sure.
    sure_until_ms: Cell<u64>,
    task_over: Cell<bool>,
    started_at: Timestamp,
    deadline_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stopped {
    LeaseLost,
    Cancelled,
    CancelledByOperator(String),
}

impl ExecutionState {
    fn may_have_run(&self) -> bool {
        self.may_have_executed.get() || self.sending.get()
    }

    fn ran(&self) -> MayHaveRun {
        if self.may_have_run() { MayHaveRun::Unknown } else { MayHaveRun::No }
    }

    fn stopped_with_worker(&self, repeatable: bool, task: Option<&String>) -> Executed {
        let task = task.filter(|_| !self.task_over.get());
        match (execution::stopped_with_worker(repeatable, task.is_some(), self.may_have_run()), task) {
            (Stop::LeaveTask, Some(task)) => {
                self.may_have_executed.set(self.may_have_run());
                Executed::Parked { task: task.clone(), after_ms: 0, poll_failed: false }
            }
            (Stop::LeaveTask, None) | (Stop::Requeue, _) => {
                self.may_have_executed.set(self.may_have_run());
                Executed::Requeue { after_ms: 0 }
            }
            (Stop::End(outcome), _) => Executed::Finished(outcome),
        }
    }
}

impl Delivery {
    pub(crate) async fn execute(&self, call: &mut ClaimedCall) -> Executed {
        let world = &self.world;
        if world.now_ms() - call.since_ms >= LEASE_MS / 2 {
            return match call.task.clone() {
                Some(task) => Executed::Parked { task, after_ms: 0, poll_failed: true },
                None => Executed::Requeue { after_ms: 0 },
            };
        }
        let state = ExecutionState {
            attempts: Cell::new(call.attempts),
            may_have_executed: Cell::new(call.may_have_executed),
            sending: Cell::new(false),
            lease_lost: Cell::new(false),
            sure_until_ms: Cell::new(call.since_ms + LEASE_MS),
            task_over: Cell::new(false),
            started_at: call.row.started_at.unwrap_or_else(|| self.now()),
            deadline_ms: world.now_ms() + self.deadline().ms_since(self.now()),
        };
        let executed = self.race(call, &state).await;
        call.attempts = state.attempts.get();
        call.may_have_executed = state.may_have_run();
        if state.task_over.get() {
            call.task = None;
        }
        executed
    }

    /// The work against everything that may end it.
    async fn race(&self, call: &mut ClaimedCall, state: &ExecutionState) -> Executed {
        let (task, fence) = (call.task.clone(), call.claim.as_ref().map_or(0, Claim::fence));
        let repeatable = self.spec().repeatable;
        let mut work = Box::pin(self.work(state, task.clone(), fence));
        let mut heartbeat = Box::pin(self.keep(call, state));
        let mut deadline = Box::pin(self.world.sleep_until(state.deadline_ms));
        let mut beating = true;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(executed) = work.as_mut().poll(cx) {
                return Poll::Ready(executed);
            }
            if beating && let Poll::Ready(stopped) = heartbeat.as_mut().poll(cx) {
                match stopped {
                    Stopped::Cancelled => {
                        self.mark_cut(state);
                        return Poll::Ready(Executed::Finished(execution::cancelled(state.may_have_run())));
                    }
                    Stopped::CancelledByOperator(rule) => {
                        self.mark_cut(state);
                        let outcome = execution::cancelled_by_operator(&rule, state.may_have_run());
                        return Poll::Ready(Executed::Finished(outcome));
                    }
                    Stopped::LeaseLost => {
                        self.world.truth.borrow_mut()[self.call()].cut = true;
                        state.lease_lost.set(true);
                        beating = false;
                    }
                }
            }
            if deadline.as_mut().poll(cx).is_ready() {
                self.mark_cut(state);
                return Poll::Ready(Executed::Finished(execution::out_of_time(state.may_have_run())));
            }
            if self.process.over_ms.get().is_some_and(|over_ms| self.world.now_ms() >= over_ms) {
                self.mark_cut(state);
                return Poll::Ready(state.stopped_with_worker(repeatable, task.as_ref()));
            }
            Poll::Pending
        })
        .await
    }

    fn mark_cut(&self, state: &ExecutionState) {
        self.world.truth.borrow_mut()[self.call()].cut |= state.sending.get();
    }

    /// A poll of the call's task, or attempts.
    async fn work(&self, state: &ExecutionState, task: Option<String>, fence: u64) -> Executed {
        if let Some(task) = task
            && let Some(executed) = self.poll(state, task).await
        {
            return executed;
        }
        if state.attempts.get() >= self.spec().max_attempts {
            return Executed::Finished(execution::worn_out(self.spec().max_attempts, state.may_have_run()));
        }
        self.polls.set(false);
        let mut tries = 0;
        loop {
            let begun_ms = self.world.now_ms();
            let retry = tries > 0 || state.attempts.get() > 0;
            let failure = match self.attempt(state, fence, retry).await {
                Ok(executed) => return executed,
                Err(failure) => failure,
            };
            let quick = self.world.now_ms() - begun_ms < SLOW_TRY_MS;
            tries = if quick { tries + 1 } else { QUICK_TRIES + 1 };
            match self.after_failure(state, &failure, tries, !quick) {
                Ok(executed) => return executed,
                Err(pause_ms) => self.world.sleep(pause_ms).await,
            }
        }
    }

    /// One attempt, in its turn, if the server's gate is open.
    async fn attempt(&self, state: &ExecutionState, fence: u64, retry: bool) -> Result<Executed, Failure> {
        let (world, call) = (&self.world, self.call());
        if let Err(executed) = self.within_retry_budget(retry) {
            return Ok(executed);
        }
        let Passes { permit: limited, mut place } = match self.limits_of_attempt(state).await {
            Ok(passes) => passes,
            Err(executed) => return Ok(executed),
        };
        let stopped = if world.is_planted(Planted::PauseBeforeClaimOnly) { Ok(()) } else { self.stopped() };
        let (server, tenant) = (self.spec().server, self.spec().tenant);
        let entered = stopped.and_then(|()| self.process.gate.enter(server, tenant, self.now()));
        let permit = match entered {
            Ok(permit) => permit,
            Err(refusal) => {
                self.release_permit(limited).await;
                return Ok(match self.within(&refusal, state.started_at, state.ran()) {
                    Ok(held) => Executed::Held(held),
                    Err(outcome) => Executed::Finished(outcome),
                });
            }
        };
        if self.lease_is_over(state) {
            self.release_permit(limited).await;
            return Ok(Executed::Requeue { after_ms: 0 });
        }
        state.attempts.set(state.attempts.get() + 1);
        state.sending.set(true);
        supersede::starts(world, call, fence == 1, self.received_ms);
        truth::sending(world, call, self.process.index, fence);
        control::starts_despite_rule(self);
        let attempt_until_ms = world.now_ms() + self.spec().attempt_ms;
        let until_ms = attempt_until_ms.min(state.deadline_ms);
        let number = limits::sent(self, attempt_until_ms);
        if let Some(place) = &mut place {
            place.sent(self);
        }
        let answer = request(world, Ask::Call { call, fence, number }, until_ms).await;
        if let Some(mut place) = place {
            place.record(&answer, self.now());
        }
        // A server may go on working on a request whose answer was lost or not waited for: its permit ends by itself.
        let done = answer.as_ref().err().is_none_or(|failure| failure.may_have_run == MayHaveRun::No);
        if let Ok(Said::Meaning(Meaning::Task { handle, .. })) = &answer {
            self.pass_permit_to_task(limited, handle).await;
        } else if done || world.is_planted(Planted::FreePermitEarly) {
            self.release_permit(limited).await;
        }
        state.sending.set(false);
        let cut_short = answer.is_err() && world.now_ms() >= state.deadline_ms;
        let pause_ms = permit.record(answer.as_ref().err(), cut_short, self.now());
        match answer {
            Ok(Said::Meaning(Meaning::Ended(outcome))) => Ok(Executed::Finished(outcome)),
            Ok(Said::Meaning(Meaning::Task { handle, poll_after_ms })) => {
                state.may_have_executed.set(true);
                Ok(Executed::Parked { task: handle, after_ms: poll_ms(poll_after_ms), poll_failed: false })
            }
            Ok(Said::Status(_)) => panic!("a call is not answered as a poll"),
            Err(failure) => {
                world
                    .note(Some(call), || format!("worker {}: attempt failed: {failure}", self.process.index));
                if failure.may_have_run == MayHaveRun::Unknown {
                    world.truth.borrow_mut()[call].cut = true;
                    state.may_have_executed.set(true);
                }
                Err(failure.paused_for(pause_ms))
            }
        }
    }

    pub(crate) fn lease_is_over(&self, state: &ExecutionState) -> bool {
        let over = self.world.now_ms() >= state.sure_until_ms.get();
        state.lease_lost.get() || (over && !self.world.is_planted(Planted::ForgetLease))
    }

    /// What follows an attempt that failed: the core decides.
    fn after_failure(
        &self,
        state: &ExecutionState,
        failure: &Failure,
        tries: u32,
        slow: bool,
    ) -> Result<Executed, u64> {
        let (world, spec) = (&self.world, self.spec());
        let unreachable = if self.tries() <= 1 { tries } else { tries + self.tries() + 2 };
        let at = AttemptState {
            attempts: state.attempts.get(),
            max_attempts: spec.max_attempts,
            repeatable: spec.repeatable || world.is_planted(Planted::RepeatUnsafe),
            may_have_executed: state.may_have_executed.get(),
            now: if world.now_ms() >= state.deadline_ms { self.deadline() } else { self.now() },
            deadline: self.deadline(),
            backoff_ms: after_tries(world, state.attempts.get()),
            tries,
            slow,
            unreachable_backoff_ms: after_tries(world, unreachable).min(30_000),
            wait_until: self.waits_until(failure.held, state.started_at),
        };
        let (executed, counted) = match after(failure, at) {
            Next::End(outcome) => return Ok(Executed::Finished(outcome)),
            Next::Requeue { after_ms, counted } => {
                (Ok(Executed::Held(Held::new(failure.held, None, self.now(), after_ms))), counted)
            }
            Next::Again { after_ms, counted } => (Err(after_ms), counted),
        };
        if !counted {
            state.attempts.set(state.attempts.get() - 1);
        }
        executed
    }

    /// Polls the task. Nothing where the call may be sent again.
    async fn poll(&self, state: &ExecutionState, task: String) -> Option<Executed> {
        let (world, spec, call) = (&self.world, self.spec(), self.call());
        let failed = |after_ms| {
            Some(Executed::Parked {
                task: task.clone(),
                after_ms: poll_ms(Some(after_ms)),
                poll_failed: true,
            })
        };
        let entered =
            self.stopped().and_then(|()| self.process.gate.enter(spec.server, spec.tenant, self.now()));
        let permit = match entered {
            Ok(permit) => permit,
            Err(refusal) => return failed(refusal.retry_after_ms),
        };
        let until_ms = (world.now_ms() + spec.attempt_ms).min(state.deadline_ms);
        self.polls_with_permit(&task);
        let polled = request(world, Ask::Poll { call, handle: task.clone() }, until_ms).await;
        let cut_short = polled.is_err() && world.now_ms() >= state.deadline_ms;
        let pause_ms = permit.record(polled.as_ref().err(), cut_short, self.now());
        if matches!(polled, Ok(Said::Status(TaskStatus::Ended(_) | TaskStatus::Unknown { .. }))) {
            self.release_task(&task).await;
        }
        match polled {
            Ok(Said::Status(TaskStatus::Working { poll_after_ms, .. })) => {
                state.may_have_executed.set(true);
                Some(Executed::Parked { task, after_ms: poll_ms(poll_after_ms), poll_failed: false })
            }
            Ok(Said::Status(TaskStatus::Ended(outcome))) => {
                state.task_over.set(true);
                Some(Executed::Finished(outcome))
            }
            Ok(Said::Status(TaskStatus::Unknown { message })) => {
                state.task_over.set(true);
                let (attempts, max_attempts) = (state.attempts.get(), spec.max_attempts);
                if execution::repeats_lost_task(spec.repeatable, false, attempts, max_attempts) {
                    return None;
                }
                Some(Executed::Finished(execution::task_lost(&message)))
            }
            Ok(Said::Meaning(_)) => panic!("a poll is not answered as a call"),
            Err(failure) => {
                let backoff_ms = after_tries(world, self.tries());
                match failure.paused_for(pause_ms).class {
                    RetryClass::Pause { after_ms } => failed(after_ms.unwrap_or(backoff_ms)),
                    RetryClass::NotExecuted | RetryClass::Ambiguous | RetryClass::Permanent => {
                        failed(backoff_ms)
                    }
                }
            }
        }
    }

    /// Extends lease and visibility until the lease is no longer sure or the caller has cancelled the call.
    async fn keep(&self, call: &mut ClaimedCall, state: &ExecutionState) -> Stopped {
        let world = &self.world;
        let mut next_beat_ms = world.now_ms() + HEARTBEAT_MS;
        loop {
            world.sleep_until(next_beat_ms).await;
            if world.is_planted(Planted::SkipHeartbeat) {
                next_beat_ms += HEARTBEAT_MS;
                continue;
            }
            if let Some(rule) =
                self.cancelling_rule().filter(|_| !world.is_planted(Planted::CancelAtReceiptOnly))
            {
                return Stopped::CancelledByOperator(rule);
            }
            let asked_ms = world.now_ms();
            let lease_until = self.now().plus_ms(LEASE_MS);
            let event = match call.claim.clone() {
                Some(claim) => Event::Heartbeat { claim, lease_until, notes: None },
                None => self.late_claim(),
            };
            let seen = call.claim.is_some().then(|| call.row.clone());
            let beat = race(
                world.apply(self.by(), self.call(), seen.as_ref(), &event),
                world.sleep_until(state.sure_until_ms.get()),
            );
            let (beat, ()) = join(beat, self.extend_visibility()).await;
            let Either::First(beat) = beat else { return Stopped::LeaseLost };
            match beat {
                Ok(Applied::Stored { row, then }) => {
                    call.row = *row;
                    let cancel = matches!(then, Effect::Extended { cancel: true } | Effect::Ended);
                    if let Effect::Execute(new) = then {
                        call.claim = Some(new);
                    }
                    if cancel && !world.is_planted(Planted::IgnoreCancel) {
                        return Stopped::Cancelled;
                    }
                    state.sure_until_ms.set(asked_ms + LEASE_MS);
                    next_beat_ms = asked_ms + HEARTBEAT_MS;
                }
                Ok(Applied::Rejected { .. }) => return Stopped::LeaseLost,
                Err(_) if world.now_ms() >= state.sure_until_ms.get() => return Stopped::LeaseLost,
                Err(_) => next_beat_ms = world.now_ms() + HEARTBEAT_MS / 4,
            }
        }
    }

    pub(crate) async fn extend_visibility(&self) {
        let (world, receipt) = (&self.world, self.message.receipt);
        let hidden = world.aws(|| world.queue.hide(receipt, world.now_ms(), LEASE_MS));
        let _ = race(hidden, world.sleep(HEARTBEAT_MS / 2)).await;
    }
}

/// The time until the next poll of a server that named `asked_ms`.
fn poll_ms(asked_ms: Option<u64>) -> u64 {
    asked_ms.unwrap_or(5_000).clamp(1_000, 900_000)
}
