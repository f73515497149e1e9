//! The step `turn`: a call that has limits gets a turn of each rate limit, and then a permit of each concurrency limit (`permit`), before it
//! is claimed.
//!
//! A call whose turn lies seconds ahead goes back to the queue with its turn. It comes back a second early and waits here without a slot.
//! Where several rate limits hold, one time is searched at which each has a turn (`turn_search` of the core), and the message carries all of
//! them. All permits are taken after the turn has come, and none is held while another is waited for. A retry asks again for everything.
//!
//! A turn is checked by a monotonic clock right before the request is sent (`pace`): one that is later than 20 ms is replaced by a new one.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use toolfleet_catalog::Catalog;
use toolfleet_core::call::{Held, HeldReason};
use toolfleet_core::control::DEFAULT_WEIGHT;
use toolfleet_core::fleet::LimitPart;
use toolfleet_core::limits::turn_book::{Ask, Grant, Wish, wake_us};
use toolfleet_core::limits::turn_search::{Next, TurnSearch};
use toolfleet_core::limits::{CarriedTurn, LimitKey, RateLimit};
use toolfleet_core::time::Timestamp;

use super::admit::AdmittedCall;
use super::inbound::{Carried, InboundCall};
use super::passes::Passes;
use super::wait::Wait;
use crate::activity::LimitMet;
use crate::context::WorkerContext;
use crate::gate::{ActiveLimit, HeldTurn, Limited, Live, TurnAnswer, limits_of};

/// A turn nearer than this is waited for in the worker, in milliseconds.
const NEAR_MS: u64 = 3_000;
/// The same for a queue that keeps its order, whose messages cannot carry a turn.
const NEAR_IN_ORDER_MS: u64 = 12_000;
/// The same for a retry, which waits in its slot.
const NEAR_IN_SLOT_MS: u64 = 2_000;
/// So long before its turn a call takes its slot and is claimed.
const AHEAD: Duration = Duration::from_millis(200);
/// So long a batch waits for a permit.
const BATCH_PERMIT_WAIT: Duration = Duration::from_secs(3);
/// How long a call waits for a turn of a limit whose row too many workers change, in milliseconds.
const CONTENDED_MS: std::ops::Range<u64> = 1_000..3_000;
/// How long a call waits whose limits cannot be read, in milliseconds.
const UNKNOWN_MS: u64 = 2_000;

/// What limits one call, and who asks.
pub(super) struct Limits<'a> {
    pub(super) context: &'a WorkerContext,
    pub(super) asker: Asker<'a>,
    pub(super) call: &'a AdmittedCall,
    pub(super) limits: Vec<ActiveLimit>,
}

/// Who asks for turns and permits.
#[derive(Clone, Copy)]
pub(super) enum Asker<'a> {
    /// A delivery of the call's message.
    Delivery(&'a InboundCall),
    /// A batch, by its id, for a further request. It has left the messages of its calls behind: none of them carries its turns.
    Batch(&'a str),
}

impl<'a> Asker<'a> {
    /// Whether it is of a queue that keeps its order.
    fn is_in_order(self) -> bool {
        match self {
            Self::Delivery(inbound) => inbound.queue().is_fifo(),
            Self::Batch(_) => false,
        }
    }

    /// Whether a message takes turns along to the queue.
    fn carries(self) -> bool {
        match self {
            Self::Delivery(inbound) => !inbound.queue().is_fifo(),
            Self::Batch(_) => false,
        }
    }

    /// Whether its message has brought a turn that is still to come.
    pub(super) fn carries_turn(self, now: Timestamp) -> bool {
        match self {
            Self::Delivery(inbound) => inbound.carries_turn(now),
            Self::Batch(_) => false,
        }
    }

    fn carry(self, turn: CarriedTurn) {
        match self {
            Self::Delivery(inbound) => inbound.carry(Carried::Turn(turn)),
            Self::Batch(_) => {}
        }
    }

    fn carried(self) -> &'a Carried {
        match self {
            Self::Delivery(inbound) => inbound.carried(),
            Self::Batch(_) => &Carried::Nothing,
        }
    }

    /// A message in a queue that keeps its order carries nothing, and a group has one call at a time. What was received before has waited, and
    /// receives count towards its dead-letter queue.
    fn has_waited_in_order(self) -> bool {
        match self {
            Self::Delivery(inbound) => inbound.queue().is_fifo() && inbound.receive_count() > 1,
            Self::Batch(_) => false,
        }
    }

    /// Whether it has waited in the queue before.
    pub(super) fn is_back(self) -> bool {
        match self {
            Self::Delivery(inbound) => inbound.parks > 0,
            Self::Batch(_) => false,
        }
    }

    /// What no other asks under.
    pub(super) fn nonce(self) -> &'a str {
        match self {
            Self::Delivery(inbound) => inbound.nonce().as_str(),
            Self::Batch(id) => id,
        }
    }
}

impl<'a> Limits<'a> {
    /// The limits of the call now; none where nothing limits it.
    pub(super) fn of(
        context: &'a WorkerContext,
        inbound: &'a InboundCall,
        call: &'a AdmittedCall,
    ) -> Option<Self> {
        Self::of_asker(context, inbound.catalog(), Asker::Delivery(inbound), call)
    }

    /// The limits of a batch that this call leads, by the catalog of its delivery.
    pub(super) fn of_batch(
        context: &'a WorkerContext,
        catalog: &Catalog,
        id: &'a str,
        call: &'a AdmittedCall,
    ) -> Option<Self> {
        Self::of_asker(context, catalog, Asker::Batch(id), call)
    }

    fn of_asker(
        context: &'a WorkerContext,
        catalog: &Catalog,
        asker: Asker<'a>,
        call: &'a AdmittedCall,
    ) -> Option<Self> {
        let tenant = &call.request.key.tenant;
        let (tool, names) = (call.tool.as_deref(), call.subject().tool);
        let limited = Limited { server: &call.server, tool, names, tenant };
        let control = context.gate.control().current();
        let live = Live::new(control.as_deref(), context.gate.control().version(), context.now());
        let limits = limits_of(catalog, live, limited);
        let adaptive = call.adapts();
        (adaptive || !limits.is_empty()).then_some(Self { context, asker, call, limits })
    }

    /// How long a turn may be waited for without its message going back.
    pub(super) fn near_ms(&self) -> u64 {
        if self.asker.is_in_order() { NEAR_IN_ORDER_MS } else { NEAR_MS }
    }

    /// A turn of each rate limit, all at one time, that lies at most `near_ms` ahead. `missed` says that the call had one.
    ///
    /// # Errors
    /// What the call waits for; its message carries its turns.
    pub(super) async fn turns(&self, near_ms: u64, missed: bool) -> Result<Passes, Wait> {
        if self.rates().is_empty() {
            return Ok(Passes::default());
        }
        self.check_lately_full()?;
        self.turns_within(near_ms, missed).await
    }

    /// Turns for one more request of an attempt that is under way and holds its permits.
    ///
    /// # Errors
    /// What it waits for.
    pub(super) async fn more_turns(&self, within: Duration, missed: bool) -> Result<Passes, Wait> {
        self.turns_within(u64::try_from(within.as_millis()).unwrap_or(u64::MAX), missed).await
    }

    async fn turns_within(&self, near_ms: u64, missed: bool) -> Result<Passes, Wait> {
        let rates = self.rates();
        let carried = if missed { Vec::new() } else { self.carried(&rates).await? };
        let (first, own) = if missed { (0, Wish::Again) } else { self.begins_with(&rates) };
        let mut search = TurnSearch::new(rates.len(), first, own);
        let mut next = search.with(carried.iter().map(|(index, turn)| (*index, turn.turn)));
        let mut turns: Vec<_> = carried.into_iter().map(|(_, turn)| turn).collect();
        loop {
            let (index, wish) = match next {
                Next::Found => break,
                Next::Ask(index, wish) => (index, wish),
                Next::AskAnew(index, wish) => {
                    turns.clear();
                    (index, wish)
                }
                Next::Wait(index, at_us) => return Err(self.wait_for_turn_of(&rates, index, at_us)),
            };
            let Some((limit, rate)) = rates.get(index) else { break };
            let grant = match self.ask(limit, *rate, wish).await {
                TurnAnswer::Turn(turn) => {
                    let grant = Grant::Turn(turn.turn);
                    turns.push(turn);
                    grant
                }
                TurnAnswer::Later(at_us) => Grant::Later(at_us),
                TurnAnswer::Taken(at_us) => Grant::Taken(at_us),
                TurnAnswer::Contended => return Err(self.contended(limit, *rate)),
                TurnAnswer::Unknown => return Err(self.unread(&limit.key)),
            };
            next = search.answered(index, grant, us(self.context.now()));
        }
        let last = turns.iter().map(|turn| turn.turn.at()).max().unwrap_or(self.context.now());
        let left_ms = last.ms_since(self.context.now());
        if left_ms > near_ms {
            return Err(self.wait_with(turns, last, left_ms));
        }
        Ok(Passes::of_turns(turns, self.context.now()))
    }

    fn rates(&self) -> Vec<(&ActiveLimit, RateLimit)> {
        self.limits.iter().filter_map(|limit| Some((limit, limit.rate?))).collect()
    }

    /// Whether the turns still count after a long wait in the worker: operators may have changed or added a limit since they were given.
    pub(super) async fn still_has(&self, passes: &Passes) -> bool {
        let rates = self.rates();
        if rates.len() != passes.turns.len() {
            return false;
        }
        for held in &passes.turns {
            let now = rates.iter().find(|(limit, _)| limit.key == *held.limit());
            let Some((limit, rate)) = now else { return false };
            if !self.context.limiter.turns.still_counts(held, *rate, limit.version).await {
                return false;
            }
        }
        true
    }

    /// The turns that the message carries, where they are still some, with the positions of their limits.
    async fn carried(&self, rates: &[(&ActiveLimit, RateLimit)]) -> Result<Vec<(usize, HeldTurn)>, Wait> {
        let Carried::Turn(carried) = self.asker.carried() else { return Ok(Vec::new()) };
        let now = self.context.now();
        let position = |key: &LimitKey| rates.iter().position(|(limit, _)| limit.key == *key);
        if carried.turn.is_none()
            && carried.wake_at.ms_since(now) > 1_000
            && let Some((limit, rate)) = position(&carried.limit).and_then(|index| rates.get(index))
        {
            return Err(self.wait_by_estimate(&limit.key, *rate, carried.wake_at, None));
        }
        let mut turns = Vec::new();
        for (key, turn) in carried.turns().filter(|(_, turn)| turn.at_us >= us(now)) {
            let Some(index) = position(key) else { continue };
            let Some((limit, rate)) = rates.get(index) else { continue };
            let held = self.context.limiter.turns.carried(&limit.key, *rate, limit.version, turn).await;
            turns.extend(held.map(|held| (index, held)));
        }
        Ok(turns)
    }

    /// The limit that the call asks first, and for which turn: that by whose estimate it has waited, or whose turn it had.
    fn begins_with(&self, rates: &[(&ActiveLimit, RateLimit)]) -> (usize, Wish) {
        match self.asker.carried() {
            Carried::Turn(carried) => {
                let first = rates.iter().position(|(limit, _)| limit.key == carried.limit);
                // Whoever comes back with a turn that it has missed is served first, then whoever has waited by an estimate.
                match (first, carried.turn) {
                    (first, Some(_)) => (first.unwrap_or(0), Wish::Again),
                    (Some(first), None) => (first, Wish::Waited),
                    (None, None) => (0, Wish::Next),
                }
            }
            Carried::Nothing if self.asker.has_waited_in_order() => (0, Wish::Again),
            Carried::Nothing | Carried::Poll => (0, Wish::Next),
        }
    }

    async fn ask(&self, limit: &ActiveLimit, rate: RateLimit, wish: Wish) -> TurnAnswer {
        let tenant = self.call.request.key.tenant.clone();
        let control = self.context.gate.control().current();
        let weight = control.map_or(DEFAULT_WEIGHT, |control| control.weight_of(&tenant));
        let ask = Ask { tenant, weight, wish };
        self.context.limiter.turns.ask(&limit.key, rate, limit.version, ask).await
    }

    /// The wait until a second or two before that limit would give a turn.
    fn wait_for_turn_of(&self, rates: &[(&ActiveLimit, RateLimit)], index: usize, at_us: i64) -> Wait {
        let Some((limit, rate)) = rates.get(index) else {
            return self.wait(HeldReason::RateLimit, 1_000, self.names());
        };
        let wake_at = Timestamp::from_ms(wake_us(us(self.context.now()), at_us) / 1_000);
        self.wait_by_estimate(&limit.key, *rate, wake_at, Some(Timestamp::from_ms(at_us / 1_000)))
    }

    /// Counts that the call waits for that part of the limit, in its queue or in the worker.
    pub(super) fn met(&self, limit: &LimitKey, part: LimitPart, requeued: bool) {
        let active = self.limits.iter().find(|active| active.key == *limit);
        let value = active.and_then(|active| match part {
            LimitPart::Rate => active.rate.map(|rate| rate.to_string()),
            LimitPart::Concurrency => active.concurrency.map(|most| most.limit.get().to_string()),
            LimitPart::Adaptive | LimitPart::RetryBudget => None,
        });
        let tenant = &self.call.request.key.tenant;
        let met = LimitMet { key: limit.to_string(), part, value, tenant, requeued };
        self.context.activity.limit_met(met, self.context.now());
        self.context.meters.limit_met(part, requeued);
    }

    /// Counts that the call waits in the worker for the last of its turns, if it does.
    pub(super) fn waits_here(&self, passes: &Passes) {
        let last = passes.turns.iter().max_by_key(|turn| turn.turn.at_us);
        if let Some(turn) = last.filter(|_| wake_at(passes).is_some()) {
            self.met(turn.limit(), LimitPart::Rate, false);
        }
    }

    /// Counts a request that may have been written too late for its turns.
    pub(super) fn sent_late(&self) {
        self.context.meters.sent_late();
        for (limit, rate) in self.rates() {
            let (key, value) = (limit.key.to_string(), rate.to_string());
            self.context.activity.limit_late(&key, value, self.context.now());
        }
    }

    fn names(&self) -> String {
        let rates = self.limits.iter().filter_map(|limit| Some(named(&limit.key, limit.rate?)));
        rates.collect::<Vec<_>>().join(", ")
    }

    /// The wait for turns that are far: the message carries them, and comes back a second or two before.
    fn wait_with(&self, turns: Vec<HeldTurn>, at: Timestamp, left_ms: u64) -> Wait {
        let names: Vec<_> = turns.iter().map(|turn| turn.limit().name()).collect();
        let detail = format!("{}, turn at {at}", names.join(", "));
        // The first has set the time.
        if let Some(first) = turns.first() {
            self.met(first.limit(), LimitPart::Rate, true);
        }
        if at >= self.call.deadline || !self.asker.carries() {
            // They cannot be used; they go back.
            let after_ms = left_ms.min(self.call.deadline.ms_since(self.context.now()));
            return self.wait(HeldReason::RateLimit, after_ms, detail);
        }
        let mut kept = turns.into_iter().map(|turn| (turn.limit().clone(), turn.keep()));
        if let Some((limit, turn)) = kept.next() {
            let (turn, others) = (Some(turn), kept.collect());
            self.asker.carry(CarriedTurn { limit, turn, wake_at: at, others });
        }
        let after_ms = left_ms.saturating_sub(1_000) / 1_000 * 1_000;
        self.wait(HeldReason::RateLimit, after_ms, detail)
    }

    fn wait_by_estimate(
        &self,
        limit: &LimitKey,
        rate: RateLimit,
        wake_at: Timestamp,
        at: Option<Timestamp>,
    ) -> Wait {
        self.met(limit, LimitPart::Rate, true);
        let (limit_key, others) = (limit.clone(), Vec::new());
        self.asker.carry(CarriedTurn { limit: limit_key, turn: None, wake_at, others });
        let left_ms = wake_at.ms_since(self.context.now()).max(1_000);
        let until_deadline_ms = self.call.deadline.ms_since(self.context.now());
        let at = at.map_or_else(String::new, |at| format!(", about {at}"));
        self.wait(
            HeldReason::RateLimit,
            left_ms.min(until_deadline_ms),
            format!("{}{at}", named(limit, rate)),
        )
    }

    /// The wait for a limit at whose row other workers were always faster.
    fn contended(&self, limit: &ActiveLimit, rate: RateLimit) -> Wait {
        self.met(&limit.key, LimitPart::Rate, true);
        let detail = format!("{}, whose row many workers change", named(&limit.key, rate));
        self.wait(HeldReason::RateLimit, fastrand::u64(CONTENDED_MS), detail)
    }

    pub(super) fn unread(&self, limit: &LimitKey) -> Wait {
        let detail = format!("the row of the limit {} cannot be read", limit.name());
        self.wait(HeldReason::AwsError, UNKNOWN_MS, detail)
    }

    pub(super) fn wait(&self, reason: HeldReason, after_ms: u64, detail: String) -> Wait {
        let held = Held::new(reason, Some(self.call.server.id.clone()), self.context.now(), after_ms);
        Wait { after_ms, held: Box::new(held.with_detail(&detail)), silent: false }
    }

    /// For a retry, a call whose turn was missed, or a batch: everything anew, in its slot.
    ///
    /// # Errors
    /// What the call waits for.
    pub(super) async fn again(&self, missed: bool) -> Result<Passes, Wait> {
        let mut passes = self.turns(NEAR_IN_SLOT_MS, missed).await?;
        if let Some(due) = passes.due {
            self.waits_here(&passes);
            sleep_until(due - AHEAD.min(due.saturating_duration_since(Instant::now()))).await;
        }
        let most = if self.call.batch().is_some() { BATCH_PERMIT_WAIT } else { Duration::ZERO };
        let permits = self.permits(&mut passes, most).await;
        permits.map_err(|lack| self.away(lack))?;
        Ok(passes)
    }
}

/// When a call that waits without a slot takes one again.
pub(super) fn wake_at(passes: &Passes) -> Option<Instant> {
    let wake = passes.due?.checked_sub(AHEAD)?;
    (wake > Instant::now()).then_some(wake)
}

fn named(limit: &LimitKey, rate: RateLimit) -> String {
    format!("{} ({rate})", limit.name())
}

const fn us(at: Timestamp) -> i64 {
    at.as_ms().saturating_mul(1_000)
}
