//! Allots the places for a server's connections, a fair share to each tenant.
//!
//! At the limit an unused channel is stopped: of the tenant with the most channels the one that was unused for longest. While all are in
//! use, starts wait, and the next place goes to the waiting tenant with the fewest channels.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use toolfleet_core::ids::Tenant;

use crate::fault::Fault;
use crate::transport::channels::channel::Channel;
use crate::transport::channels::key::Key;
use crate::transport::channels::table::{Channels, OfServer, closed, lock};

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

impl Channels {
    /// A place among a server's channels, for which an unused one is ended.
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
                if let Some(unused) = self.least_missed(key).filter(|channel| channel.retire_idle()) {
                    unused.gone.cancelled().await;
                    continue;
                }
            }
            // Whoever lets go of a channel does not say so here: it is looked at again.
            let _again = timeout(Duration::from_millis(100), freed).await;
        }
    }

    /// Whether no waiting tenant has fewer channels of the server.
    fn is_next(&self, of: &OfServer, key: &Key) -> bool {
        let waiting: Vec<_> =
            lock(&of.waiting).keys().filter(|tenant| **tenant != key.tenant).cloned().collect();
        if waiting.is_empty() {
            return true;
        }
        let has = self.by_tenant(key);
        let count = |tenant: &Option<Tenant>| has.get(tenant).copied().unwrap_or(0);
        waiting.iter().all(|other| count(other) >= count(&key.tenant))
    }

    fn by_tenant(&self, key: &Key) -> HashMap<Option<Tenant>, usize> {
        let mut has = HashMap::<_, usize>::new();
        for channel in lock(&self.all).values().filter(|channel| channel.key.is_beside(key)) {
            let count = has.entry(channel.key.tenant.clone()).or_default();
            *count = count.saturating_add(1);
        }
        has
    }

    fn least_missed(&self, key: &Key) -> Option<Arc<Channel>> {
        let has = self.by_tenant(key);
        let all = lock(&self.all);
        let unused =
            all.values().filter(|channel| channel.key.is_beside(key) && channel.handshake.get().is_some());
        let unused = unused.filter_map(|channel| Some((channel.idle_since()?, channel)));
        let rank = |since, channel: &Channel| (has.get(&channel.key.tenant).copied(), Reverse(since));
        unused.max_by_key(|(since, channel)| rank(*since, channel)).map(|(_, channel)| Arc::clone(channel))
    }
}
