//! A rate that operators change live, among workers that learn of it at different times: five seconds after a change no turn is used by the rate
//! before it.
//!
//! The model is that of a worker: it reads the control table every two seconds, waits up to three seconds for a turn in hand, checks the turn again
//! where that took longer than 2.8 s, and lets the message carry a turn that is further. What it has read of the limit's row counts for two seconds.

use std::collections::BTreeMap;

use proptest::prelude::*;
use toolfleet_core::limits::turn_book::{Grant, Setting, Wish, wake_us};
use toolfleet_core::limits::{RateLimit, Turn};

use super::{Book, START_US};

const S_US: i64 = 1_000_000;
const WORKERS: usize = 4;
/// How often a worker reads the control table, and for how long what it has read of the limit's row counts.
const BEAT_US: i64 = 2 * S_US;
/// How long a worker waits for a turn in hand, for how long it trusts one, and how long before it the call takes its slot.
const NEAR_US: i64 = 3 * S_US;
const TRUSTED_US: i64 = 2_800_000;
const AHEAD_US: i64 = 200_000;
/// A change is known in every worker after so long.
const KNOWN_US: i64 = 5 * S_US;

/// What operators have set from some time on: a rate, or something that is not of this limit.
#[derive(Debug, Clone, Copy)]
struct Change {
    at_us: i64,
    rate: RateLimit,
}

/// What a call does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A worker receives it.
    Received { worker: usize, carried: Option<Turn>, wish: Wish },
    /// It has waited for its turn.
    Woken { worker: usize, turn: Turn, begun_us: i64 },
}

struct Fleet {
    /// The changes; the position is the version.
    changes: Vec<Change>,
    book: Book,
    /// What each worker has read of the row, and when.
    settings: [Option<(Setting, i64)>; WORKERS],
    steps: BTreeMap<(i64, usize), Step>,
    planned: usize,
    used: Vec<i64>,
}

impl Fleet {
    fn new(changes: Vec<Change>) -> Self {
        let book = Book::new(&changes[0].rate.to_string(), true);
        Self {
            changes,
            book,
            settings: [None; WORKERS],
            steps: BTreeMap::new(),
            planned: 0,
            used: Vec::new(),
        }
    }

    fn plan(&mut self, at_us: i64, step: Step) {
        self.planned += 1;
        self.steps.insert((at_us, self.planned), step);
    }

    /// The rate that a worker knows, and its version.
    fn known(&self, worker: usize, now_us: i64) -> (RateLimit, u64) {
        let phase_us = START_US + i64::try_from(worker).unwrap() * 617_000;
        let read_us = phase_us + (now_us - phase_us).div_euclid(BEAT_US) * BEAT_US;
        let version = self.changes.partition_point(|change| change.at_us <= read_us).max(1) - 1;
        (self.changes[version].rate, version as u64)
    }

    fn honours(&mut self, worker: usize, turn: Turn, now_us: i64) -> bool {
        let (rate, version) = self.known(worker, now_us);
        let read = self.settings[worker].filter(|(_, read_us)| now_us - read_us < BEAT_US);
        let setting = match read {
            Some((setting, _)) => setting,
            None => {
                let Some(row) = &self.book.row else { return false };
                let setting = Setting::of(row);
                self.settings[worker] = Some((setting, now_us));
                setting
            }
        };
        setting.honours(turn, rate, version)
    }

    fn run(&mut self) {
        while let Some(((now_us, call), step)) = self.steps.pop_first() {
            match step {
                Step::Received { worker, carried, wish } => {
                    let carried =
                        carried.filter(|turn| turn.at_us >= now_us && self.honours(worker, *turn, now_us));
                    match carried {
                        Some(turn) => self.waits(now_us, worker, turn),
                        None => self.asks(now_us, worker, call, wish),
                    }
                }
                Step::Woken { worker, turn, begun_us } => {
                    if now_us - begun_us < TRUSTED_US || self.honours(worker, turn, now_us) {
                        self.used.push(turn.at_us);
                    } else {
                        self.asks(now_us, worker, call, Wish::Again);
                    }
                }
            }
        }
        self.used.sort_unstable();
    }

    fn asks(&mut self, now_us: i64, worker: usize, call: usize, wish: Wish) {
        (self.book.rate, self.book.version) = self.known(worker, now_us);
        let tenant = ["acme", "blue"][call % 2];
        let grant = self.book.one(now_us, tenant, wish);
        self.settings[worker] = self.book.row.as_ref().map(|row| (Setting::of(row), now_us));
        // Messages come back to any worker.
        let next = (worker + call) % WORKERS;
        match grant {
            Grant::Turn(turn) if turn.at_us - now_us <= NEAR_US => self.waits(now_us, worker, turn),
            Grant::Turn(turn) => {
                let after_us = (turn.at_us - now_us - S_US) / S_US * S_US;
                let step = Step::Received { worker: next, carried: Some(turn), wish: Wish::Again };
                self.plan(now_us + after_us, step);
            }
            Grant::Later(at_us) | Grant::Taken(at_us) => {
                let step = Step::Received { worker: next, carried: None, wish: Wish::Waited };
                self.plan(wake_us(now_us, at_us), step);
            }
        }
    }

    fn waits(&mut self, now_us: i64, worker: usize, turn: Turn) {
        let wake_us = now_us.max(turn.at_us - AHEAD_US);
        self.plan(wake_us, Step::Woken { worker, turn, begun_us: now_us });
    }

    /// The highest rate in effect at some time of that period: one that was replaced is in effect until every worker knows.
    fn highest(&self, from_us: i64, to_us: i64) -> usize {
        let until = |n: usize| self.changes.get(n + 1).map_or(i64::MAX, |next| next.at_us + KNOWN_US);
        let in_effect = self.changes.iter().enumerate();
        let in_effect = in_effect.filter(|(n, change)| change.at_us <= to_us && until(*n) >= from_us);
        in_effect.map(|(_, change)| change.rate.count() as usize).max().unwrap_or(0)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// `None` changes something else of the control table, such as the limit's concurrency: the version grows, and the rate stays.
    #[test]
    fn a_lowered_rate_binds_five_seconds_after_its_change(
        first in 1..20_u32,
        changes in prop::collection::vec((500_000..15_000_000_i64, prop::option::weighted(0.7, 1..20_u32)), 1..8),
        calls in prop::collection::vec((0..400_000_i64, 0..WORKERS), 50..400),
    ) {
        let rate = |count: u32| RateLimit::new(count, 1).unwrap();
        let mut all = vec![Change { at_us: 0, rate: rate(first) }];
        for (after_us, count) in changes {
            let last = all[all.len() - 1];
            let at_us = last.at_us.max(START_US) + after_us;
            all.push(Change { at_us, rate: count.map_or(last.rate, rate) });
        }
        let mut fleet = Fleet::new(all);
        let (mut now_us, sent) = (START_US, calls.len());
        for (gap_us, worker) in calls {
            now_us += gap_us;
            fleet.plan(now_us, Step::Received { worker, carried: None, wish: Wish::Next });
        }
        fleet.run();
        prop_assert_eq!(fleet.used.len(), sent, "every call has its turn");
        for (position, at_us) in fleet.used.iter().enumerate() {
            let within = fleet.used[..=position].iter().filter(|used| **used > at_us - S_US).count();
            let allowed = fleet.highest(at_us - S_US, *at_us);
            prop_assert!(within <= allowed, "{within} turns in the second until {at_us}, of {allowed}");
        }
    }
}
