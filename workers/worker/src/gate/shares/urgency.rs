//! What calls of each priority hold of the worker's seats, and which priority is next where one tenant's calls wait.
//!
//! Calls of one tenant share its seats as the queues share the slots: 12 : 4 : 1. A seat must be free when an urgent call comes, so less urgent
//! calls leave some free while a more urgent one was seen lately.

use std::time::Duration;

use toolfleet_core::queue_shares::QueueShares;
use toolfleet_core::request::Priority;

/// For how long after its last call a priority counts as one that may come again, in milliseconds.
const SEEN_MS: u64 = 60_000;

/// How many of something calls of each priority have, the most urgent first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ByPriority([u64; 3]);

/// The seats of a worker by priority.
#[derive(Debug, Default)]
pub(super) struct Urgency {
    held: ByPriority,
    used: QueueShares,
    /// When the last call of each priority came.
    seen_ms: [Option<u64>; 3],
}

const fn index(priority: Priority) -> usize {
    match priority {
        Priority::High => 0,
        Priority::Normal => 1,
        Priority::Low => 2,
    }
}

/// Whether calls of the first priority are before those of the second.
pub(super) const fn is_more_urgent(one: Priority, other: Priority) -> bool {
    index(one) < index(other)
}

impl ByPriority {
    /// One more.
    pub(super) fn add(&mut self, priority: Priority) {
        if let Some(count) = self.0.get_mut(index(priority)) {
            *count = count.saturating_add(1);
        }
    }

    /// One less.
    pub(super) fn remove(&mut self, priority: Priority) {
        if let Some(count) = self.0.get_mut(index(priority)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Those of all priorities.
    pub(super) fn all(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those of this priority and less urgent ones.
    pub(super) fn not_before(&self, priority: Priority) -> u64 {
        self.0.iter().skip(index(priority)).sum()
    }
}

impl Urgency {
    /// A call of that priority came.
    pub(super) fn arrived(&mut self, priority: Priority, now_ms: u64) {
        if let Some(seen) = self.seen_ms.get_mut(index(priority)) {
            *seen = Some(now_ms);
        }
    }

    /// Whether a call that is more urgent came lately, so that seats stay free for the next one.
    pub(super) fn more_urgent_seen(&self, priority: Priority, now_ms: u64) -> bool {
        let lately = |seen: &Option<u64>| seen.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < SEEN_MS);
        self.seen_ms.iter().take(index(priority)).any(lately)
    }

    /// A call of that priority has a seat.
    pub(super) fn started(&mut self, priority: Priority, now_ms: u64) {
        self.held.add(priority);
        self.used.granted(priority, Duration::from_millis(now_ms));
    }

    /// A call of that priority has released its seat.
    pub(super) fn ended(&mut self, priority: Priority, now_ms: u64) {
        self.held.remove(priority);
        self.used.released(priority, Duration::from_millis(now_ms));
    }

    /// The seats of the worker that calls hold.
    pub(super) const fn held(&self) -> &ByPriority {
        &self.held
    }

    /// What calls of that priority use for its weight; the least is next.
    pub(super) fn use_of(&self, priority: Priority) -> f64 {
        self.used.use_of(priority)
    }
}
