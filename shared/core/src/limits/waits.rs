//! Where a call without a permit waits: in the worker's hands, where the next permit of the worker is for it, or in the queue.
//!
//! Neither has a promise of order. Calls that come back from the queue go before those that come first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Timestamp;

/// The shortest wait in the queue, in milliseconds: SQS delays by whole seconds.
const SHORTEST_AWAY_MS: u64 = 1_000;
/// The most calls in the queue that are remembered.
const MOST_PARKED: usize = 10_000;

/// The calls that one worker sent back to the queue, and that are still there.
#[derive(Debug, Clone, Default)]
pub struct ParkedCalls {
    back_at: BinaryHeap<Reverse<Timestamp>>,
}

impl ParkedCalls {
    /// A call goes to the queue until then.
    pub fn add(&mut self, back_at: Timestamp) {
        if self.back_at.len() < MOST_PARKED {
            self.back_at.push(Reverse(back_at));
        }
    }

    /// How many are in the queue now.
    pub fn count(&mut self, now: Timestamp) -> u64 {
        while self.back_at.peek().is_some_and(|Reverse(back_at)| *back_at <= now) {
            self.back_at.pop();
        }
        u64::try_from(self.back_at.len()).unwrap_or(u64::MAX)
    }
}

/// How many calls are before a call that found no permit, and how soon they are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Calls that wait in this worker's hands.
    pub in_hand: u64,
    /// Calls that wait in the queue, where they are before it.
    pub parked: u64,
    /// How long one permit is held, in milliseconds.
    pub hold_ms: u64,
    /// How many workers share the limit.
    pub workers: u32,
    /// The most permits.
    pub limit: u32,
}

impl Ahead {
    /// How long the call waits until it has a permit, in milliseconds, if this worker has its even part of them.
    pub fn estimate_ms(&self) -> u64 {
        let calls = self.in_hand.saturating_add(self.parked).saturating_add(1);
        let shared = calls.saturating_mul(self.hold_ms).saturating_mul(u64::from(self.workers.max(1)));
        shared / u64::from(self.limit.max(1))
    }

    /// How long the call stays in the queue, in milliseconds: three quarters of the estimate, since permits may be held for a shorter
    /// time than before; a second at least.
    pub fn away_ms(&self) -> u64 {
        (self.estimate_ms() / 4 * 3).max(SHORTEST_AWAY_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: Ahead = Ahead { in_hand: 0, parked: 0, hold_ms: 400, workers: 1, limit: 5 };

    #[test]
    fn the_estimate_grows_with_the_calls_ahead_and_the_workers() {
        assert_eq!(AHEAD.estimate_ms(), 80);
        assert_eq!(Ahead { in_hand: 9, workers: 4, ..AHEAD }.estimate_ms(), 3_200);
        assert_eq!(Ahead { in_hand: 9, parked: 90, ..AHEAD }.away_ms(), 6_000);
        assert_eq!(AHEAD.away_ms(), 1_000);
        assert_eq!(
            Ahead { limit: 0, workers: 0, in_hand: u64::MAX, ..AHEAD }.away_ms() % 3,
            0,
            "no overflow"
        );
    }

    #[test]
    fn calls_that_are_back_are_not_ahead() {
        let at = Timestamp::from_ms;
        let mut parked = ParkedCalls::default();
        [3_000, 1_000, 2_000].into_iter().for_each(|ms| parked.add(at(ms)));
        assert_eq!([0, 1_000, 2_500, 9_000].map(|ms| parked.count(at(ms))), [3, 2, 1, 0]);
        (0..20_000).for_each(|_| parked.add(at(10_000)));
        assert_eq!(parked.count(at(9_000)), 10_000, "bounded");
    }
}
