//! The rollup of a tool's calls in one minute on one worker: counts by outcome, attempts, durations. Rollups can be added.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::histogram::Histogram;
use super::outcomes::OutcomeCounts;
use crate::ids::{Nonce, WorkerId};
use crate::outcome::OutcomeKind;
use crate::time::Timestamp;

/// Under this name the calls of all tools beyond the busiest are rolled up. No tool can have it.
pub const OTHER_TOOLS: &str = "*";

const MINUTE_MS: i64 = 60_000;

/// A minute, counted from 1970 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Minute(i64);

impl Minute {
    /// The minute of an instant.
    pub const fn of(at: Timestamp) -> Self {
        Self(at.as_ms().div_euclid(MINUTE_MS))
    }

    /// Its first instant.
    pub const fn start(self) -> Timestamp {
        Timestamp::from_ms(self.0.saturating_mul(MINUTE_MS))
    }

    /// The first instant after it.
    pub const fn end(self) -> Timestamp {
        self.plus(1).start()
    }

    /// The minute that is `minutes` later, or earlier.
    #[must_use]
    pub const fn plus(self, minutes: i64) -> Self {
        Self(self.0.saturating_add(minutes))
    }

    /// The first minute of its hour.
    #[must_use]
    pub const fn hour(self) -> Self {
        Self(self.0.div_euclid(60).saturating_mul(60))
    }

    /// The first minute of the day after.
    #[must_use]
    pub const fn next_day(self) -> Self {
        Self(self.0.div_euclid(1_440).saturating_add(1).saturating_mul(1_440))
    }

    /// Its day as `2026-11-21`.
    pub fn day(self) -> String {
        self.start().to_string().chars().take(10).collect()
    }

    /// Its hour and minute in that day, as `09:30`.
    pub fn time(self) -> String {
        self.start().to_string().chars().skip(11).take(5).collect()
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}T{}", self.day(), self.time())
    }
}

/// The calls of one tool that ended within a period.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollup {
    /// How they ended.
    #[serde(rename = "o", default, skip_serializing_if = "OutcomeCounts::is_empty")]
    pub calls: OutcomeCounts,
    /// Their attempts.
    #[serde(rename = "a", default)]
    pub attempts: u64,
    /// Calls that were given a stored answer.
    #[serde(rename = "h", default, skip_serializing_if = "is_zero")]
    pub cached: u64,
    /// Calls that asked for a stored answer and were not given one.
    #[serde(rename = "m", default, skip_serializing_if = "is_zero")]
    pub cache_misses: u64,
    /// Calls that were sent in a batch.
    #[serde(rename = "b", default, skip_serializing_if = "is_zero")]
    pub batched: u64,
    /// Batches in which they were sent.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero")]
    pub batches: u64,
    /// From a call's first claim to its end, waits between attempts included. A call that was never claimed is not in it.
    #[serde(rename = "l", default, skip_serializing_if = "Histogram::is_empty")]
    pub duration: Histogram,
}

const fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Rollup {
    /// Counts a call that has ended.
    pub fn add(&mut self, outcome: OutcomeKind, attempts: u32, duration_us: Option<u64>) {
        self.calls.add(outcome);
        self.attempts = self.attempts.saturating_add(u64::from(attempts));
        if let Some(us) = duration_us {
            self.duration.add(us);
        }
    }

    /// Counts whether a call that asked for a stored answer was given one.
    pub const fn add_cache_use(&mut self, given: bool) {
        let count = if given { &mut self.cached } else { &mut self.cache_misses };
        *count = count.saturating_add(1);
    }

    /// Counts a call that was sent in a batch; each batch is counted with its first call.
    pub const fn add_batched(&mut self, first: bool) {
        self.batched = self.batched.saturating_add(1);
        self.batches = self.batches.saturating_add(if first { 1 } else { 0 });
    }

    /// Calls that needed no request of their own: stored answers, and all but the first of each batch.
    pub const fn saved(&self) -> u64 {
        self.cached.saturating_add(self.batched.saturating_sub(self.batches))
    }

    /// Adds the calls of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.calls.merge(&other.calls);
        self.attempts = self.attempts.saturating_add(other.attempts);
        self.cached = self.cached.saturating_add(other.cached);
        self.cache_misses = self.cache_misses.saturating_add(other.cache_misses);
        self.batched = self.batched.saturating_add(other.batched);
        self.batches = self.batches.saturating_add(other.batches);
        self.duration.merge(&other.duration);
    }
}

/// Minutes whose rollups a worker could not write before it died: counts of these minutes are too low.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostMinutes {
    /// The worker.
    pub worker: WorkerId,
    /// Its process.
    pub boot: Nonce,
    /// The first minute without a rollup.
    pub from: Minute,
    /// The last one.
    pub to: Minute,
    /// How many calls of these minutes it had reported; it may have ended more.
    pub calls: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rollup() -> impl Strategy<Value = Rollup> {
        let call = (0..3_usize, 1..4_u32, prop::option::of(0..10_000_000_u64));
        prop::collection::vec(call, 0..20).prop_map(|calls| {
            let mut rollup = Rollup::default();
            for (kind, attempts, duration_us) in calls {
                let kind = [OutcomeKind::Succeeded, OutcomeKind::Failed, OutcomeKind::ToolError][kind];
                rollup.add(kind, attempts, duration_us);
                rollup.add_cache_use(attempts == 1);
                rollup.add_batched(attempts == 2);
            }
            rollup
        })
    }

    proptest! {
        #[test]
        fn the_order_in_which_rollups_are_added_does_not_matter(a in rollup(), b in rollup(), c in rollup()) {
            let sum = |all: &[&Rollup]| {
                let mut sum = Rollup::default();
                all.iter().for_each(|one| sum.merge(one));
                sum
            };
            let whole = sum(&[&a, &b, &c]);
            prop_assert_eq!(&whole, &sum(&[&c, &a, &b]));
            prop_assert_eq!(&whole, &sum(&[&sum(&[&b, &c]), &a]));
            prop_assert_eq!(whole.calls.total(), a.calls.total() + b.calls.total() + c.calls.total());
        }

        #[test]
        fn a_stored_rollup_is_read_back(a in rollup()) {
            let text = serde_json::to_string(&a).unwrap();
            prop_assert_eq!(serde_json::from_str::<Rollup>(&text).unwrap(), a);
        }
    }

    #[test]
    fn a_rollup_of_an_earlier_version_has_no_cache_counts() {
        let earlier: Rollup = serde_json::from_str(r#"{"o":{"succeeded":2},"a":2}"#).unwrap();
        assert_eq!((earlier.calls.total(), earlier.cache_misses, earlier.saved()), (2, 0, 0));
        assert_eq!(serde_json::to_string(&earlier).unwrap(), r#"{"o":{"succeeded":2},"a":2}"#);
    }

    #[test]
    fn all_but_the_first_call_of_a_batch_and_stored_answers_are_saved() {
        let mut rollup = Rollup::default();
        rollup.add_cache_use(true);
        rollup.add_cache_use(false);
        for first in [true, false, false] {
            rollup.add_batched(first);
        }
        assert_eq!((rollup.batched, rollup.batches, rollup.saved()), (3, 1, 3));
    }

    #[test]
    fn a_minute_has_a_day_an_hour_and_a_time() {
        let at = Timestamp::parse("2026-11-21T09:30:59.999Z").unwrap();
        let minute = Minute::of(at);
        assert_eq!((minute.to_string().as_str(), minute.day().as_str()), ("2026-11-21T09:30", "2026-11-21"));
        assert_eq!(minute.hour().to_string(), "2026-11-21T09:00");
        assert_eq!(minute.plus(-31).time(), "08:59");
        assert_eq!(minute.end().ms_since(at), 1);
    }
}
