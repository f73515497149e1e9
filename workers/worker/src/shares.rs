//! Shares of the worker's slots: no server and no tenant holds all of them.
//!
//! A worker has `TOOLFLEET_SLOTS` slots for the calls of any one server or any one tenant, and an eighth more (one at least) that are left
//! to others. Nobody knows a message's tenant and server before it is read, so the worker goes on receiving while one of them has its
//! share: what belongs to that one waits for a moment, then goes back to the queue; what belongs to another runs.
//!
//! **Invariant:** a server or tenant has at most `TOOLFLEET_SLOTS` calls under way; a call waits here no longer than [`LONGEST_WAIT`].

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use toolfleet_core::ids::{ServerId, Tenant};

/// How long a call waits at first for a seat of its server and tenant. Calls that take milliseconds free one in that time.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait: while one server hangs, the worker looks for calls of others this often.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// So many servers and tenants are remembered without a look at which of them are in use.
const MANY: usize = 1_000;

/// The shares of a worker.
#[derive(Debug)]
pub struct Shares {
    most: usize,
    servers: Seats<ServerId>,
    tenants: Seats<Tenant>,
    /// Calls in a row that found no seat.
    refused: AtomicU32,
}

/// The seats of each name.
#[derive(Debug)]
struct Seats<K>(Mutex<HashMap<K, Arc<Semaphore>>>);

/// A call's seats among those of its server and its tenant, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _tenant: OwnedSemaphorePermit,
    _server: OwnedSemaphorePermit,
}

impl Shares {
    /// Shares of a worker with that many slots.
    pub fn new(slots: u32) -> Self {
        let most = usize::try_from(slots).unwrap_or(1).clamp(1, Semaphore::MAX_PERMITS);
        let (servers, tenants) = (Seats(Mutex::default()), Seats(Mutex::default()));
        Self { most, servers, tenants, refused: AtomicU32::new(0) }
    }

    /// A seat for a call, unless its server or tenant has its share and none of their calls ends soon.
    pub(crate) async fn enter(&self, server: &ServerId, tenant: &Tenant) -> Option<Seat> {
        let refused = self.refused.load(Ordering::Relaxed);
        let until = Instant::now() + (FIRST_WAIT * (1 << refused.min(3))).min(LONGEST_WAIT);
        let of_tenant = self.tenants.of(tenant, self.most);
        let of_server = self.servers.of(server, self.most);
        let seats = async {
            let tenant = take(of_tenant, until).await?;
            let server = take(of_server, until).await?;
            Some(Seat { _tenant: tenant, _server: server })
        };
        let seat = seats.await;
        match &seat {
            Some(_) if refused > 0 => self.refused.store(0, Ordering::Relaxed),
            Some(_) => {}
            None => self.refused.store(refused.saturating_add(1), Ordering::Relaxed),
        }
        seat
    }
}

async fn take(seats: Arc<Semaphore>, until: Instant) -> Option<OwnedSemaphorePermit> {
    match seats.clone().try_acquire_owned() {
        Ok(seat) => Some(seat),
        Err(_) => timeout_at(until, seats.acquire_owned()).await.ok()?.ok(),
    }
}

impl<K: Hash + Eq + Clone> Seats<K> {
    fn of(&self, name: &K, most: usize) -> Arc<Semaphore> {
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = seats.get(name) {
            return known.clone();
        }
        if seats.len() >= MANY {
            // Whoever holds or awaits a seat holds its semaphore.
            seats.retain(|_, of_name| Arc::strong_count(of_name) > 1);
        }
        seats.entry(name.clone()).or_insert_with(|| Arc::new(Semaphore::new(most))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: &str) -> ServerId {
        ServerId::parse(id).unwrap()
    }

    fn tenant(id: &str) -> Tenant {
        Tenant::parse(id).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_and_a_tenant_hold_their_share_and_others_go_on() {
        let shares = Shares::new(2);
        let (crm, erp, acme, globex) = (server("crm"), server("erp"), tenant("acme"), tenant("globex"));
        let first = shares.enter(&crm, &acme).await.unwrap();
        let _second = shares.enter(&crm, &globex).await.unwrap();
        assert!(shares.enter(&crm, &tenant("initech")).await.is_none(), "the server has its share");
        let _third = shares.enter(&erp, &acme).await.unwrap();
        assert!(shares.enter(&server("hr"), &acme).await.is_none(), "the tenant has its share");
        assert!(shares.enter(&server("hr"), &tenant("initech")).await.is_some());
        drop(first);
        assert!(shares.enter(&crm, &acme).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_gets_the_seat_that_comes_free_while_it_waits() {
        let shares = Arc::new(Shares::new(1));
        let (crm, acme) = (server("crm"), tenant("acme"));
        let seat = shares.enter(&crm, &acme).await.unwrap();
        let waiting = shares.enter(&crm, &acme);
        let free = async {
            tokio::time::sleep(FIRST_WAIT / 2).await;
            drop(seat);
        };
        assert!(tokio::join!(waiting, free).0.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn looks_for_others_become_rarer_while_none_comes() {
        let shares = Shares::new(1);
        let (crm, acme) = (server("crm"), tenant("acme"));
        let seat = shares.enter(&crm, &acme).await.unwrap();
        let mut waits = Vec::new();
        for _ in 0..6 {
            let begun = Instant::now();
            assert!(shares.enter(&crm, &acme).await.is_none());
            waits.push(begun.elapsed());
        }
        assert_eq!(waits.first(), Some(&FIRST_WAIT));
        assert!(waits.is_sorted() && waits.last() == Some(&LONGEST_WAIT), "{waits:?}");
        drop(seat);
        assert!(shares.enter(&crm, &acme).await.is_some());
        assert_eq!(shares.refused.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn names_that_nobody_uses_are_forgotten() {
        let shares = Shares::new(1);
        for n in 0..(3 * MANY) {
            shares.enter(&server("crm"), &tenant(&format!("t{n}"))).await.unwrap();
        }
        assert!(shares.tenants.0.lock().unwrap().len() <= MANY);
    }
}
