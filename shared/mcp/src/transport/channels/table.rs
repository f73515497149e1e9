//! The connections that a client keeps: the table of slots, and the state that the connections of one server share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use toolfleet_core::ids::{ServerId, Tenant};

use crate::fault::{Fault, NotSentCause};
use crate::protocol::revision::ProtocolRevision;
use crate::transport::channels::channel::Channel;
use crate::transport::channels::handshake::Greeter;
use crate::transport::channels::key::{Key, Kind};
use crate::transport::channels::restarts::Restarts;
use crate::transport::http::requests::Transport;

/// What was up for so long has not failed to start.
const PROBATION: Duration = Duration::from_secs(10);

/// How many channels there may be, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Programs of one server.
    pub(crate) max_programs: usize,
    /// Connections to one server that is no program.
    pub(crate) max_connections: usize,
    pub(crate) idle: Duration,
    pub(crate) start_within: Duration,
    pub(crate) max_message_bytes: u64,
}

impl Limits {
    /// How many connections of that kind one server may have.
    pub(crate) fn most(&self, kind: Kind) -> usize {
        match kind {
            Kind::Program => self.max_programs.max(1),
            Kind::Connection => self.max_connections.max(1),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Phase {
    Starting,
    Up(Arc<Channel>),
    Failed(Fault),
}

/// What is known of one key.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) mark: u64,
    pub(crate) phase: watch::Receiver<Phase>,
}

/// What the channels of one server have in common.
#[derive(Debug)]
pub(crate) struct OfServer {
    pub(crate) places: Arc<Semaphore>,
    pub(crate) freed: Arc<Notify>,
    /// How many starts of each tenant wait for a place.
    pub(crate) waiting: Mutex<HashMap<Option<Tenant>, usize>>,
    /// By tenant: what ends over one tenant's data may run well for another.
    restarts: Mutex<HashMap<Option<Tenant>, Restarts>>,
    /// What it speaks, of the registration with that mark.
    pub(crate) era: Mutex<Option<(u64, ProtocolRevision)>>,
}

/// All channels of a client.
#[derive(Debug)]
pub(crate) struct Channels {
    pub(crate) limits: Limits,
    pub(crate) transport: Transport,
    pub(crate) greeter: Greeter,
    pub(crate) serials: AtomicU64,
    pub(crate) slots: Mutex<HashMap<Key, Slot>>,
    pub(crate) servers: Mutex<HashMap<(ServerId, Kind), Arc<OfServer>>>,
    pub(crate) all: Mutex<HashMap<u64, Arc<Channel>>>,
    pub(crate) closed: AtomicBool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OfServer {
    /// The pause that is left before that tenant's programs are started again.
    pub(crate) fn pause(&self, tenant: &Option<Tenant>) -> Duration {
        lock(&self.restarts).get(tenant).map(Restarts::pause).unwrap_or_default()
    }

    /// What a call is told that does not wait for the end of the pause; nothing where nothing failed.
    pub(crate) fn away(&self, tenant: &Option<Tenant>) -> Option<String> {
        let restarts = lock(&self.restarts);
        let of_tenant = restarts.get(tenant)?;
        let ((failures, why), s) = (of_tenant.failures(), of_tenant.pause().as_secs());
        Some(format!("it failed {failures} times in a row and is tried again in {s} s; the last time: {why}"))
    }

    pub(crate) fn failed(&self, tenant: &Option<Tenant>, why: String) {
        lock(&self.restarts).entry(tenant.clone()).or_default().failed(why);
    }

    fn went_well(&self, tenant: &Option<Tenant>) {
        lock(&self.restarts).remove(tenant);
    }
}

impl Channels {
    pub(crate) fn of_server(&self, key: &Key) -> Arc<OfServer> {
        let mut servers = lock(&self.servers);
        let most = self.limits.most(key.kind);
        let fresh = || OfServer {
            places: Arc::new(Semaphore::new(most)),
            freed: Arc::default(),
            waiting: Mutex::default(),
            restarts: Mutex::default(),
            era: Mutex::default(),
        };
        Arc::clone(servers.entry((key.server.clone(), key.kind)).or_insert_with(|| Arc::new(fresh())))
    }

    /// Takes a started channel into the list of those to be ended.
    pub(crate) fn enlist(&self, channel: &Arc<Channel>) -> Result<(), Fault> {
        let mut all = lock(&self.all);
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        all.insert(channel.serial, Arc::clone(channel));
        Ok(())
    }

    /// Forgets a channel that is gone.
    pub(crate) fn strike_off(&self, key: &Key, channel: &Channel, by_itself: bool) {
        lock(&self.all).remove(&channel.serial);
        self.forget(key, channel.serial);
        let of = self.of_server(key);
        if channel.handshake.get().is_some() {
            // A server may end what it has served; a program is expected to stay.
            let of_use = channel.has_served() && key.kind == Kind::Connection;
            let early = by_itself && channel.born.elapsed() < PROBATION && !of_use;
            if early {
                // What it wrote last may be of one caller's call, and all of the tenant are told this.
                of.failed(&key.tenant, "it ended soon after its start".to_owned());
            } else {
                of.went_well(&key.tenant);
            }
        }
        of.freed.notify_waiters();
    }

    pub(crate) fn forget(&self, key: &Key, serial: u64) {
        let mut slots = lock(&self.slots);
        let is_it =
            |slot: &Slot| matches!(&*slot.phase.borrow(), Phase::Up(channel) if channel.serial == serial);
        if slots.get(key).is_some_and(is_it) {
            slots.remove(key);
        }
    }

    pub(crate) fn retire(&self, meant: impl Fn(&Key) -> bool) {
        lock(&self.slots).retain(|key, slot| {
            if !meant(key) {
                return true;
            }
            if let Phase::Up(channel) = &*slot.phase.borrow() {
                channel.retire();
            }
            false
        });
    }

    pub(crate) fn end_all(&self) -> Vec<Arc<Channel>> {
        self.closed.store(true, Ordering::Release);
        let all: Vec<_> = lock(&self.all).values().cloned().collect();
        for channel in &all {
            channel.end(Fault::AnswerLost { detail: "the worker ends".to_owned() });
        }
        all
    }
}

pub(crate) fn closed() -> Fault {
    Fault::NotSent {
        detail: "nothing is started any more: the worker ends".to_owned(),
        cause: NotSentCause::Answer,
    }
}
