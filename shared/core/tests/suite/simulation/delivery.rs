//! One delivery in a worker, with the steps of `workers/worker/src/pipeline/mod.rs` in their order.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use toolfleet_core::call::{
    CallRow, Caller, Claim, DeliveryContext, Effect, Event, Held, HeldReason, Rejection,
};
use toolfleet_core::execution::cancelled_by_operator;
use toolfleet_core::failure::Refusal;
use toolfleet_core::ids::Nonce;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::requeue::MANY_RECEIVES;
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::schedule::{Hop, hop};
use toolfleet_core::time::Timestamp;

use super::gate::refusal;
use super::limits::OwnTurn;
use super::passes::Passes;
use super::permits::Written;
use super::planted::Planted;
use super::queue::{Asks, Received};
use super::scenario::{CallSpec, LEASE_MS, PATIENCE_MS, SKEW_MS};
use super::table::Applied;
use super::world::{AwsFailed, Process, UnderWay, World};

/// A shorter wait is not stored in the call's row.
const SHORTEST_STORED_WAIT_MS: u64 = 3_000;
/// How long a call waits for a server that never answered.
const UNREACHABLE_WAIT_MS: u64 = 120_000;

/// How a delivery leaves the worker.
pub(crate) enum Disposition {
    Completed,
    Requeued {
        after_ms: u64,
        /// Whether even a short wait becomes a new message.
        parks: bool,
    },
    Parked {
        after_ms: u64,
        poll_failed: bool,
        /// Whether the task has its permit for sure, where it counts.
        counted: bool,
    },
    TakenOver,
}

/// Why a delivery does not continue to its next step.
pub(crate) enum Exit {
    Disposed(Disposition),
    Failed,
}

impl From<AwsFailed> for Exit {
    fn from(_: AwsFailed) -> Self {
        Self::Failed
    }
}

/// One delivery.
pub(crate) struct Delivery {
    pub(crate) world: Rc<World>,
    pub(crate) process: Rc<Process>,
    pub(crate) message: Received,
    nonce: Nonce,
    pub(crate) received_ms: u64,
    /// The turns of the next request.
    pub(crate) turns: RefCell<Vec<OwnTurn>>,
    /// Whether they are those that the message carries.
    pub(crate) carries: Cell<bool>,
    /// What its next request holds besides.
    pub(crate) passes: RefCell<Option<Passes>>,
    /// Whether the message that replaces its own says that it polls.
    pub(crate) polls: Cell<bool>,
    /// Whether the task that it polls has its permit until the deadline, if it had not lost it before.
    pub(crate) counted: Cell<bool>,
    /// The write that passes the permit of a request to its task.
    pub(crate) passing: RefCell<Option<Written>>,
}

/// A call that this worker may execute.
pub(crate) struct ClaimedCall {
    /// None while it is executed without a claim.
    pub(crate) claim: Option<Claim>,
    pub(crate) row: CallRow,
    pub(crate) since_ms: u64,
    pub(crate) attempts: u32,
    pub(crate) may_have_executed: bool,
    pub(crate) task: Option<String>,
}

/// Takes one delivery through the worker.
pub(crate) async fn run(world: Rc<World>, process: Rc<Process>, message: Received) {
    let under_way = UnderWay::new(&world);
    let random = u128::from(world.random.next()) << 64 | u128::from(world.random.next());
    let delivery = Delivery::new(&world, &process, message, Nonce::from_random(random));
    let exit = match delivery.process().await {
        Ok(disposition) => Exit::Disposed(disposition),
        Err(exit) => exit,
    };
    delivery.leave_passes();
    delivery.process.slots_used.set(delivery.process.slots_used.get() - 1);
    match exit {
        Exit::Disposed(Disposition::Completed) => delivery.complete(&delivery.world.queue).await,
        Exit::Disposed(Disposition::Requeued { after_ms, parks }) => delivery.requeue(after_ms, parks).await,
        Exit::Disposed(Disposition::Parked { after_ms, poll_failed, counted }) => {
            delivery.until_poll(after_ms, poll_failed, counted).await;
        }
        Exit::Disposed(Disposition::TakenOver) => {}
        Exit::Failed => delivery.requeue(after_tries(&delivery.world, delivery.tries()), false).await,
    }
    delivery.process.deliveries.set(delivery.process.deliveries.get() - 1);
    drop(under_way);
}

impl Delivery {
    pub(crate) fn new(world: &Rc<World>, process: &Rc<Process>, message: Received, nonce: Nonce) -> Self {
        let (turns, polls) = (RefCell::new(message.body.turns.clone()), Cell::new(message.body.polls));
        let (world, process) = (Rc::clone(world), Rc::clone(process));
        let (received_ms, carries) = (world.now_ms(), Cell::new(true));
        let (passes, passing, counted) = (RefCell::default(), RefCell::default(), polls.clone());
        Self { world, process, message, nonce, received_ms, turns, carries, passes, polls, counted, passing }
    }

    async fn process(&self) -> Result<Disposition, Exit> {
        // decode
        self.world.sleep(self.world.random.below(3)).await;
        // admit
        if self.now() >= self.deadline() {
            return self.record_unexecuted(expired()).await;
        }
        if let Some(rule) = self.cancelling_rule() {
            return self.record_unexecuted(cancelled_by_operator(&rule, false)).await;
        }
        self.world.sleep(self.world.random.below(3)).await;
        // supersede
        if let Some(disposition) = self.supersede().await? {
            return Ok(disposition);
        }
        // schedule
        if let Some(hop) = self.hop() {
            return self.store_wait(hop.held, hop.after_ms).await;
        }
        // prepare
        if let Err(refusal) = self.stopped() {
            return self.hold(refusal).await;
        }
        if let Err(refusal) = self.process.gate.check(self.spec().server, self.spec().tenant, self.now()) {
            return self.hold(refusal).await;
        }
        if self.world.random.chance(20) && !self.world.is_calm() {
            let retry_after_ms = after_tries(&self.world, self.tries());
            let reason = HeldReason::Credential;
            return self.hold(refusal(reason, retry_after_ms)).await;
        }
        self.world.sleep(self.world.random.below(3)).await;
        if self.process.draining.get() {
            return Ok(Disposition::Requeued { after_ms: 0, parks: false });
        }
        // turn
        if let Some(held) = self.limits_before_claim().await? {
            let after_ms = held.next_try_at.ms_since(self.now());
            return self.store_wait(held, after_ms).await;
        }
        let mut claimed = if self.is_claimless() {
            self.without_claim()
        } else {
            match self.claim().await? {
                Ok(claimed) => claimed,
                Err(disposition) => return Ok(disposition),
            }
        };
        self.execute_and_record(&mut claimed).await
    }

    /// The wait of a call whose time has not come.
    fn hop(&self) -> Option<Hop> {
        let not_before = self.spec().not_before_ms.map(|ms| self.world.true_time(ms));
        let mut hop = hop(not_before, self.now(), false)
            .filter(|_| !self.world.is_planted(Planted::IgnoreNotBefore))?;
        if self.world.is_planted(Planted::HopTooFar) {
            hop.after_ms = 900_000;
        }
        let back = self.now().plus_ms(hop.after_ms);
        let in_time = not_before.is_some_and(|due| back <= due);
        self.world
            .check(in_time, self.call(), "a wait for a call's time does not pass it", || format!("{hop:?}"));
        Some(hop)
    }

    /// The conditional write that gives this worker the right to send the call.
    async fn claim(&self) -> Result<Result<ClaimedCall, Disposition>, Exit> {
        let since_ms = self.world.now_ms();
        let delivery = self.context(self.spec().repeatable);
        let event = Event::Claim { delivery, lease_ms: LEASE_MS, definition: None, answers: None };
        // One that is not safe to repeat is asked for until it is known whose it is.
        let patience_ms = if self.spec().repeatable { LEASE_MS / 2 } else { PATIENCE_MS };
        let give_up_ms = since_ms + patience_ms;
        let claimed = self.persist_until(give_up_ms, None, &event, Self::may_have_claimed).await;
        Ok(match claimed.inspect_err(|_| self.may_have_claimed())? {
            Applied::Stored { row, then: Effect::Execute(claim) } => Ok(ClaimedCall {
                claim: Some(claim),
                since_ms,
                attempts: row.attempts,
                may_have_executed: row.was_sent(),
                task: row.task.clone(),
                row: *row,
            }),
            Applied::Stored { .. } => Err(self.record_finished().await?),
            Applied::Rejected { row: Some(_), rejection: Rejection::AlreadyRecorded } => {
                Err(self.record_finished().await?)
            }
            Applied::Rejected { rejection: Rejection::Mismatch, .. } => Err(self.record_message().await?),
            Applied::Rejected { rejection: Rejection::HeldElsewhere { .. }, .. }
                if self.world.is_planted(Planted::SkipClaim) =>
            {
                Ok(self.planted_claim(since_ms, &event))
            }
            Applied::Rejected { rejection: Rejection::HeldElsewhere { .. }, .. }
                if self.world.is_planted(Planted::EndCallOfAnother) =>
            {
                self.end_call_of_another().await;
                Err(self.record_finished().await?)
            }
            Applied::Rejected { rejection: Rejection::HeldElsewhere { retry_after_ms }, .. } => {
                self.give_back_own().await;
                Err(Disposition::Requeued { after_ms: self.wait_for_holder_ms(retry_after_ms), parks: false })
            }
            Applied::Rejected { .. } => Err(Disposition::Requeued { after_ms: LEASE_MS, parks: false }),
        })
    }

    /// AWS did not answer the claim. If it is stored, nobody knows that nothing was sent under it.
    fn may_have_claimed(&self) {
        let mut truths = self.world.truth.borrow_mut();
        let truth = &mut truths[self.call()];
        truth.cut |= truth.holder.as_ref().is_some_and(|holder| holder.is(&self.nonce));
    }

    /// A claim that is not stored.
    fn planted_claim(&self, since_ms: u64, event: &Event) -> ClaimedCall {
        let toolfleet_core::call::Decision::Write { row, then: Effect::Execute(claim) } =
            toolfleet_core::call::decide(None, event)
        else {
            panic!("an absent row can be claimed")
        };
        ClaimedCall {
            claim: Some(claim),
            row: *row,
            since_ms,
            attempts: 0,
            may_have_executed: false,
            task: None,
        }
    }

    async fn end_call_of_another(&self) {
        let seen = self.world.rows.borrow()[&self.call()].clone();
        let delivery = DeliveryContext { now: self.now().plus_ms(10 * LEASE_MS), ..self.context(false) };
        let event = Event::Conclude { delivery, outcome: expired(), definition: None };
        let _ = self.world.apply(self.by(), self.call(), Some(&seen), &event).await;
    }

    /// Stores why the call waits, unless it cannot wait so long.
    async fn hold(&self, refusal: Refusal) -> Result<Disposition, Exit> {
        let since = self.process.gate.failing_since(self.spec().server).unwrap_or_else(|| self.now());
        let since = since.max(self.enqueued_at());
        let held = match self.within(&refusal, since, MayHaveRun::No) {
            Ok(held) => held,
            Err(outcome) => return self.record_unexecuted(outcome).await,
        };
        let after_ms = held.next_try_at.ms_since(self.now());
        self.store_wait(held, after_ms).await
    }

    /// Stores a wait that is long enough to be read.
    async fn store_wait(&self, held: Held, after_ms: u64) -> Result<Disposition, Exit> {
        let parks = held.reason.parks_at_once();
        let age_ms = self.now().ms_since(self.enqueued_at());
        if after_ms < SHORTEST_STORED_WAIT_MS && age_ms < SHORTEST_STORED_WAIT_MS {
            return Ok(Disposition::Requeued { after_ms, parks });
        }
        let event = Event::Hold { delivery: self.context(false), held };
        Ok(match self.world.apply(self.by(), self.call(), None, &event).await? {
            Applied::Stored { row, .. } if row.finished.is_some() => self.record_finished().await?,
            Applied::Rejected { row: Some(_), rejection: Rejection::AlreadyRecorded } => {
                self.record_finished().await?
            }
            Applied::Rejected { rejection: Rejection::Mismatch, .. } => self.record_message().await?,
            Applied::Rejected { rejection: Rejection::HeldElsewhere { retry_after_ms }, .. } => {
                Disposition::Requeued { after_ms: self.wait_for_holder_ms(retry_after_ms), parks: false }
            }
            Applied::Stored { .. } | Applied::Rejected { .. } => Disposition::Requeued { after_ms, parks },
        })
    }

    /// The wait, if the call can continue after it; the end of the call otherwise.
    pub(crate) fn within(
        &self,
        refusal: &Refusal,
        since: Timestamp,
        ran: MayHaveRun,
    ) -> Result<Held, Outcome> {
        let (now, deadline) = (self.now(), self.deadline());
        let gives_up = self.world.is_planted(Planted::GiveUpPaused);
        let held = Held::new(refusal.reason, None, now, refusal.retry_after_ms);
        if refusal.reason.parks_at_once() && now < deadline && !gives_up {
            return Ok(held.until_deadline(deadline, now));
        }
        let until = self.waits_until(refusal.reason, since);
        if let Some(held) = held.within(until, deadline, now) {
            return Ok(held);
        }
        let code = if refusal.reason == HeldReason::ServerPause {
            Code::RateLimited
        } else if refusal.reason == HeldReason::Paused {
            Code::Paused
        } else if refusal.reason == HeldReason::ServerFailing {
            Code::ServerError
        } else {
            Code::ServerUnreachable
        };
        Err(Outcome::failed(CallError::new(code, "the server is not available", ran).retryable(None)))
    }

    /// Until when a call waits for a server.
    pub(crate) fn waits_until(&self, reason: HeldReason, since: Timestamp) -> Timestamp {
        let answered = self.process.gate.has_answered(self.spec().server, self.now());
        if reason != HeldReason::ServerUnreachable || answered {
            return self.deadline();
        }
        since.plus_ms(UNREACHABLE_WAIT_MS).min(self.deadline())
    }

    /// The mark of this delivery.
    pub(crate) const fn by(&self) -> Option<&Nonce> {
        Some(&self.nonce)
    }

    pub(crate) const fn call(&self) -> usize {
        self.message.body.call
    }

    pub(crate) fn spec(&self) -> &CallSpec {
        &self.world.scenario.calls[self.call()]
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.process.clock(&self.world)
    }

    pub(crate) fn enqueued_at(&self) -> Timestamp {
        self.world.true_time(self.message.body.first_sent_ms.unwrap_or(self.message.sent_ms))
    }

    pub(crate) fn deadline(&self) -> Timestamp {
        self.enqueued_at().plus_ms(self.spec().deadline_ms)
    }

    /// How often the call was received, the receives of replaced messages included.
    pub(crate) const fn tries(&self) -> u32 {
        self.message.body.parks.saturating_mul(MANY_RECEIVES).saturating_add(self.message.receives)
    }

    /// How long to wait for a call that another delivery holds.
    pub(crate) fn wait_for_holder_ms(&self, lease_left_ms: u64) -> u64 {
        lease_left_ms.min(after_tries(&self.world, self.tries()).max(1_000))
    }

    /// What this delivery brings to the state table.
    pub(crate) fn context(&self, repeatable: bool) -> DeliveryContext {
        let asks = self.message.body.asks;
        let agent = (asks == Asks::OtherCaller).then(|| "another".to_owned());
        let message_id = Some(format!("m{}", self.message.first_id()));
        DeliveryContext {
            key: self.world.keys[self.call()].clone(),
            digest: self.world.digests[self.call()][usize::from(asks == Asks::OtherQuestion)].clone(),
            earlier_digest: None,
            caller: Box::new(Caller { agent, message_id, ..Caller::default() }),
            nonce: self.nonce.clone(),
            worker: self.process.id.clone(),
            enqueued_at: self.enqueued_at(),
            deadline: Some(self.deadline()),
            now: self.now(),
            skew_ms: if self.world.is_planted(Planted::ForgetSkew) { 0 } else { SKEW_MS },
            may_be_claimless: self.tells_claimless(),
            repeatable,
            expires_at: self.enqueued_at().plus_ms(RETENTION_MS),
        }
    }
}

fn expired() -> Outcome {
    let why =
        CallError::new(Code::DeadlineExceeded, "the deadline passed before it could run", MayHaveRun::No);
    Outcome::ended(OutcomeKind::Expired, why.retryable(None))
}

/// The wait before another try, as `workers/worker/src/backoff.rs` draws it: 200, 400, 800, .. ms, each give or take a half.
pub(crate) fn after_tries(world: &World, tries: u32) -> u64 {
    let middle = (200_u64 << tries.clamp(1, 16).saturating_sub(1)).min(60_000);
    world.random.between(middle / 2, middle * 3 / 2).min(60_000)
}
