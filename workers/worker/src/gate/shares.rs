//! Shares of the worker's slots: no server and no tenant holds all of them.
//!
//! A worker has `TOOLFLEET_SLOTS` slots for the calls of any one tenant to any one server. An eighth more (one at least) is left to other
//! tenants of that server and to other servers of that tenant, and another eighth to all others. A message's tenant and server
//! are unknown before it is read, so the worker goes on receiving while one of them has its whole share: calls of that one wait for a
//! moment and are then requeued; calls of others run.
//!
//! **Invariant:** a tenant has at most `TOOLFLEET_SLOTS` calls under way at one server; a call waits here no longer than
//! two seconds.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use toolfleet_core::ids::{ServerId, Tenant};

/// How long a call waits at first for a seat, for each slot of the reserve: so that about fifty calls a second go back to the queue while
/// the worker looks for calls of others behind them. Calls that take milliseconds free a seat in that time.
const FIRST_WAIT: Duration = Duration::from_millis(40);
const LONGEST_FIRST_WAIT: Duration = Duration::from_millis(250);
/// After this many calls without a place, and no call of another server or tenant in between, the wait is doubled, so that slow calls
/// are not requeued again and again.
const PATIENCE: u32 = 64;
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// Above this number of servers and tenants, those without calls are removed.
const MANY: usize = 1_000;

/// The shares of a worker.
#[derive(Debug)]
pub struct Shares {
    /// The most calls of one tenant at one server.
    of_pair: usize,
    /// The most calls of one server, and of one tenant.
    of_one: usize,
    servers: Mutex<HashMap<ServerId, OfServer>>,
    tenants: Mutex<HashMap<Tenant, Arc<Semaphore>>>,
    first_wait: Duration,
    /// Calls that found no seat since one found it free.
    refused: AtomicU32,
}

#[derive(Debug)]
struct OfServer {
    seats: Arc<Semaphore>,
    of_tenants: HashMap<Tenant, Arc<Semaphore>>,
}

/// A call's places in the shares, released when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _of_pair: OwnedSemaphorePermit,
    _of_server: OwnedSemaphorePermit,
    _of_tenant: OwnedSemaphorePermit,
}

impl Shares {
    /// Shares of a worker with that many slots for one tenant at one server, and that many more for others of either.
    pub fn new(slots: u32, reserve: u32) -> Self {
        let count = |n: u32| usize::try_from(n).unwrap_or(1).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            of_pair: count(slots),
            of_one: count(slots.saturating_add(reserve)),
            servers: Mutex::default(),
            tenants: Mutex::default(),
            first_wait: (FIRST_WAIT * reserve).min(LONGEST_FIRST_WAIT),
            refused: AtomicU32::new(0),
        }
    }

    /// A place for a call, unless its server or tenant holds its whole share and none of their calls ends soon.
    pub(crate) async fn enter(&self, server: &ServerId, tenant: &Tenant) -> Option<Seat> {
        let refused = self.refused.load(Ordering::Relaxed);
        let until = Instant::now() + (self.first_wait * (1 << (refused / PATIENCE).min(6))).min(LONGEST_WAIT);
        let (of_pair, of_server) = self.of_server(server, tenant);
        let of_tenant = self.of_tenant(tenant);
        let seats = async {
            let (of_pair, first) = take(of_pair, until).await?;
            let (of_server, second) = take(of_server, until).await?;
            let (of_tenant, third) = take(of_tenant, until).await?;
            let seat = Seat { _of_pair: of_pair, _of_server: of_server, _of_tenant: of_tenant };
            Some((seat, first && second && third))
        };
        let seat = seats.await;
        match &seat {
            // It was free: this call is none of those that wait for each other.
            Some((_, true)) if refused > 0 => self.refused.store(0, Ordering::Relaxed),
            Some(_) => {}
            None => self.refused.store(refused.saturating_add(1), Ordering::Relaxed),
        }
        seat.map(|(seat, _)| seat)
    }

    fn of_server(&self, server: &ServerId, tenant: &Tenant) -> (Arc<Semaphore>, Arc<Semaphore>) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if !servers.contains_key(server) {
            if servers.len() >= MANY {
                servers.retain(|_, of_server| is_used(&of_server.seats));
            }
            let seats = Arc::new(Semaphore::new(self.of_one));
            servers.insert(server.clone(), OfServer { seats, of_tenants: HashMap::new() });
        }
        match servers.get_mut(server) {
            Some(of_server) => {
                let of_pair = seats(&mut of_server.of_tenants, tenant, self.of_pair);
                (of_pair, of_server.seats.clone())
            }
            // It was inserted above.
            None => (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1))),
        }
    }

    fn of_tenant(&self, tenant: &Tenant) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        seats(&mut tenants, tenant, self.of_one)
    }
}

fn seats(known: &mut HashMap<Tenant, Arc<Semaphore>>, tenant: &Tenant, most: usize) -> Arc<Semaphore> {
    if let Some(seats) = known.get(tenant) {
        return seats.clone();
    }
    if known.len() >= MANY {
        known.retain(|_, seats| is_used(seats));
    }
    known.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(most))).clone()
}

/// Whoever holds or awaits a seat holds its semaphore.
fn is_used(seats: &Arc<Semaphore>) -> bool {
    Arc::strong_count(seats) > 1
}

/// A seat, and whether it was free.
async fn take(seats: Arc<Semaphore>, until: Instant) -> Option<(OwnedSemaphorePermit, bool)> {
    match seats.clone().try_acquire_owned() {
        Ok(seat) => Some((seat, true)),
        Err(_) => Some((timeout_at(until, seats.acquire_owned()).await.ok()?.ok()?, false)),
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
    async fn who_has_its_share_leaves_room_to_others_of_its_server_and_its_tenant() {
        let shares = Shares::new(2, 1);
        let (crm, erp, acme, globex) = (server("crm"), server("erp"), tenant("acme"), tenant("globex"));
        let first = shares.enter(&crm, &acme).await.unwrap();
        let _second = shares.enter(&crm, &acme).await.unwrap();
        assert!(shares.enter(&crm, &acme).await.is_none(), "the tenant has its share of the server");
        let _other_tenant = shares.enter(&crm, &globex).await.unwrap();
        assert!(shares.enter(&crm, &globex).await.is_none(), "the server has its share");
        let _other_server = shares.enter(&erp, &acme).await.unwrap();
        assert!(shares.enter(&server("hr"), &acme).await.is_none(), "the tenant has its share");
        assert!(shares.enter(&erp, &globex).await.is_some());
        drop(first);
        assert!(shares.enter(&crm, &acme).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_gets_the_seat_that_comes_free_while_it_waits() {
        let shares = Arc::new(Shares::new(1, 1));
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
        let shares = Shares::new(1, 1);
        let (crm, acme) = (server("crm"), tenant("acme"));
        let seat = shares.enter(&crm, &acme).await.unwrap();
        let mut waits = Vec::new();
        for _ in 0..(7 * PATIENCE) {
            let begun = Instant::now();
            assert!(shares.enter(&crm, &acme).await.is_none());
            waits.push(begun.elapsed());
        }
        assert_eq!(waits.iter().take(20).max(), Some(&FIRST_WAIT), "a backlog is passed soon");
        assert!(waits.is_sorted() && waits.last() == Some(&LONGEST_WAIT), "{waits:?}");
        drop(seat);
        assert!(shares.enter(&crm, &acme).await.is_some());
        assert_eq!(shares.refused.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn names_that_nobody_uses_are_forgotten() {
        let shares = Shares::new(1, 1);
        for n in 0..(3 * MANY) {
            shares.enter(&server("crm"), &tenant(&format!("t{n}"))).await.unwrap();
        }
        assert!(shares.tenants.lock().unwrap().len() <= MANY);
        assert!(shares.servers.lock().unwrap()[&server("crm")].of_tenants.len() <= MANY);
    }
}
