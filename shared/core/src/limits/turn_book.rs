//! The turns of one rate limit: absolute times, none nearer to another than the limit's spacing, given to many workers by one row.
//!
//! A worker asks for several turns in one write. A turn lies at most [`REACH_US`] ahead; a call that gets none waits by an estimate.
//! Calls that have waited so come before those that ask for the first time: those wait behind them, unless a turn is still free a second
//! before its time. Where tenants share the limit, a tenant far ahead takes every second turn at most (more rarely, the more weight
//! others have), so that another tenant finds a free one.
//!
//! **Invariant:** two turns of one book are at least a spacing apart, whatever the clocks of those who ask say.

use std::collections::BTreeMap;

use super::rule::RateLimit;
use super::turn::Turn;
use crate::ids::Tenant;
use crate::state_table::{Decision, StateTable};

/// How far ahead turns are given, in microseconds; four spacings, where that is more.
pub const REACH_US: i64 = 10_000_000;
/// How far ahead a turn is given to whoever asks first; one and a half spacings, where that is more.
pub(super) const SHORT_NOTICE_US: i64 = 1_000_000;
/// The same for a call that has waited by an estimate: longer, so that few of those that come back too early wait again.
const WAITED_NOTICE_US: i64 = 1_750_000;
/// A call that waits by an estimate comes back so long before its time, in microseconds: a delay in the queue is up to a second longer than
/// asked for, and a message is handed out later than it is due.
const WAKE_AHEAD_US: i64 = 2_000_000;
/// A changed limit keeps the turns of so long, in microseconds: workers may not know of the change yet.
pub const CHANGE_KNOWN_US: i64 = 5_000_000;
/// How late a request may be sent after its turn, in microseconds.
pub const LATE_US: i64 = 20_000;
/// The most turns ahead: as many as a limit of 1,000 a second gives within its reach.
const MOST_AHEAD: usize = 10_000;
/// The most runs of turns ahead at equal distances. They are what the row stores, so that it stays within some KiB. A fast limit whose turns are
/// scattered, because tenants share it or turns were given back, reaches less far.
const MOST_RUNS: usize = 250;
/// The most tenants whose clocks are kept.
const MAX_TENANTS: usize = 32;

/// The row of a rate limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnRow {
    /// Grows with each write; the condition of the next one.
    pub rev: u64,
    /// The mark of the write that stored it: two workers that ask the same at the same time would else store the same row, and each would
    /// take it for its own.
    pub mark: u64,
    /// The number of the limit's setting: a turn of another number is void.
    pub epoch: u64,
    /// The limit that it works by.
    pub rate: RateLimit,
    /// The version of the control table by which that is the limit.
    pub version: u64,
    /// When a worker that knows that limit last changed the row.
    pub rate_us: i64,
    /// No turn is given before this time: it follows the past turns.
    pub floor_us: i64,
    /// The turns given that are not past, in order.
    pub ahead: Vec<i64>,
    /// The tenants with turns ahead.
    pub clocks: BTreeMap<Tenant, TenantClock>,
}

/// Where a tenant stands in a shared limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantClock {
    /// Its next turn is not earlier than this, unless it is due shortly.
    pub next_us: i64,
    /// The end of its calls that wait by an estimate.
    pub tail_us: i64,
    /// Its weight.
    pub weight: u32,
}

/// One call that asks for a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whose call it is.
    pub tenant: Tenant,
    /// The tenant's weight, from 1.
    pub weight: u32,
    /// Which turn it wants.
    pub wish: Wish,
}

/// Which turn a call wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// The earliest that its tenant may have, behind those of its calls that wait by an estimate.
    Next,
    /// The earliest that its tenant may have: the call has waited by an estimate, and comes before those that ask for the first time.
    Waited,
    /// The earliest of all: the call had a turn, and missed it through no fault of its own; or its queue cannot say what it waits for.
    Again,
    /// A turn at that time, or so shortly after it that one request serves both, in microseconds: the call has a turn of another limit
    /// then.
    At(i64),
}

impl Wish {
    /// The order in which calls that ask together are served.
    const fn rank(self) -> u8 {
        match self {
            Self::At(_) => 0,
            Self::Again => 1,
            Self::Waited => 2,
            Self::Next => 3,
        }
    }
}

/// What a call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grant {
    /// A turn.
    Turn(Turn),
    /// None. The call would get one at about this time, in microseconds.
    Later(i64),
    /// None at the wished time. The next would be this one, in microseconds; it is not taken.
    Taken(i64),
}

/// Calls that ask together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// Now, in microseconds.
    pub now_us: i64,
    /// A random number, the mark of this write.
    pub mark: u64,
    /// The limit, as this worker knows it.
    pub rate: RateLimit,
    /// The version of the control table that the worker knows.
    pub version: u64,
    /// Whether tenants share the limit.
    pub shared: bool,
    /// Turns that their calls cannot use.
    pub give_back: Vec<Turn>,
    /// The calls, in the order in which they came. Those that have waited are served first. Where there are none, the worker says nothing of the
    /// limit either: what it knows may be old.
    pub asks: Vec<Ask>,
}

/// What a rate limit's row says of the setting by which it gives turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The number of the setting.
    pub epoch: u64,
    /// The limit.
    pub rate: RateLimit,
    /// The version of the control table by which that is the limit.
    pub version: u64,
}

impl Setting {
    /// The setting of that row.
    pub const fn of(row: &TurnRow) -> Self {
        Self { epoch: row.epoch, rate: row.rate, version: row.version }
    }

    /// Whether a turn that a message carries still counts, for a worker that knows the limit as `rate` of that version: a worker that knows
    /// a newer limit, or a lower one, gives the row its setting when it asks, and that makes the turn void.
    pub fn honours(&self, turn: Turn, rate: RateLimit, version: u64) -> bool {
        let changes = version > self.version && rate != self.rate
            || version == self.version && is_lower(rate, self.rate);
        self.epoch == turn.epoch && !changes
    }
}

/// The state table of a rate limit's row.
#[derive(Debug, Clone, Copy)]
pub struct TurnTable;

impl StateTable for TurnTable {
    type Row = TurnRow;
    type Event = Reserve;
    type Effect = Vec<Grant>;
    type Rejection = Vec<Grant>;

    fn decide(seen: Option<&TurnRow>, event: &Reserve) -> Decision<TurnRow, Vec<Grant>, Vec<Grant>> {
        let mut row = seen.cloned().unwrap_or_else(|| TurnRow::new(event));
        if !event.asks.is_empty() {
            row.take_rule(event);
        }
        // First: a turn whose time has passed meanwhile was not used, and none has to keep its distance from it.
        let given_back = row.take_back(&event.give_back);
        row.forget_past(event.now_us);
        let before = (row.ahead.clone(), row.clocks.clone());
        let mut asks: Vec<_> = event.asks.iter().enumerate().collect();
        asks.sort_by_key(|(_, ask)| ask.wish.rank());
        let served = asks.into_iter().map(|(place, ask)| (place, row.serve(ask, event)));
        let mut grants: Vec<_> = served.collect();
        grants.sort_by_key(|(place, _)| *place);
        let grants: Vec<_> = grants.into_iter().map(|(_, grant)| grant).collect();
        let same_setting = seen.is_some_and(|seen| seen.epoch == row.epoch) || event.asks.is_empty();
        let unchanged = !given_back && same_setting && before == (row.ahead.clone(), row.clocks.clone());
        if unchanged {
            return Decision::Leave(grants);
        }
        row.rev = row.rev.saturating_add(1);
        row.mark = event.mark;
        Decision::Write { row: Box::new(row), then: grants }
    }
}

/// Times in order as runs of equal distances: each distance, and how often it follows itself. The first distance is that from zero.
pub fn runs(times: &[i64]) -> Vec<(i64, u32)> {
    let (mut runs, mut before_us): (Vec<(i64, u32)>, _) = (Vec::new(), 0);
    for at_us in times {
        let distance_us = at_us.saturating_sub(before_us);
        before_us = *at_us;
        match runs.last_mut() {
            Some((last_us, count)) if *last_us == distance_us => *count += 1,
            Some(_) | None => runs.push((distance_us, 1)),
        }
    }
    runs
}

/// How far ahead turns of that limit are given, in microseconds.
pub const fn reach_us(rate: RateLimit) -> i64 {
    longer(REACH_US, rate.spacing_us().saturating_mul(4))
}

/// When a call that is to have its turn at about `estimate_us` asks for it.
pub const fn wake_us(now_us: i64, estimate_us: i64) -> i64 {
    longer(now_us.saturating_add(1_000_000), estimate_us.saturating_sub(WAKE_AHEAD_US))
}

/// Whether that limit allows fewer requests than the other in a time.
const fn is_lower(rate: RateLimit, than: RateLimit) -> bool {
    rate.spacing_us() > than.spacing_us()
}

const fn longer(a: i64, b: i64) -> i64 {
    if a > b { a } else { b }
}

impl TurnRow {
    fn new(event: &Reserve) -> Self {
        Self {
            rev: 0,
            mark: event.mark,
            epoch: 1,
            rate: event.rate,
            version: event.version,
            rate_us: event.now_us,
            floor_us: i64::MIN,
            ahead: Vec::new(),
            clocks: BTreeMap::new(),
        }
    }

    /// A worker that knows a newer limit changes the row's. Turns that lie further ahead than all workers need to learn of it are void.
    ///
    /// Of two limits of one version, which workers with different catalogs know, or those that have seen a live limit end and others, the lower
    /// one holds as long as somebody asks by it.
    fn take_rule(&mut self, event: &Reserve) {
        if event.version < self.version {
            return;
        }
        if event.rate == self.rate {
            self.version = event.version;
            self.rate_us = self.rate_us.max(event.now_us);
            return;
        }
        let is_asked_by = event.now_us < self.rate_us.saturating_add(CHANGE_KNOWN_US);
        if event.version == self.version && is_asked_by && !is_lower(event.rate, self.rate) {
            return;
        }
        self.rate = event.rate;
        self.version = event.version;
        self.rate_us = event.now_us;
        self.epoch = self.epoch.saturating_add(1);
        let known_us = event.now_us.saturating_add(CHANGE_KNOWN_US);
        self.ahead.retain(|at_us| *at_us <= known_us);
        self.clocks.clear();
    }

    fn forget_past(&mut self, now_us: i64) {
        let past = self.ahead.partition_point(|at_us| *at_us < now_us);
        if let Some(last_us) = self.ahead.drain(..past).next_back() {
            self.floor_us = self.floor_us.max(last_us.saturating_add(self.rate.spacing_us()));
        }
        self.clocks.retain(|_, clock| clock.next_us > now_us || clock.tail_us > now_us);
    }

    /// Whether any of them was still given: another worker may have found it past.
    fn take_back(&mut self, turns: &[Turn]) -> bool {
        let (epoch, before) = (self.epoch, self.ahead.len());
        self.ahead.retain(|at_us| !turns.contains(&Turn { epoch, at_us: *at_us }));
        self.ahead.len() < before
    }

    /// Whether the row holds no further turn.
    fn is_full(&self) -> bool {
        let many = self.ahead.len() >= MOST_RUNS;
        many && (self.ahead.len() >= MOST_AHEAD || runs(&self.ahead).len() >= MOST_RUNS)
    }

    /// The first time from `from_us` on that is a spacing away from every turn.
    fn first_free_us(&self, from_us: i64) -> i64 {
        let spacing_us = self.rate.spacing_us();
        let mut at_us = from_us.max(self.floor_us);
        for taken_us in &self.ahead {
            if at_us.saturating_add(spacing_us) <= *taken_us {
                break;
            }
            at_us = at_us.max(taken_us.saturating_add(spacing_us));
        }
        at_us
    }

    fn serve(&mut self, ask: &Ask, event: &Reserve) -> Grant {
        let now_us = event.now_us;
        let first_us = self.first_free_us(match ask.wish {
            Wish::Next | Wish::Waited | Wish::Again => now_us,
            Wish::At(at_us) => at_us.max(now_us),
        });
        if let Wish::At(at_us) = ask.wish {
            return if first_us <= at_us.saturating_add(LATE_US / 2) && !self.is_full() {
                self.give(first_us)
            } else {
                Grant::Taken(first_us)
            };
        }
        let within = |ahead_us: i64, at_us: i64| at_us <= now_us.saturating_add(ahead_us);
        let reach_us = reach_us(self.rate);
        let notice_us = if ask.wish == Wish::Waited { WAITED_NOTICE_US } else { SHORT_NOTICE_US };
        let short_us = longer(notice_us, self.rate.spacing_us().saturating_mul(3) / 2);
        let earliest = ask.wish == Wish::Again || !event.shared;
        if self.is_full() {
            return Grant::Later(self.estimate_us(ask, event));
        }
        if ask.wish == Wish::Next {
            self.forget_a_tail_without_calls(ask, first_us, event);
        }
        if within(short_us, first_us) {
            if ask.wish == Wish::Next {
                self.pass_the_tail(ask, first_us, event);
            }
            if ask.wish == Wish::Waited {
                let next_us = first_us.saturating_add(self.rate.spacing_us());
                let clock = self.clock(ask, now_us);
                clock.next_us = clock.next_us.max(next_us);
            }
            return self.give(first_us);
        }
        let tail_us = self.clocks.get(&ask.tenant).map_or(i64::MIN, |clock| clock.tail_us);
        let is_behind = |at_us: i64| ask.wish == Wish::Next && tail_us >= at_us;
        if earliest && within(reach_us, first_us) && !is_behind(first_us) {
            return self.give(first_us);
        }
        // A call that has waited gets its turn shortly before its time: turns far ahead are for tenants whose calls do not wait.
        if !event.shared || ask.wish == Wish::Waited {
            return Grant::Later(self.estimate_us(ask, event));
        }
        let stride_us = self.stride_us(ask);
        let clock_us = self.clocks.get(&ask.tenant).map_or(now_us, |clock| clock.next_us.max(now_us));
        let own_us = self.first_free_us(clock_us);
        if !within(reach_us, own_us) || is_behind(own_us) {
            return Grant::Later(self.estimate_us(ask, event));
        }
        self.clock(ask, now_us).next_us = own_us.saturating_add(stride_us);
        self.give(own_us)
    }

    /// Calls that wait by an estimate may end without asking again. None of them is left where a turn is free at once, or, where tenants share
    /// the limit, where none of them has a turn ahead: then a new call does not wait behind them.
    fn forget_a_tail_without_calls(&mut self, ask: &Ask, first_us: i64, event: &Reserve) {
        let soon_us = event.now_us.saturating_add(self.rate.spacing_us());
        if let Some(clock) = self.clocks.get_mut(&ask.tenant)
            && clock.tail_us > first_us
            && (first_us <= soon_us || (event.shared && clock.next_us <= event.now_us))
        {
            clock.tail_us = first_us;
        }
    }

    /// A turn that is due shortly goes to a new call although others wait: none of them has taken it, so the end of those that wait is nearer
    /// by one.
    fn pass_the_tail(&mut self, ask: &Ask, at_us: i64, event: &Reserve) {
        let stride_us = self.estimate_stride_us(ask, event);
        if let Some(clock) = self.clocks.get_mut(&ask.tenant)
            && clock.tail_us > at_us
        {
            clock.tail_us = clock.tail_us.saturating_sub(stride_us);
        }
    }

    fn give(&mut self, at_us: i64) -> Grant {
        let place = self.ahead.partition_point(|taken_us| *taken_us < at_us);
        self.ahead.insert(place, at_us);
        Grant::Turn(Turn { epoch: self.epoch, at_us })
    }

    /// How far apart the turns of a tenant lie that are not due shortly.
    fn stride_us(&self, ask: &Ask) -> i64 {
        let weight = i64::from(ask.weight.max(1));
        let others = self.clocks.iter().filter(|(tenant, _)| **tenant != ask.tenant);
        let others: i64 = others.map(|(_, clock)| i64::from(clock.weight.max(1))).sum();
        let share = others.saturating_add(weight - 1) / weight;
        self.rate.spacing_us().saturating_mul(1 + share.max(1))
    }

    /// How far apart the estimates of a tenant's calls lie.
    fn estimate_stride_us(&self, ask: &Ask, event: &Reserve) -> i64 {
        let spacing_us = self.rate.spacing_us();
        if event.shared { (self.stride_us(ask) - spacing_us).max(spacing_us) } else { spacing_us }
    }

    /// When a call would get a turn that gets none now: after the turns ahead and its tenant's calls that wait already.
    fn estimate_us(&mut self, ask: &Ask, event: &Reserve) -> i64 {
        let stride_us = self.estimate_stride_us(ask, event);
        // Further turns are of calls whose other limits have none sooner, or of a worker whose clock is ahead. They hold up nobody here.
        let reach_us = event.now_us.saturating_add(reach_us(self.rate));
        let within = self.ahead.partition_point(|at_us| *at_us <= reach_us);
        let last_us = within.checked_sub(1).and_then(|last| self.ahead.get(last));
        let horizon_us = last_us.copied().unwrap_or(event.now_us);
        let clock = self.clock(ask, event.now_us);
        clock.tail_us = clock.tail_us.max(horizon_us).saturating_add(stride_us);
        clock.tail_us
    }

    fn clock(&mut self, ask: &Ask, now_us: i64) -> &mut TenantClock {
        if !self.clocks.contains_key(&ask.tenant) && self.clocks.len() >= MAX_TENANTS {
            let least = |(_, clock): &(&Tenant, &TenantClock)| clock.next_us.max(clock.tail_us);
            let first = self.clocks.iter().min_by_key(least).map(|(tenant, _)| tenant.clone());
            if let Some(first) = first {
                self.clocks.remove(&first);
            }
        }
        let new = TenantClock { next_us: now_us, tail_us: now_us, weight: ask.weight };
        let clock = self.clocks.entry(ask.tenant.clone()).or_insert(new);
        clock.weight = ask.weight;
        clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_carried_turn_counts_until_its_limit_changes() {
        let rate = |count| RateLimit::new(count, 1).unwrap();
        let setting = Setting { epoch: 2, rate: rate(5), version: 7 };
        let turn = |epoch| Turn { epoch, at_us: 1 };
        assert!(setting.honours(turn(2), rate(5), 7));
        assert!(!setting.honours(turn(1), rate(5), 7), "it was given under an earlier limit");
        assert!(!setting.honours(turn(2), rate(9), 8), "this worker knows a newer limit");
        assert!(setting.honours(turn(2), rate(9), 6), "this worker knows an older limit");
        assert!(setting.honours(turn(2), rate(9), 7), "the lower one of the same version holds");
        assert!(!setting.honours(turn(2), rate(3), 7), "this worker knows a lower one");
    }
}
