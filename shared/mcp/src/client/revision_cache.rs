//! Caches which protocol revision each server speaks, with a TTL.
//!
//! The cache is our own and not `moka`: its expiry follows tokio's clock, which tests pause, and moka's does not.
//!
//! **Invariant:** one caller at a time asks a server (single flight); if it gives up, the next caller asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use toolfleet_core::ids::ServerId;

use crate::endpoint::Endpoint;
use crate::protocol::revision::ProtocolRevision;
use crate::protocol::wire::MODERN;
use crate::transport::discovery::Learned;

/// Servers remembered at once.
const MAX_SERVERS: usize = 10_000;

/// How long an assumption is kept.
const ASSUMED_TTL: Duration = Duration::from_secs(300);

type Slot = Arc<AsyncMutex<Option<(ProtocolRevision, Instant)>>>;

/// What has been learned.
#[derive(Debug)]
pub(crate) struct RevisionCache {
    /// By server and address.
    slots: Mutex<HashMap<ServerId, HashMap<String, Slot>>>,
    ttl: Duration,
}

impl RevisionCache {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { slots: Mutex::new(HashMap::new()), ttl }
    }

    /// The era that is remembered, or what asking finds.
    pub(crate) async fn learn<E, F: Future<Output = Result<Learned, E>>>(
        &self,
        endpoint: &Endpoint,
        ask: impl FnOnce() -> F,
    ) -> Result<ProtocolRevision, E> {
        let slot = self.slot(endpoint);
        let mut known = slot.lock().await;
        if let Some((era, until)) = *known
            && until > Instant::now()
        {
            return Ok(era);
        }
        let Learned { era, answered } = Box::pin(ask()).await?;
        let ttl = if answered { self.ttl } else { self.ttl.min(ASSUMED_TTL) };
        *known = Some((era, after(ttl)));
        if era == ProtocolRevision::Modern {
            tracing::debug!(server = %endpoint.server, version = MODERN, "a server speaks");
        }
        Ok(era)
    }

    /// What was learned otherwise than by asking.
    pub(crate) async fn set(&self, endpoint: &Endpoint, era: ProtocolRevision) {
        *self.slot(endpoint).lock().await = Some((era, after(self.ttl)));
    }

    /// The server contradicted what is remembered.
    pub(crate) async fn forget(&self, endpoint: &Endpoint) {
        *self.slot(endpoint).lock().await = None;
    }

    fn slot(&self, endpoint: &Endpoint) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let url = endpoint.url.as_str();
        if let Some(slot) = slots.get(&endpoint.server).and_then(|addresses| addresses.get(url)) {
            return Arc::clone(slot);
        }
        if slots.values().map(HashMap::len).sum::<usize>() >= MAX_SERVERS {
            slots.retain(|_, addresses| {
                addresses.retain(|_, slot| Arc::strong_count(slot) > 1);
                !addresses.is_empty()
            });
        }
        let addresses = slots.entry(endpoint.server.clone()).or_default();
        Arc::clone(addresses.entry(url.to_owned()).or_default())
    }
}

fn after(ttl: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(ttl).unwrap_or(now)
}
