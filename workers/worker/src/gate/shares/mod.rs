//! Shares of the worker's slots: no server and no tenant holds all of them, and a part stays free for tenants below their share.
//!
//! A worker has `TOOLFLEET_SLOTS` slots for the calls of any one tenant to any one server, and a quarter more for others: an eighth (the
//! reserve, one slot at least) for other tenants of that server and other servers of that tenant, and another eighth for all others. A
//! tenant above its max-min fair share may not take the last free slots, as many as the reserve. A message's tenant and server are unknown
//! before it is read, so these slots must be free before another tenant's call comes. Only where no other tenant was seen for a minute, in
//! this worker or in the fleet's summary, a tenant may take them all.
//!
//! The calls of one tenant share its seats by their priority, as the queues share the slots; while more urgent calls come, less urgent ones
//! leave as many seats free as the reserve (`urgency`).
//!
//! A call without a seat waits for a moment, or longer where no other tenant was seen and few calls wait. Of those that wait, the call of
//! the tenant with the smallest virtual time is next. A call whose own tenant fills the worker goes back to the queue within a budget
//! ([`LookBudget`]), which also paces the receives then.
//!
//! A call whose turn of a limit has come has a seat at once, beyond the shares too: its turn would pass.
//!
//! **Invariant:** calls that are in no turn have at most `TOOLFLEET_SLOTS` seats of one tenant at one server; a call waits here no longer than
//! two seconds.

#[cfg(test)]
mod flood_tests;
mod table;
#[cfg(test)]
mod tests;
mod urgency;
#[cfg(test)]
mod urgency_tests;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};
use toolfleet_core::fairness::{SlotUse, TenantUse};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::request::Priority;

use table::{Caller, Full, Line, Table};

/// The receivers of a queue while one tenant's calls fill the worker. Each asks for single messages then, at the pace of the looks. With one
/// receiver, the way to SQS and back would be the pace.
pub(crate) const RECEIVERS_WHEN_FULL: u32 = 2;

/// How long a call waits at first for a seat, for each slot of the reserve: so that about fifty calls a second go back to the queue while
/// the worker looks for calls of others behind them. Calls that take milliseconds free a seat in that time.
const FIRST_WAIT: Duration = Duration::from_millis(40);
const LONGEST_FIRST_WAIT: Duration = Duration::from_millis(250);
/// After this many calls without a place, and no call of another server or tenant in between, the wait is doubled, so that slow calls
/// are not requeued again and again.
const PATIENCE: u32 = 64;
/// The longest wait. A message that waits hidden counts as in flight, and its tenant as noisy, so it is short.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The shares of a worker.
#[derive(Debug)]
pub struct Shares {
    inner: Arc<Inner>,
    first_wait: Duration,
    /// Calls that found no seat since one found it free.
    refused: AtomicU32,
}

#[derive(Debug)]
struct Inner {
    table: Mutex<Table>,
    begun: Instant,
    /// Rung when a receive may be due earlier than it was told.
    released: Notify,
}

/// A call's places in the shares, released when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    inner: Arc<Inner>,
    server: ServerId,
    tenant: Tenant,
    priority: Priority,
}

/// A message in the worker's hands.
#[derive(Debug)]
pub(crate) struct InHand {
    inner: Arc<Inner>,
    counted: bool,
}

/// Why a call has no seat.
#[derive(Debug)]
pub(crate) struct NoSeat {
    /// What holds the seats that it needs, as a sentence.
    pub(crate) detail: String,
    /// No other tenant was seen, so the call waits for nothing but the end of calls of its own tenant.
    pub(crate) alone: bool,
}

/// A call in the line for a seat; it leaves the line when dropped.
struct InLine<'a> {
    inner: &'a Arc<Inner>,
    number: u64,
    caller: Caller<'a>,
    over: bool,
}

impl Shares {
    /// Shares of a worker with that many slots for one tenant at one server, and twice the reserve more for others.
    pub fn new(slots: u32, reserve: u32) -> Self {
        let table = Mutex::new(Table::new(slots, reserve));
        Self {
            inner: Arc::new(Inner { table, begun: Instant::now(), released: Notify::new() }),
            first_wait: (FIRST_WAIT * reserve).min(LONGEST_FIRST_WAIT),
            refused: AtomicU32::new(0),
        }
    }

    /// A place for a call of a tenant of that weight, unless its server or tenant holds its whole share and none of their calls ends soon.
    ///
    /// # Errors
    /// What holds the seats that the call needs.
    pub(crate) async fn enter(
        &self,
        server: &ServerId,
        tenant: &Tenant,
        weight: u32,
        priority: Priority,
    ) -> Result<Seat, NoSeat> {
        let caller = Caller { server, tenant, priority };
        let refused = self.refused.load(Ordering::Relaxed);
        let (mut line, granted, full) = {
            let now_ms = self.inner.now_ms();
            let mut table = self.inner.lock();
            match table.arrive(caller, weight, now_ms) {
                Ok(()) => {
                    drop(table);
                    if refused > 0 {
                        // It was free: this call is none of those that wait for each other.
                        self.refused.store(0, Ordering::Relaxed);
                    }
                    self.inner.released.notify_waiters();
                    return Ok(self.seat(caller));
                }
                Err(full) => {
                    let (sender, granted) = oneshot::channel();
                    let number = table.wait(caller, sender);
                    let line = InLine { inner: &self.inner, number, caller, over: false };
                    (line, granted, (full, table.line_of(full, caller)))
                }
            }
        };
        let wait = match full {
            (Full::Tenant, Line::Long) => Duration::ZERO,
            (Full::Tenant | Full::Others, _) | (Full::Server | Full::Alone, Line::Short) => LONGEST_WAIT,
            (Full::Server | Full::Alone, Line::Long) => {
                (self.first_wait * (1 << (refused / PATIENCE).min(6))).min(LONGEST_WAIT)
            }
        };
        let _elapsed = timeout_at(Instant::now() + wait, granted).await.is_err();
        if line.take() {
            return Ok(self.seat(caller));
        }
        self.refused.store(refused.saturating_add(1), Ordering::Relaxed);
        let (own_tenant, alone) = (full.0 == Full::Tenant, full.0 == Full::Alone);
        let detail = self.inner.lock().goes_back(server, tenant, own_tenant, self.inner.now_ms());
        Err(NoSeat { detail, alone })
    }

    /// A place for a call whose turn has come: beyond the shares too. The worker's slots bound how many there are.
    pub(crate) fn enter_in_turn(
        &self,
        server: &ServerId,
        tenant: &Tenant,
        weight: u32,
        priority: Priority,
    ) -> Seat {
        let caller = Caller { server, tenant, priority };
        self.inner.lock().enter_in_turn(caller, weight, self.inner.now_ms());
        self.seat(caller)
    }

    /// How many messages to receive now from the queue of that priority, of `wanted`. It waits until at least one is due. While no tenant
    /// fills the worker, or only one with less urgent calls, it is all of them at once. [`Shares::received`] has to follow.
    pub(crate) async fn pace(&self, wanted: usize, priority: Priority) -> usize {
        loop {
            let mut released = std::pin::pin!(self.inner.released.notified());
            released.as_mut().enable();
            let now_ms = self.inner.now_ms();
            let due_ms = match self.inner.lock().receive(wanted, priority, now_ms) {
                Ok(count) => return count,
                Err(due_ms) => due_ms,
            };
            let until = self.inner.begun + Duration::from_millis(due_ms.max(now_ms.saturating_add(1)));
            let _elapsed = timeout_at(until, released).await.is_err();
        }
    }

    /// Learns how many messages a receive returned, of those it asked for; none where it failed.
    pub(crate) fn received(&self, asked: usize, got: Option<usize>, priority: Priority) {
        self.inner.lock().received(asked, got, priority);
    }

    /// Counts a received message as one on its way to a seat, until the guard is dropped.
    pub(crate) fn in_hand(&self) -> InHand {
        let mut in_hand = InHand { inner: self.inner.clone(), counted: false };
        in_hand.count();
        in_hand
    }

    /// Whether receives from the queue of that priority are paced: one tenant's calls fill the worker, and they are as urgent.
    pub(crate) fn paces(&self, priority: Priority) -> bool {
        self.inner.lock().paces(priority, self.inner.now_ms())
    }

    /// Whether one tenant's calls fill the worker.
    pub(crate) fn is_full(&self) -> bool {
        self.inner.lock().is_full(self.inner.now_ms())
    }

    /// The slots of the worker, as they are for a call of that tenant to that server; all of them free where `open` is false.
    pub(crate) fn slots(&self, server: &ServerId, tenant: &Tenant, open: bool) -> SlotUse {
        let slots = self.inner.lock().slots(server, tenant);
        if open { slots } else { SlotUse { free: slots.all, ..slots } }
    }

    /// Uses these figures of the fleet from now on.
    pub fn take_fleet_use(&self, used: TenantUse) {
        self.inner.lock().take_fleet_use(used, self.inner.now_ms());
    }

    fn seat(&self, Caller { server, tenant, priority }: Caller<'_>) -> Seat {
        Seat { inner: self.inner.clone(), server: server.clone(), tenant: tenant.clone(), priority }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn release(&self, caller: Caller<'_>) {
        self.lock().release(caller, self.now_ms());
        self.released.notify_waiters();
    }
}

impl InLine<'_> {
    /// Leaves the line. True where the call was given a seat.
    fn take(&mut self) -> bool {
        self.over = true;
        !self.inner.lock().leave(self.number, self.caller.tenant, self.inner.now_ms())
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if !self.over && self.take() {
            self.inner.release(self.caller);
        }
    }
}

impl InHand {
    /// Counts the message as one that has a seat or will ask for one.
    pub(crate) fn count(&mut self) {
        if !self.counted {
            self.inner.lock().in_hand += 1;
            self.counted = true;
        }
    }

    /// Counts it no longer, while it waits for something else than a seat.
    pub(crate) fn uncount(&mut self) {
        if self.counted {
            let mut table = self.inner.lock();
            table.in_hand = table.in_hand.saturating_sub(1);
            self.counted = false;
        }
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.uncount();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self { server, tenant, priority, .. } = self;
        self.inner.release(Caller { server, tenant, priority: *priority });
    }
}
