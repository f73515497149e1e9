//! Which of a worker's queues gets the next free slot. It is the waiting queue that uses the fewest slots for its weight, now and lately.
//!
//! Slots count from the moment they are handed out, so a poll's count too. The slots that a queue has now share out long calls, and what
//! it used in the last seconds (an exponential average with a time constant of [`MEMORY_S`]) shares out short ones. A queue that was idle
//! hoards no credit, and one that had all slots owes nothing for long.
//!
//! **Invariant:** a queue is only compared with queues that wait now, so a free slot never stays free while one waits.

use std::time::Duration;

use crate::request::Priority;

/// Over how many seconds the use of slots is averaged.
pub const MEMORY_S: f64 = 2.0;
/// The largest number of messages that SQS hands out at once.
const BATCH: u32 = 10;
const QUEUES: usize = Priority::ALL.len();

/// The weight of a queue: slot-seconds are shared by it while several queues have a backlog.
pub const fn weight(queue: Priority) -> u32 {
    match queue {
        Priority::High => 12,
        Priority::Normal => 4,
        Priority::Low => 1,
    }
}

/// What each queue uses of a worker's slots. `now` is the time since any fixed instant.
#[derive(Debug, Clone)]
pub struct QueueShares {
    used: [Used; QUEUES],
    at: Duration,
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    slots: u32,
    /// The same, averaged over the last seconds.
    lately: f64,
    /// How many messages the last receive brought.
    last_receive: u32,
}

impl Default for QueueShares {
    fn default() -> Self {
        Self { used: [Used::default(); QUEUES], at: Duration::ZERO }
    }
}

impl QueueShares {
    /// The waiting queue that the next free slot goes to, if any waits.
    pub fn next(&mut self, waits: impl Fn(Priority) -> bool, now: Duration) -> Option<Priority> {
        self.advance(now);
        // Of equal ones the first: that of the higher priority.
        let waiting = Priority::ALL.into_iter().filter(|queue| waits(*queue));
        waiting.min_by(|a, b| self.use_of(*a).total_cmp(&self.use_of(*b)))
    }

    /// What that queue used for its weight when a slot was last handed out or released.
    pub fn use_of(&self, queue: Priority) -> f64 {
        let used = self.of(queue);
        (used.lately + f64::from(used.slots)) / f64::from(weight(queue))
    }

    /// A slot was handed to that queue.
    pub fn granted(&mut self, queue: Priority, now: Duration) {
        self.advance(now);
        let used = self.of_mut(queue);
        used.slots = used.slots.saturating_add(1);
    }

    /// A slot of that queue is free again.
    pub fn released(&mut self, queue: Priority, now: Duration) {
        self.advance(now);
        let used = self.of_mut(queue);
        used.slots = used.slots.saturating_sub(1);
    }

    /// A receive of that queue brought so many messages.
    pub fn received(&mut self, queue: Priority, messages: u32) {
        self.of_mut(queue).last_receive = messages;
    }

    /// How many slots the next receive of that queue may hold, of a worker with `slots` in all. An empty queue's poll holds one; a receive
    /// that brought messages is followed by one of up to twice as many. While another queue has messages, a receive from the low one
    /// holds no more slots than its share.
    pub fn poll_size(&self, queue: Priority, slots: u32) -> u32 {
        let doubled = self.of(queue).last_receive.saturating_mul(2).clamp(1, BATCH);
        let others_busy = || Priority::ALL.into_iter().any(|q| q != queue && self.of(q).last_receive > 0);
        match queue {
            Priority::Low if others_busy() => {
                let all: u32 = Priority::ALL.into_iter().map(weight).sum();
                doubled.min((slots * weight(queue) / all).max(1))
            }
            Priority::High | Priority::Normal | Priority::Low => doubled,
        }
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        if passed > 0.0 {
            let kept = (-passed / MEMORY_S).exp();
            for used in &mut self.used {
                let slots = f64::from(used.slots);
                used.lately = (used.lately - slots).mul_add(kept, slots);
            }
            self.at = now;
        }
    }

    const fn of(&self, queue: Priority) -> &Used {
        let [high, normal, low] = &self.used;
        match queue {
            Priority::High => high,
            Priority::Normal => normal,
            Priority::Low => low,
        }
    }

    const fn of_mut(&mut self, queue: Priority) -> &mut Used {
        let [high, normal, low] = &mut self.used;
        match queue {
            Priority::High => high,
            Priority::Normal => normal,
            Priority::Low => low,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BinaryHeap};

    use proptest::prelude::*;

    use super::*;

    /// Slot-seconds by queue after `seconds` with `slots` slots, where each queue in `calls` always has a backlog of calls of that many ms.
    fn shares_of(slots: u32, calls: &[(Priority, u64)], seconds: u64) -> BTreeMap<Priority, f64> {
        let length: BTreeMap<_, _> = calls.iter().copied().collect();
        let mut shares = QueueShares::default();
        let mut ends = BinaryHeap::new();
        let mut used = BTreeMap::new();
        let (mut free, mut now_ms) = (slots, 0);
        while now_ms < seconds * 1_000 {
            let now = Duration::from_millis(now_ms);
            while free > 0 {
                let queue = shares.next(|q| length.contains_key(&q), now).expect("a queue waits");
                shares.granted(queue, now);
                free -= 1;
                *used.entry(queue).or_insert(0.0) += length[&queue] as f64 / 1_000.0;
                ends.push(std::cmp::Reverse((now_ms + length[&queue], queue)));
            }
            let std::cmp::Reverse((end, queue)) = ends.pop().expect("a call runs");
            now_ms = end;
            shares.released(queue, Duration::from_millis(now_ms));
            free += 1;
        }
        let all: f64 = used.values().sum();
        used.into_iter().map(|(queue, s)| (queue, s / all)).collect()
    }

    #[test]
    fn queues_with_a_backlog_share_slot_seconds_by_weight() {
        for (slots, accepted) in [(22, 0.25), (82, 0.1)] {
            for (high, normal, low) in [(10, 10, 10), (20, 50, 200), (300, 100, 10)] {
                let calls = [(Priority::High, high), (Priority::Normal, normal), (Priority::Low, low)];
                let shares = shares_of(slots, &calls, 30);
                for (queue, expected) in
                    [(Priority::High, 12.0), (Priority::Normal, 4.0), (Priority::Low, 1.0)]
                {
                    let found = shares[&queue] * 17.0;
                    let error = (found - expected).abs() / expected;
                    assert!(
                        error < accepted,
                        "{slots} slots, {calls:?}: {queue:?} has {found:.2} of 17, not {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn low_never_has_less_than_a_twentieth() {
        for slots in [3, 10, 22, 82] {
            for call_ms in [5, 100, 2_000] {
                for low_ms in [5, 100, 2_000] {
                    let calls =
                        [(Priority::High, call_ms), (Priority::Normal, call_ms), (Priority::Low, low_ms)];
                    let low = shares_of(slots, &calls, 10 + call_ms.max(low_ms) / 20)[&Priority::Low];
                    assert!(low >= 0.05, "{slots} slots, calls of {call_ms} ms and {low_ms} ms: {low:.3}");
                }
            }
        }
    }

    #[test]
    fn a_queue_that_was_idle_comes_first_and_hoards_no_credit() {
        let mut shares = QueueShares::default();
        for _ in 0..80 {
            shares.granted(Priority::Low, Duration::ZERO);
        }
        let hour = Duration::from_hours(1);
        let waits = |q| q != Priority::Normal;
        assert_eq!(shares.next(waits, hour), Some(Priority::High));
        // High takes each slot that low frees. Within seconds low gets one again.
        for _ in 0..80 {
            shares.released(Priority::Low, hour);
            shares.granted(Priority::High, hour);
        }
        assert_eq!(shares.next(waits, hour + Duration::from_millis(500)), Some(Priority::High));
        assert_eq!(shares.next(waits, hour + Duration::from_secs(6)), Some(Priority::Low));
    }

    #[test]
    fn the_poll_of_an_empty_queue_holds_one_slot() {
        let mut shares = QueueShares::default();
        for queue in Priority::ALL {
            assert_eq!(shares.poll_size(queue, 82), 1);
        }
        shares.received(Priority::High, 1);
        assert_eq!(shares.poll_size(Priority::High, 82), 2);
        shares.received(Priority::High, 7);
        assert_eq!(shares.poll_size(Priority::High, 82), BATCH);
    }

    #[test]
    fn receives_from_low_are_small_while_another_queue_is_busy() {
        let mut shares = QueueShares::default();
        shares.received(Priority::Low, 10);
        assert_eq!(shares.poll_size(Priority::Low, 82), BATCH);
        shares.received(Priority::Normal, 1);
        assert_eq!(shares.poll_size(Priority::Low, 82), 4);
        assert_eq!(shares.poll_size(Priority::Low, 5), 1);
        shares.received(Priority::Normal, 0);
        assert_eq!(shares.poll_size(Priority::Low, 82), BATCH);
    }

    fn queue() -> impl Strategy<Value = Priority> {
        prop_oneof![Just(Priority::High), Just(Priority::Normal), Just(Priority::Low)]
    }

    proptest! {
        #[test]
        fn a_free_slot_goes_to_a_queue_that_waits_and_to_none_else(
            steps in proptest::collection::vec((queue(), any::<bool>(), 0_u64..5_000), 0..200),
            waiting in proptest::collection::vec(queue(), 0..3),
        ) {
            let (mut shares, mut now) = (QueueShares::default(), Duration::ZERO);
            for (queue, grant, ms) in steps {
                now += Duration::from_millis(ms);
                if grant { shares.granted(queue, now) } else { shares.released(queue, now) }
                let next = shares.next(|q| waiting.contains(&q), now);
                prop_assert_eq!(next.is_some(), !waiting.is_empty());
                prop_assert!(next.is_none_or(|q| waiting.contains(&q)));
            }
        }
    }
}
