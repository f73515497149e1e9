//! Owns which child a call gets: one for each server, tenant and conversation, started when it is first needed. Programs that keep
//! nothing of a conversation are shared by those of one tenant ([`super::shared`]).
//!
//! A server has a bounded number of children ([`super::places`]). A child whose registration or secrets have changed gets no new calls and ends when it is unused.
//!
//! **Invariant:** two tenants or two environments never share a child, nor do two conversations unless the catalog says that the program
//! keeps nothing of them.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{sleep, timeout};
use toolfleet_core::fault::{Fault, NotSentCause, RetryClass};
use toolfleet_core::ids::{ServerId, Tenant};

use super::child::{Child, Lease};
use super::greet::Greeter;
use super::program::Program;
use super::restarts::Restarts;
use super::start::{NotUp, Wanted};
use super::supervise::STOP_WITHIN;
use crate::endpoint::Endpoint;
use crate::era::ProtocolRevision;

/// How long a call waits for a program that is to be started again, rather than to say that it is away.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// How long a start waits for a place among a server's children.
const PLACE_WITHIN: Duration = Duration::from_secs(60);
/// A program that ran for so long has not failed to start.
const PROBATION: Duration = Duration::from_secs(10);

/// How many children there may be, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_children: usize,
    pub(crate) idle: Duration,
    pub(crate) start_within: Duration,
    pub(crate) max_line_bytes: u64,
}

/// Whose child it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) server: ServerId,
    pub(super) tenant: Option<Tenant>,
    pub(super) user: User,
}

/// Who shares a child within a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum User {
    /// One conversation has it for itself.
    Conversation(String),
    /// All calls that need none of their own; where there are several of such children, the one of that number.
    All(usize),
}

impl Key {
    /// Whether no other conversation shares the child.
    pub(super) const fn is_one_conversation(&self) -> bool {
        matches!(self.user, User::Conversation(_))
    }

    fn is_of(&self, conversation: &str) -> bool {
        matches!(&self.user, User::Conversation(own) if own == conversation)
    }
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Starting,
    Up(Arc<Child>),
    Failed(Fault),
}

/// What is known of one key.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) mark: u64,
    pub(super) phase: watch::Receiver<Phase>,
}

/// What the children of one server have in common.
#[derive(Debug)]
pub(super) struct OfServer {
    pub(super) places: Arc<Semaphore>,
    pub(super) freed: Arc<Notify>,
    /// How many starts of each tenant wait for a place.
    pub(super) waiting: Mutex<HashMap<Option<Tenant>, usize>>,
    /// By tenant: a program that ends over one tenant's data may run well for another.
    restarts: Mutex<HashMap<Option<Tenant>, Restarts>>,
    /// What it speaks, of the program with that mark.
    era: Mutex<Option<(u64, ProtocolRevision)>>,
}

/// All children of a client.
#[derive(Debug)]
pub(crate) struct Children {
    pub(super) limits: Limits,
    pub(super) greeter: Greeter,
    pub(super) serials: AtomicU64,
    pub(super) slots: Mutex<HashMap<Key, Slot>>,
    servers: Mutex<HashMap<ServerId, Arc<OfServer>>>,
    pub(super) all: Mutex<HashMap<u64, Arc<Child>>>,
    pub(super) closed: AtomicBool,
}

/// The children of a client, which end with it.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Children>);

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.end_all();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl OfServer {
    /// The pause that is left before that tenant's programs are started again.
    pub(super) fn pause(&self, tenant: &Option<Tenant>) -> Duration {
        lock(&self.restarts).get(tenant).map(Restarts::pause).unwrap_or_default()
    }

    /// What a call is told that does not wait for the end of the pause; nothing where nothing failed.
    fn away(&self, tenant: &Option<Tenant>) -> Option<String> {
        let restarts = lock(&self.restarts);
        let of_tenant = restarts.get(tenant)?;
        let ((failures, why), s) = (of_tenant.failures(), of_tenant.pause().as_secs());
        Some(format!(
            "the program failed {failures} times in a row and is started again in {s} s; the last time: {why}"
        ))
    }

    fn failed(&self, tenant: &Option<Tenant>, why: String) {
        lock(&self.restarts).entry(tenant.clone()).or_default().failed(why);
    }

    fn went_well(&self, tenant: &Option<Tenant>) {
        lock(&self.restarts).remove(tenant);
    }
}

impl Pool {
    pub(crate) fn new(limits: Limits, greeter: Greeter) -> Self {
        Self(Arc::new(Children {
            limits,
            greeter,
            serials: AtomicU64::new(1),
            slots: Mutex::default(),
            servers: Mutex::default(),
            all: Mutex::default(),
            closed: AtomicBool::new(false),
        }))
    }

    /// The child of that conversation, greeted, and held until the lease is dropped. It is started if there is none; who gives up
    /// waiting leaves the start to those who come next.
    pub(crate) async fn lease(
        &self,
        endpoint: &Endpoint,
        program: &Arc<Program>,
        conversation: Option<&str>,
    ) -> Result<Lease, Fault> {
        let own = conversation.filter(|_| !program.keeps_nothing());
        let mut key = Key {
            server: endpoint.server.clone(),
            tenant: endpoint.tenant.clone(),
            user: own.map_or(User::All(0), |own| User::Conversation(own.to_owned())),
        };
        loop {
            let ready = program.ready().await?;
            if program.keeps_nothing() {
                key.user = User::All(self.0.least_used(&key, program, &ready));
            }
            let of = self.0.of_server(&key.server);
            let known = self.0.usable(&key, ready.mark);
            let pause = of.pause(&key.tenant);
            if let Some(detail) = of.away(&key.tenant).filter(|_| known.is_none() && pause > SHORT_PAUSE) {
                return Err(Fault::NotSent { detail, cause: NotSentCause::Answer });
            }
            let mut phase = match known {
                Some(phase) => phase,
                None => {
                    sleep(pause).await;
                    self.0.begin(&key, program, ready)?
                }
            };
            let Ok(phase) = phase.wait_for(|phase| !matches!(phase, Phase::Starting)).await else {
                return Err(Fault::NotSent {
                    detail: "the program's start was given up".to_owned(),
                    cause: NotSentCause::Answer,
                });
            };
            match &*phase {
                Phase::Failed(fault) => return Err(fault.clone()),
                // It may have ended since, and then another one is started.
                Phase::Up(child) => match child.hold() {
                    Some(lease) => return Ok(lease),
                    None => self.0.forget(&key, child.serial),
                },
                Phase::Starting => {}
            }
        }
    }

    /// Ends the child of that conversation once nobody uses it.
    pub(crate) fn end(&self, server: &ServerId, tenant: Option<&Tenant>, conversation: &str) {
        self.0
            .retire(|key| key.server == *server && key.tenant.as_ref() == tenant && key.is_of(conversation));
    }

    /// Ends the conversation's children of all servers once nobody uses them.
    pub(crate) fn end_conversation(&self, tenant: &Tenant, conversation: &str) {
        self.0.retire(|key| key.tenant.as_ref() == Some(tenant) && key.is_of(conversation));
    }

    /// The conversations that have children, each once.
    pub(crate) fn conversations(&self) -> BTreeSet<(Tenant, String)> {
        let named = |key: &Key| match &key.user {
            User::Conversation(conversation) => Some((key.tenant.clone()?, conversation.clone())),
            User::All(_) => None,
        };
        lock(&self.0.slots).keys().filter_map(named).collect()
    }

    /// What is known of the conversation's program, for a call whose time is over: how long it has been starting, and its last lines.
    pub(crate) fn standing(&self, endpoint: &Endpoint, conversation: Option<&str>) -> String {
        let all = lock(&self.0.all);
        let mine = all.values().filter(|child| {
            child.key.server == endpoint.server
                && child.key.tenant == endpoint.tenant
                && (!child.key.is_one_conversation() || conversation.is_some_and(|own| child.key.is_of(own)))
        });
        let Some(child) = mine.max_by_key(|child| (child.key.is_one_conversation(), child.serial)) else {
            return String::new();
        };
        let words = child.said_to(child.only_waiter());
        if child.handshake.get().is_some() {
            return words;
        }
        let starting = format!(
            "the program `{}` has been starting for {} s",
            child.program.command(),
            child.born.elapsed().as_secs()
        );
        if words.is_empty() { starting } else { format!("{starting}; {words}") }
    }

    /// How many children there are.
    pub(crate) fn count(&self) -> usize {
        lock(&self.0.all).len()
    }

    /// Starts none any more, ends all, and waits until nothing of them is left.
    pub(crate) async fn close(&self) {
        let ended = self.0.end_all();
        let all = async {
            for child in ended {
                child.gone.cancelled().await;
            }
        };
        let _gone = timeout(STOP_WITHIN, all).await;
    }
}

impl Children {
    pub(super) fn of_server(&self, server: &ServerId) -> Arc<OfServer> {
        let mut servers = lock(&self.servers);
        let fresh = || OfServer {
            places: Arc::new(Semaphore::new(self.limits.max_children.max(1))),
            freed: Arc::default(),
            waiting: Mutex::default(),
            restarts: Mutex::default(),
            era: Mutex::default(),
        };
        Arc::clone(servers.entry(server.clone()).or_insert_with(|| Arc::new(fresh())))
    }

    /// What stands under the key, if it is of that mark and not over.
    fn usable(&self, key: &Key, mark: u64) -> Option<watch::Receiver<Phase>> {
        let mut slots = lock(&self.slots);
        let slot = slots.get(key)?;
        // A start whose task is gone would be waited for in vain.
        let lost = matches!(&*slot.phase.borrow(), Phase::Starting) && slot.phase.has_changed().is_err();
        if slot.mark == mark && !lost {
            return Some(slot.phase.clone());
        }
        if let Phase::Up(child) = &*slot.phase.borrow() {
            child.retire();
        }
        slots.remove(key);
        None
    }

    /// Begins a start, unless somebody else has just done so.
    pub(super) fn begin(
        self: &Arc<Self>,
        key: &Key,
        program: &Arc<Program>,
        ready: super::program::Ready,
    ) -> Result<watch::Receiver<Phase>, Fault> {
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(key).filter(|slot| slot.mark == ready.mark) {
            return Ok(slot.phase.clone());
        }
        let (tell, phase) = watch::channel(Phase::Starting);
        slots.insert(key.clone(), Slot { mark: ready.mark, phase: phase.clone() });
        let of = self.of_server(&key.server);
        let known = lock(&of.era).filter(|(mark, _)| *mark == ready.mark).map(|(_, era)| era);
        let wanted = Wanted { key: key.clone(), program: Arc::clone(program), ready, known };
        let children = Arc::clone(self);
        tokio::spawn(async move {
            let told = match children.bring_up(&of, wanted).await {
                Ok(child) => Phase::Up(child),
                Err(fault) => Phase::Failed(fault),
            };
            tell.send_replace(told);
        });
        Ok(phase)
    }

    async fn bring_up(self: &Arc<Self>, of: &OfServer, mut wanted: Wanted) -> Result<Arc<Child>, Fault> {
        let mark = wanted.ready.mark;
        let mut started = self.start_placed(of, &wanted).await;
        if started.as_ref().is_err_and(|not_up| not_up.may_be_legacy) {
            // Some older programs end, or are of no use any more, when they are asked for what they do not know.
            wanted.known = Some(ProtocolRevision::Legacy);
            started = self.start_placed(of, &wanted).await;
        }
        *lock(&of.era) = started.as_ref().ok().and_then(|child| Self::era_of(child)).map(|era| (mark, era));
        let started = started.map_err(|not_up| wanted.program.scrub(not_up.fault));
        if let Err(fault) = &started {
            if fault.retry_class() != RetryClass::Permanent {
                of.failed(&wanted.key.tenant, fault.to_string());
            }
            let mut slots = lock(&self.slots);
            if slots.get(&wanted.key).is_some_and(|slot| slot.mark == mark) {
                slots.remove(&wanted.key);
            }
            tracing::warn!(server = %wanted.key.server, %fault, code = "stdio_not_started", "a program cannot be started");
        }
        started
    }

    async fn start_placed(self: &Arc<Self>, of: &OfServer, wanted: &Wanted) -> Result<Arc<Child>, NotUp> {
        let place = timeout(PLACE_WITHIN, self.place(of, &wanted.key)).await;
        let in_use = format!("all {} children of the server are in use", self.limits.max_children);
        let place = place.unwrap_or(Err(Fault::NotSent { detail: in_use, cause: NotSentCause::Place }));
        self.start(wanted, place.map_err(|fault| NotUp { fault, may_be_legacy: false })?).await
    }

    /// Takes a started child into the list of those to be ended.
    pub(super) fn enlist(&self, child: &Arc<Child>) -> Result<(), Fault> {
        let mut all = lock(&self.all);
        if self.closed.load(Ordering::Acquire) {
            return Err(closed());
        }
        all.insert(child.serial, Arc::clone(child));
        Ok(())
    }

    /// Forgets a child that is gone.
    pub(super) fn strike_off(&self, key: &Key, child: &Child, by_itself: bool) {
        lock(&self.all).remove(&child.serial);
        self.forget(key, child.serial);
        let of = self.of_server(&key.server);
        if child.handshake.get().is_some() {
            let early = by_itself && child.born.elapsed() < PROBATION;
            if early {
                // What it wrote last may be of one caller's call, and all of the tenant are told this.
                of.failed(&key.tenant, "it ended soon after its start".to_owned());
            } else {
                of.went_well(&key.tenant);
            }
        }
        of.freed.notify_waiters();
    }

    fn forget(&self, key: &Key, serial: u64) {
        let mut slots = lock(&self.slots);
        let is_it = |slot: &Slot| matches!(&*slot.phase.borrow(), Phase::Up(child) if child.serial == serial);
        if slots.get(key).is_some_and(is_it) {
            slots.remove(key);
        }
    }

    fn retire(&self, meant: impl Fn(&Key) -> bool) {
        lock(&self.slots).retain(|key, slot| {
            if !meant(key) {
                return true;
            }
            if let Phase::Up(child) = &*slot.phase.borrow() {
                child.retire();
            }
            false
        });
    }

    fn end_all(&self) -> Vec<Arc<Child>> {
        self.closed.store(true, Ordering::Release);
        let all: Vec<_> = lock(&self.all).values().cloned().collect();
        for child in &all {
            child.end(Fault::AnswerLost { detail: "the worker stops its programs".to_owned() });
        }
        all
    }
}

pub(super) fn closed() -> Fault {
    Fault::NotSent {
        detail: "programs are not started any more: the worker ends".to_owned(),
        cause: NotSentCause::Answer,
    }
}
