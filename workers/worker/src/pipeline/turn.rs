//! The step `turn`: a call that has limits gets a turn of each rate limit, and then a permit of each concurrency limit, before it is claimed.
//!
//! A call whose turn lies seconds ahead goes back to the queue with its turn. It comes back a second early and waits here without a slot.
//! Where several rate limits hold, one time is searched at which each has a turn (`turn_search` of the core), and the message carries all of
//! them. All permits are taken after the turn has come, and none is held while another is waited for. A retry asks again for everything.
//!
//! A turn is checked by a monotonic clock right before the request is sent: one that is later than 20 ms is replaced by a new one.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use toolfleet_core::call::{Held, HeldReason};
use toolfleet_core::control::DEFAULT_WEIGHT;
use toolfleet_core::digest::Digest;
use toolfleet_core::fleet::LimitPart;
use toolfleet_core::ids::CallKey;
use toolfleet_core::limits::turn_book::{Ask, Grant, LATE_US, Wish, wake_us};
use toolfleet_core::limits::turn_search::{Next, TurnSearch};
use toolfleet_core::limits::{CarriedTurn, ConcurrencyLimit, LimitKey, OnLoss, RateLimit};
use toolfleet_core::time::Timestamp;

use super::admit::AdmittedCall;
use super::inbound::{Carried, InboundCall};
use super::passes::{HOLD_MARGIN_MS, Passes};
use super::wait::Wait;
use crate::activity::LimitMet;
use crate::context::WorkerContext;
use crate::gate::{
    ActiveLimit, HeldTurn, Limited, Limiter, NoPermit, Patience, PermitWish, TurnAnswer, limits_of,
};

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
/// A permit that is there sooner is counted as no wait: its row is written within this time.
const COUNTED_WAIT: Duration = Duration::from_millis(150);
/// How long a call waits whose limits cannot be read, in milliseconds.
const UNKNOWN_MS: u64 = 2_000;

/// What a call lacks of its limits.
#[derive(Debug, Clone, Copy)]
pub(super) enum Lack<'a> {
    /// No permit of that limit is free.
    Permit(&'a ActiveLimit, ConcurrencyLimit),
    /// The tool's adaptive limit is reached.
    Adaptive,
    /// The limit's row cannot be read.
    Row(&'a ActiveLimit),
}

/// A limit of open requests.
#[derive(Debug, Clone, Copy)]
enum OpenLimit<'a> {
    /// Of this worker at the tool of that name.
    Adaptive(&'a str),
    /// Of the fleet.
    Shared(&'a ActiveLimit, ConcurrencyLimit),
}

/// What limits one call, and who asks.
pub(super) struct Limits<'a> {
    context: &'a WorkerContext,
    inbound: &'a InboundCall,
    call: &'a AdmittedCall,
    limits: Vec<ActiveLimit>,
}

impl<'a> Limits<'a> {
    /// The limits of the call now; none where nothing limits it.
    pub(super) fn of(
        context: &'a WorkerContext,
        inbound: &'a InboundCall,
        call: &'a AdmittedCall,
    ) -> Option<Self> {
        let tenant = &call.request.key.tenant;
        let (tool, tool_name) = (call.tool.as_deref(), call.tool_name());
        let names = call.subject().tool;
        let limited = Limited { server: &call.server, tool, tool_name, names, tenant };
        let control = context.gate.control().current();
        let version = context.gate.control().version();
        let limits = limits_of(inbound.catalog(), control.as_deref(), version, limited);
        let adaptive = call.adapts();
        (adaptive || !limits.is_empty()).then_some(Self { context, inbound, call, limits })
    }

    /// The limits whose permit a call keeps while it is a task of its server.
    pub(super) fn count_tasks(&self) -> impl Iterator<Item = &LimitKey> {
        let counts = |limit: &&ActiveLimit| limit.concurrency.is_some_and(|most| most.count_tasks);
        self.limits.iter().filter(counts).map(|limit| &limit.key)
    }

    /// How long a turn may be waited for without its message going back.
    pub(super) fn near_ms(&self) -> u64 {
        if self.inbound.queue().is_fifo() { NEAR_IN_ORDER_MS } else { NEAR_MS }
    }

    /// A turn of each rate limit, all at one time, that lies at most `near_ms` ahead. `missed` says that the call had one.
    ///
    /// # Errors
    /// What the call waits for; its message carries its turns.
    pub(super) async fn turns(&self, near_ms: u64, missed: bool) -> Result<Passes, Wait> {
        let rates: Vec<_> = self.limits.iter().filter_map(|limit| Some((limit, limit.rate?))).collect();
        if rates.is_empty() {
            return Ok(Passes::default());
        }
        self.check_lately_full()?;
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
                TurnAnswer::Unknown => return Err(self.unread(&limit.key)),
            };
            next = search.answered(index, grant, us(self.context.now()));
        }
        let last = turns.iter().map(|turn| turn.turn.at()).max().unwrap_or(self.context.now());
        let left_ms = last.ms_since(self.context.now());
        if left_ms > near_ms {
            return Err(self.wait_with(turns, last, left_ms));
        }
        let mut passes = Passes::default();
        (passes.first_due, passes.due) =
            (self.due(turns.iter().min_by_key(at)), self.due(turns.iter().max_by_key(at)));
        passes.turns = turns;
        Ok(passes)
    }

    /// A turn is not taken for a call that would find no permit.
    pub(super) fn check_lately_full(&self) -> Result<(), Wait> {
        for limit in &self.limits {
            let Some(most) = limit.concurrency else { continue };
            if self.context.limiter.permits.is_full_lately(&limit.key) {
                return Err(self.away(Lack::Permit(limit, most)));
            }
        }
        Ok(())
    }

    /// The turns that the message carries, where they are still some, with the positions of their limits.
    async fn carried(&self, rates: &[(&ActiveLimit, RateLimit)]) -> Result<Vec<(usize, HeldTurn)>, Wait> {
        let Carried::Turn(carried) = self.inbound.carried() else { return Ok(Vec::new()) };
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
        match self.inbound.carried() {
            Carried::Turn(carried) => {
                let first = rates.iter().position(|(limit, _)| limit.key == carried.limit);
                // Whoever comes back with a turn that it has missed is served first, then whoever has waited by an estimate.
                match (first, carried.turn) {
                    (first, Some(_)) => (first.unwrap_or(0), Wish::Again),
                    (Some(first), None) => (first, Wish::Waited),
                    (None, None) => (0, Wish::Next),
                }
            }
            // A message in a queue that keeps its order carries nothing, and a group has one call at a time. What was received before has waited,
            // and receives count towards its dead-letter queue.
            Carried::Nothing if self.inbound.queue().is_fifo() && self.inbound.receive_count() > 1 => {
                (0, Wish::Again)
            }
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

    /// The time of a turn by the monotonic clock; now, where it has passed.
    fn due(&self, turn: Option<&HeldTurn>) -> Option<Instant> {
        let left_us = turn?.turn.at_us.saturating_sub(us(self.context.now())).max(0);
        Some(Instant::now() + Duration::from_micros(left_us.unsigned_abs()))
    }

    /// A permit of each limit of open requests. Where one has none, those that were taken are released, and that limit is waited for first,
    /// for `most` in all: nothing is held while another limit is waited for. A call with a turn does not wait: its turn would pass.
    ///
    /// # Errors
    /// What has none.
    pub(super) async fn permits(&self, passes: &mut Passes, most: Duration) -> Result<(), Lack<'_>> {
        let until = Instant::now() + if passes.due.is_some() { Duration::ZERO } else { most };
        let adaptive = self.call.tool_name().filter(|_| self.call.adapts()).map(OpenLimit::Adaptive);
        let shared =
            self.limits.iter().filter_map(|limit| Some(OpenLimit::Shared(limit, limit.concurrency?)));
        let limits: Vec<_> = adaptive.into_iter().chain(shared).collect();
        let mut waited_for = 0;
        loop {
            let Err((lacking, lack)) = self.all_permits(passes, &limits, waited_for, until).await else {
                return Ok(());
            };
            passes.release();
            if lacking == waited_for || Instant::now() >= until {
                return Err(lack);
            }
            waited_for = lacking;
        }
    }

    /// The permits of all limits: first the one that may be waited for, then the others as they are.
    ///
    /// # Errors
    /// The position of the limit that has none.
    async fn all_permits<'b>(
        &'b self,
        passes: &mut Passes,
        limits: &[OpenLimit<'b>],
        waited_for: usize,
        until: Instant,
    ) -> Result<(), (usize, Lack<'b>)> {
        let now = Instant::now();
        let others = (0..limits.len()).filter(|position| *position != waited_for);
        for position in std::iter::once(waited_for).chain(others) {
            let Some(limit) = limits.get(position) else { continue };
            let until = if position == waited_for { until } else { now };
            match self.one_permit(passes, *limit, until).await {
                Ok(()) => {}
                Err(lack @ Lack::Row(_)) => return Err((waited_for, lack)),
                Err(lack) => return Err((position, lack)),
            }
        }
        Ok(())
    }

    /// The permit of one limit, now or once it is free.
    async fn one_permit<'b>(
        &'b self,
        passes: &mut Passes,
        limit: OpenLimit<'b>,
        until: Instant,
    ) -> Result<(), Lack<'b>> {
        let Limiter { local, permits, .. } = &self.context.limiter;
        let asked = Instant::now();
        let waited = || asked.elapsed() >= COUNTED_WAIT;
        match limit {
            OpenLimit::Adaptive(tool) => {
                let permit = local.enter(tool, &self.context.clock, until).await;
                passes.adaptive = Some(permit.ok_or(Lack::Adaptive)?);
                if waited() {
                    self.met(&LimitKey::Tool(tool.to_owned()), LimitPart::Adaptive, false);
                }
            }
            OpenLimit::Shared(limit, most) => {
                let patience = self.patience(until.saturating_duration_since(asked));
                match permits.take(&limit.key, self.wish(most), patience).await {
                    Ok(permit) => passes.add_permit(permit, most),
                    Err(NoPermit::Full) => return Err(Lack::Permit(limit, most)),
                    Err(NoPermit::Unknown) => return Err(Lack::Row(limit)),
                }
                if waited() {
                    self.met(&limit.key, LimitPart::Concurrency, false);
                }
            }
        }
        Ok(())
    }

    /// The wait in the queue of a call that lacks something of its limits.
    pub(super) fn away(&self, lack: Lack<'_>) -> Wait {
        match lack {
            Lack::Permit(limit, most) => {
                let most = most.limit.get();
                let permits = &self.context.limiter.permits;
                let away_ms = permits.park(&limit.key, most, self.patience(Duration::ZERO));
                let detail = format!("{} ({most} at once)", limit.key);
                self.met(&limit.key, LimitPart::Concurrency, true);
                self.wait(HeldReason::ConcurrencyLimit, away_ms, detail)
            }
            Lack::Adaptive => {
                let tool = self.call.tool_name().unwrap_or_default();
                let detail = format!("tool:{tool} (adaptive)");
                self.met(&LimitKey::Tool(tool.to_owned()), LimitPart::Adaptive, true);
                self.wait(HeldReason::ConcurrencyLimit, 1_000, detail)
            }
            Lack::Row(limit) => self.unread(&limit.key),
        }
    }

    fn wish(&self, most: ConcurrencyLimit) -> PermitWish {
        let hold_ms = match most.on_loss {
            OnLoss::Hold => self.call.attempt_ms.saturating_add(HOLD_MARGIN_MS),
            OnLoss::Free => self.context.limits.lease_ms(),
        };
        // A permit that passes to a task has an entry of its own.
        let workers = if most.count_tasks { None } else { self.context.limiter.known_workers() };
        PermitWish { name: self.entry(), limit: most.limit.get(), hold_ms, workers }
    }

    fn patience(&self, most: Duration) -> Patience {
        let most_calls = self.context.limits.slots;
        Patience {
            most,
            most_calls,
            is_back: self.inbound.parks > 0,
            workers: self.context.limiter.workers(),
        }
    }

    /// The name of a new entry in a concurrency limit. Each attempt has its own: the server may go on working on an earlier one whose answer
    /// was lost.
    fn entry(&self) -> String {
        let key = &self.call.request.key;
        Digest::of_text(&format!("{key}#{}#{}", self.inbound.nonce(), fastrand::u64(..))).short(16).to_owned()
    }

    /// The name of the entry of the call while it is that task. A call that is sent again may be two tasks of its server at once.
    pub(super) fn task_entry(&self, handle: &str) -> String {
        task_entry(&self.call.request.key, handle)
    }

    /// Counts that the call waits for that part of the limit, in its queue or in the worker.
    fn met(&self, limit: &LimitKey, part: LimitPart, requeued: bool) {
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

    fn names(&self) -> String {
        let rates = self.limits.iter().filter_map(|limit| Some(named(&limit.key, limit.rate?)));
        rates.collect::<Vec<_>>().join(", ")
    }

    /// The wait for turns that are far: the message carries them, and comes back a second or two before.
    fn wait_with(&self, turns: Vec<HeldTurn>, at: Timestamp, left_ms: u64) -> Wait {
        let names: Vec<_> = turns.iter().map(|turn| turn.limit().to_string()).collect();
        let detail = format!("{}, turn at {at}", names.join(", "));
        // The first has set the time.
        if let Some(first) = turns.first() {
            self.met(first.limit(), LimitPart::Rate, true);
        }
        if at >= self.call.deadline || self.inbound.queue().is_fifo() {
            // They cannot be used; they go back.
            let after_ms = left_ms.min(self.call.deadline.ms_since(self.context.now()));
            return self.wait(HeldReason::RateLimit, after_ms, detail);
        }
        let mut kept = turns.into_iter().map(|turn| (turn.limit().clone(), turn.keep()));
        if let Some((limit, turn)) = kept.next() {
            let (turn, others) = (Some(turn), kept.collect());
            self.inbound.carry(Carried::Turn(CarriedTurn { limit, turn, wake_at: at, others }));
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
        self.inbound.carry(Carried::Turn(CarriedTurn { limit: limit_key, turn: None, wake_at, others }));
        let left_ms = wake_at.ms_since(self.context.now()).max(1_000);
        let until_deadline_ms = self.call.deadline.ms_since(self.context.now());
        let at = at.map_or_else(String::new, |at| format!(", about {at}"));
        self.wait(
            HeldReason::RateLimit,
            left_ms.min(until_deadline_ms),
            format!("{}{at}", named(limit, rate)),
        )
    }

    fn unread(&self, limit: &LimitKey) -> Wait {
        let detail = format!("the row of the limit {limit} cannot be read");
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

/// The name of the entry of a call in a concurrency limit while it is that task.
pub(super) fn task_entry(call: &CallKey, handle: &str) -> String {
    Digest::of_text(&format!("{call}#task#{handle}")).short(16).to_owned()
}

/// When a call that waits without a slot takes one again.
pub(super) fn wake_at(passes: &Passes) -> Option<Instant> {
    let wake = passes.due?.checked_sub(AHEAD)?;
    (wake > Instant::now()).then_some(wake)
}

/// Whether a request whose first turn was due then may still be sent.
pub(super) fn is_in_time(due: Instant) -> bool {
    Instant::now().saturating_duration_since(due) <= Duration::from_micros(LATE_US.unsigned_abs())
}

fn named(limit: &LimitKey, rate: RateLimit) -> String {
    format!("{limit} ({rate})")
}

const fn at(turn: &&HeldTurn) -> i64 {
    turn.turn.at_us
}

const fn us(at: Timestamp) -> i64 {
    at.as_ms().saturating_mul(1_000)
}
