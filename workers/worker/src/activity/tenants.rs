//! For how long the calls of each tenant have had a slot.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::ids::Tenant;

use super::lock::lock;

/// The slot time of so long is reported.
const WINDOW: Duration = Duration::from_secs(60);
/// The most tenants; the calls of others are counted together.
const MOST_TENANTS: usize = 10_000;

/// The slot time of the tenants of a worker.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    known: RwLock<HashMap<Tenant, Arc<Use>>>,
    others: Arc<Use>,
}

/// The slot time of one tenant.
#[derive(Debug, Default)]
struct Use(Mutex<Slots>);

#[derive(Debug, Default)]
struct Slots {
    running: u32,
    /// When `running` changed or was last added up.
    changed: Option<Instant>,
    total: Duration,
    /// The totals at earlier looks, the oldest first.
    seen: VecDeque<(Instant, Duration)>,
}

/// The call of a tenant has a slot while this is held.
#[derive(Debug)]
pub(crate) struct SlotTime(Arc<Use>);

impl Tenants {
    pub(super) fn working(&self, tenant: &Tenant) -> SlotTime {
        let used = self.of(tenant);
        lock(&used.0).change(1, Instant::now());
        SlotTime(used)
    }

    /// The slot time of each tenant within about the last minute, in milliseconds, and that of all others. Forgets tenants without any.
    pub(crate) fn slot_ms(&self, now: Instant) -> (BTreeMap<Tenant, u64>, u64) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut all = BTreeMap::new();
        known.retain(|tenant, used| {
            let ms = lock(&used.0).look(now);
            if ms > 0 {
                all.insert(tenant.clone(), ms);
            }
            // Whoever uses it holds it.
            ms > 0 || Arc::strong_count(used) > 1
        });
        (all, lock(&self.others.0).look(now))
    }

    fn of(&self, tenant: &Tenant) -> Arc<Use> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(used) = known.get(tenant) {
            return used.clone();
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_TENANTS && !known.contains_key(tenant) {
            return self.others.clone();
        }
        known.entry(tenant.clone()).or_default().clone()
    }
}

impl Slots {
    fn add_up(&mut self, now: Instant) {
        if let Some(changed) = self.changed {
            let since = now.saturating_duration_since(changed);
            self.total = self.total.saturating_add(since.saturating_mul(self.running));
        }
        self.changed = Some(now);
    }

    fn change(&mut self, by: i32, now: Instant) {
        self.add_up(now);
        if self.seen.is_empty() {
            self.seen.push_back((now, Duration::ZERO));
        }
        self.running = self.running.saturating_add_signed(by);
    }

    /// The time within the window, in milliseconds.
    fn look(&mut self, now: Instant) -> u64 {
        self.add_up(now);
        while self.seen.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.seen.pop_front();
        }
        let before = self.seen.front().map_or(Duration::ZERO, |(_, total)| *total);
        self.seen.push_back((now, self.total));
        u64::try_from(self.total.saturating_sub(before).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for SlotTime {
    fn drop(&mut self) {
        lock(&self.0.0).change(-1, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(id: &str) -> Tenant {
        Tenant::parse(id).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn slot_time_counts_also_for_calls_that_still_run() {
        let tenants = Tenants::default();
        let (first, _second) = (tenants.working(&tenant("acme")), tenants.working(&tenant("acme")));
        let look = || tenants.slot_ms(Instant::now()).0.get(&tenant("acme")).copied();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(look(), Some(10_000));
        drop(first);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(look(), Some(15_000));
        for _ in 0..20 {
            tokio::time::advance(Duration::from_secs(5)).await;
            look();
        }
        assert_eq!(look(), Some(60_000), "one slot for the whole window");
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_without_slot_time_is_forgotten() {
        let tenants = Tenants::default();
        drop(tenants.working(&tenant("acme")));
        let used = tenants.working(&tenant("globex"));
        assert!(tenants.slot_ms(Instant::now()).0.is_empty());
        assert_eq!(tenants.known.read().unwrap().len(), 1, "globex has a call");
        drop(used);
        tenants.slot_ms(Instant::now());
        assert!(tenants.known.read().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_beyond_the_bound_are_counted_together() {
        let tenants = Tenants::default();
        let held: Vec<_> =
            (0..MOST_TENANTS + 2).map(|n| tenants.working(&tenant(&format!("t{n}")))).collect();
        tokio::time::advance(Duration::from_secs(1)).await;
        let (all, others_ms) = tenants.slot_ms(Instant::now());
        assert_eq!((all.len(), others_ms), (MOST_TENANTS, 2_000));
        drop(held);
    }
}
