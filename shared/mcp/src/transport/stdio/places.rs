//! Allots the places for a server's children, a fair share to each tenant.
//!
//! At the limit an unused child is stopped: of the tenant with the most children the one that was unused for longest. While all are in
//! use, starts wait, and the next place goes to the waiting tenant with the fewest children.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use toolfleet_core::ids::{ServerId, Tenant};

use crate::fault::Fault;
use crate::transport::stdio::child::Child;
use crate::transport::stdio::children::{Children, OfServer, closed, lock};
use crate::transport::stdio::key::Key;

/// A start that waits for a place.
struct Waiting<'a> {
    of: &'a OfServer,
    tenant: &'a Option<Tenant>,
}

impl<'a> Waiting<'a> {
    fn enter(of: &'a OfServer, tenant: &'a Option<Tenant>) -> Self {
        let mut waiting = lock(&of.waiting);
        let count = waiting.entry(tenant.clone()).or_default();
        *count = count.saturating_add(1);
        Self { of, tenant }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.of.waiting);
        if let Some(count) = waiting.get_mut(self.tenant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                waiting.remove(self.tenant);
            }
        }
        drop(waiting);
        self.of.freed.notify_waiters();
    }
}

impl Children {
    /// A place among a server's children, for which an unused one is ended.
    pub(crate) async fn place(&self, of: &OfServer, key: &Key) -> Result<OwnedSemaphorePermit, Fault> {
        let _waiting = Waiting::enter(of, &key.tenant);
        loop {
            let freed = of.freed.notified();
            if self.closed.load(Ordering::Acquire) {
                return Err(closed());
            }
            if self.is_next(of, key) {
                if let Ok(place) = Arc::clone(&of.places).try_acquire_owned() {
                    return Ok(place);
                }
                if let Some(unused) = self.least_missed(&key.server).filter(|child| child.retire_idle()) {
                    unused.gone.cancelled().await;
                    continue;
                }
            }
            // Whoever lets go of a child does not say so here: it is looked at again.
            let _again = timeout(Duration::from_millis(100), freed).await;
        }
    }

    /// Whether no waiting tenant has fewer children of the server.
    fn is_next(&self, of: &OfServer, key: &Key) -> bool {
        let waiting: Vec<_> =
            lock(&of.waiting).keys().filter(|tenant| **tenant != key.tenant).cloned().collect();
        if waiting.is_empty() {
            return true;
        }
        let has = self.by_tenant(&key.server);
        let count = |tenant: &Option<Tenant>| has.get(tenant).copied().unwrap_or(0);
        waiting.iter().all(|other| count(other) >= count(&key.tenant))
    }

    fn by_tenant(&self, server: &ServerId) -> HashMap<Option<Tenant>, usize> {
        let mut has = HashMap::<_, usize>::new();
        for child in lock(&self.all).values().filter(|child| child.server == *server) {
            let count = has.entry(child.key.tenant.clone()).or_default();
            *count = count.saturating_add(1);
        }
        has
    }

    fn least_missed(&self, server: &ServerId) -> Option<Arc<Child>> {
        let has = self.by_tenant(server);
        let all = lock(&self.all);
        let unused = all.values().filter(|child| child.server == *server && child.handshake.get().is_some());
        let unused = unused.filter_map(|child| Some((child.idle_since()?, child)));
        let rank = |since, child: &Child| (has.get(&child.key.tenant).copied(), Reverse(since));
        unused.max_by_key(|(since, child)| rank(*since, child)).map(|(_, child)| Arc::clone(child))
    }
}
