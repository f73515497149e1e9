//! Counts what the worker does: deliveries, slots, requests, ended calls. The reporter makes the worker's row and the rollups of it.
//!
//! A call costs a few uncontended locks, and no allocation where its tool, server and tenant were seen before. Everything here has a bound
//! and is lost with the process.

mod limits;
mod lock;
mod rollups;
mod servers;
mod tenants;
mod tools;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_catalog::Catalog;
use toolfleet_core::batch::leads_batch;
use toolfleet_core::call::CallRow;
use toolfleet_core::fleet::OutcomeCounts;
use toolfleet_core::ids::{Nonce, ServerId, Tenant};
use toolfleet_core::request::Target;
use toolfleet_core::time::Timestamp;

pub(crate) use limits::LimitMet;
use limits::Limits;
use lock::lock;
pub(crate) use rollups::{DueRollup, GivenUp, Places};
pub(crate) use servers::Request;
use servers::Servers;
pub(crate) use tenants::SlotTime;
use tenants::Tenants;
use tools::{Ended, Tools};

/// The most delayed messages that are remembered; the budget of those that go back for a slot is far below.
const MOST_LACKING: usize = 10_000;

/// What one worker process does.
#[derive(Debug)]
pub struct Activity {
    /// The process.
    pub boot: Nonce,
    /// When it started.
    pub started_at: Timestamp,
    busy: Count,
    in_hand: Count,
    long: Count,
    calls: Mutex<OutcomeCounts>,
    held: Mutex<BTreeMap<&'static str, u64>>,
    queues: Mutex<BTreeMap<String, QueueCount>>,
    pub(crate) tools: Tools,
    pub(crate) servers: Servers,
    pub(crate) tenants: Tenants,
    pub(crate) limits: Limits,
    /// When messages are visible again that lacked a slot.
    lacking: Mutex<Vec<Instant>>,
}

/// What was received from one queue since the start, and the longest wait since it was last asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueueCount {
    pub(crate) received: u64,
    pub(crate) oldest_ms: Option<u64>,
}

impl Activity {
    /// Of a process that starts now.
    pub fn new(boot: Nonce, started_at: Timestamp) -> Self {
        Self {
            boot,
            started_at,
            busy: Count::default(),
            in_hand: Count::default(),
            long: Count::default(),
            calls: Mutex::default(),
            held: Mutex::default(),
            queues: Mutex::default(),
            tools: Tools::default(),
            servers: Servers::default(),
            tenants: Tenants::default(),
            limits: Limits::default(),
            lacking: Mutex::default(),
        }
    }

    /// A slot is taken while the guard is held. A call that waits for a turn without its slot holds none.
    pub(crate) fn slot(&self) -> Counted {
        self.busy.one()
    }

    /// A delivery is in the worker's hands while the guard is held.
    pub(crate) fn delivery(&self) -> Counted {
        self.in_hand.one()
    }

    /// A delivery has been in the worker's hands for long, and is while the guard is held.
    pub(crate) fn long_call(&self) -> Counted {
        self.long.one()
    }

    /// Deliveries that have been in the worker's hands for long.
    pub fn long_calls(&self) -> u32 {
        self.long.now()
    }

    /// How long the process has run, in milliseconds.
    pub(crate) fn age_ms(&self, now: Timestamp) -> u64 {
        now.ms_since(self.started_at)
    }

    /// Slots that are taken.
    pub(crate) fn busy(&self) -> u32 {
        self.busy.now()
    }

    /// Deliveries in the worker's hands.
    pub(crate) fn in_hand(&self) -> u32 {
        self.in_hand.now()
    }

    /// A message of that queue was received; it had waited for `waited_ms` if this is its first receive.
    pub(crate) fn received(&self, queue: &str, waited_ms: Option<u64>) {
        let mut queues = lock(&self.queues);
        if !queues.contains_key(queue) {
            queues.insert(queue.to_owned(), QueueCount::default());
        }
        if let Some(count) = queues.get_mut(queue) {
            count.received = count.received.saturating_add(1);
            count.oldest_ms = count.oldest_ms.max(waited_ms);
        }
    }

    /// A call went back to its queue.
    pub(crate) fn requeued(&self, reason: &'static str) {
        let mut held = lock(&self.held);
        let count = held.entry(reason).or_default();
        *count = count.saturating_add(1);
    }

    /// A message goes back for the lack of a slot, and is delayed for `after_ms`.
    pub(crate) fn lacks_slot(&self, after_ms: u64) {
        let (now, mut lacking) = (Instant::now(), lock(&self.lacking));
        if lacking.len() >= MOST_LACKING {
            lacking.retain(|visible| *visible > now);
        }
        if lacking.len() < MOST_LACKING {
            lacking.push(now + Duration::from_millis(after_ms));
        }
    }

    /// Messages that lacked a slot and are still delayed.
    pub(crate) fn lacking_slot(&self) -> u64 {
        let (now, mut lacking) = (Instant::now(), lock(&self.lacking));
        lacking.retain(|visible| *visible > now);
        u64::try_from(lacking.len()).unwrap_or(u64::MAX)
    }

    /// The worker has stored the end of a call, which asked for a stored answer or not.
    pub(crate) fn ended(
        &self,
        catalog: &Catalog,
        target: &Target,
        (row, asked): (&CallRow, bool),
        now: Timestamp,
    ) {
        let Some(finished) = &row.finished else {
            return;
        };
        let outcome = finished.outcome.kind;
        lock(&self.calls).add(outcome);
        let duration_us = row.started_at.map(|at| finished.at.ms_since(at).saturating_mul(1_000));
        let ended = Ended {
            outcome,
            attempts: row.attempts,
            duration_us,
            batched: finished.outcome.source.batch().map(|id| leads_batch(id, &row.key.call_id)),
            cached: asked.then(|| finished.outcome.source.cached_from().is_some()),
            at: finished.at,
            now,
        };
        self.tools.ended(catalog, target, ended);
    }

    /// The call of a tenant has a slot while the guard is held.
    pub(crate) fn working(&self, tenant: &Tenant) -> SlotTime {
        self.tenants.working(tenant)
    }

    /// A request to a server is under way until the guard is told how it ended, or dropped.
    pub(crate) fn request(&self, server: &ServerId) -> Request {
        self.servers.request(server)
    }

    /// A limit makes a call wait.
    pub(crate) fn limit_met(&self, met: LimitMet<'_>, now: Timestamp) {
        self.limits.met(met, now);
    }

    /// A request of that rate limit may have been written too late for its turn.
    pub(crate) fn limit_late(&self, key: &str, value: String, now: Timestamp) {
        self.limits.late(key, value, now);
    }

    /// Calls that ended since the start.
    pub(crate) fn calls(&self) -> OutcomeCounts {
        *lock(&self.calls)
    }

    /// Calls that went back to their queue since the start, by reason.
    pub(crate) fn held(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.held).clone()
    }

    /// What was received since the start, and the longest wait since the last time this was asked.
    pub(crate) fn take_queues(&self) -> BTreeMap<String, QueueCount> {
        let mut queues = lock(&self.queues);
        let taken = queues.clone();
        queues.values_mut().for_each(|count| count.oldest_ms = None);
        taken
    }
}

/// A number of things that are there now.
#[derive(Debug, Clone, Default)]
struct Count(Arc<AtomicU32>);

/// One of them.
#[derive(Debug)]
pub(crate) struct Counted(Count);

impl Count {
    fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_message_lacks_a_slot_until_it_is_visible_again() {
        let activity = Activity::new(Nonce::from_random(1), Timestamp::from_ms(0));
        (0..MOST_LACKING + 5).for_each(|_| activity.lacks_slot(1_000));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(activity.lacking_slot(), MOST_LACKING as u64);
        tokio::time::advance(Duration::from_millis(500)).await;
        activity.lacks_slot(3_000);
        assert_eq!(activity.lacking_slot(), 1);
    }

    #[test]
    fn the_longest_wait_is_that_since_the_last_look() {
        let activity = Activity::new(Nonce::from_random(1), Timestamp::from_ms(0));
        for waited_ms in [Some(5), Some(9), None] {
            activity.received("calls", waited_ms);
        }
        let first = activity.take_queues();
        assert_eq!((first["calls"].received, first["calls"].oldest_ms), (3, Some(9)));
        let second = activity.take_queues();
        assert_eq!((second["calls"].received, second["calls"].oldest_ms), (3, None));
        let (slot, _delivery) = (activity.slot(), activity.delivery());
        assert_eq!((activity.busy(), activity.in_hand()), (1, 1));
        drop(slot);
        assert_eq!((activity.busy(), activity.in_hand()), (0, 1));
    }
}
