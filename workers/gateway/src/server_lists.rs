//! What servers list, read through the fleet: a call of the listing like any other, with the caller's tenant. The gateway itself reaches no
//! server and holds no server's credential.
//!
//! Lists are kept for a while, by tenant, server and what is listed: what one user of a tenant was shown is shown to its others. A list that cannot be read
//! again, or not in time, is used on. A refusal is that of one caller, and remembered for a moment.
//!
//! **Invariant:** a list is of the server as the catalog has it: what was read at another address is not shown.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout, timeout_at};
use toolfleet_catalog::Server;
use toolfleet_client::Client;
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::outcome::{Outcome, OutcomeKind};
use toolfleet_core::request::Operation;

use crate::call_request;
use crate::caller::Caller;
use crate::message::Members;

/// How long a server's list is waited for.
const TIME_OUT: Duration = Duration::from_secs(10);
/// How long reading all parts of it may take.
const ALL_PARTS_WITHIN: Duration = Duration::from_secs(60);
/// How many parts of a list are read: a part is what one call gives.
const MAX_PARTS: usize = 20;
/// How many entries of a list are kept, and how many bytes: a part that ends above that is the last one.
const MAX_ENTRIES: usize = 10_000;
const MAX_BYTES: usize = 8 * 1_048_576;
/// How long a request for the list of all tools waits for a server's list, from its arrival on: for a reading of another one, and for its own.
pub(crate) const LISTS_WITHIN: Duration = Duration::from_secs(25);
/// The shortest time for which a list is shown, whatever its server says of it: as workers keep lists.
const SHORTEST_TTL: Duration = Duration::from_secs(10);
/// After a failure, how long nobody asks again.
const PAUSE: Duration = Duration::from_secs(15);
/// How many lists are kept. Beyond that the oldest one is dropped.
const MAX_LISTS: usize = 1_000;
/// How many callers are remembered whom a server's list was refused.
const MAX_REFUSED: usize = 1_000;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ListKind {
    Tools,
    Prompts,
    Resources,
    ResourceTemplates,
}

impl ListKind {
    pub(crate) const fn operation(self) -> Operation {
        match self {
            Self::Tools => Operation::ToolsList,
            Self::Prompts => Operation::PromptsList,
            Self::Resources => Operation::ResourcesList,
            Self::ResourceTemplates => Operation::ResourceTemplatesList,
        }
    }

    /// The member of a result that holds the list.
    pub(crate) const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resourceTemplates",
        }
    }

    /// The member of an entry that tells it from the others.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::ResourceTemplates => "uriTemplate",
        }
    }
}

/// The entries of a server's list, by their names there.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    pub(crate) by_name: Arc<HashMap<String, Box<RawValue>>>,
    /// Whether the server has more than is kept.
    pub(crate) is_cut: bool,
    /// For how long the server says that it is fresh, in milliseconds (`ttlMs`).
    pub(crate) served_ms: Option<u64>,
    /// Until when clients are shown it without asking the server; none where it is in the catalog.
    pub(crate) until: Option<Instant>,
}

impl Entries {
    /// For how long a list is shown that was read now.
    fn shown_for(&self, ttl: Duration) -> Duration {
        let served = self.served_ms.map_or(ttl, Duration::from_millis);
        ttl.min(served.max(SHORTEST_TTL))
    }

    fn is_same(&self, other: &Self) -> bool {
        let mut listed = self.by_name.iter().map(|(name, entry)| (name, entry.get()));
        self.by_name.len() == other.by_name.len()
            && listed.all(|(name, entry)| other.by_name.get(name).is_some_and(|one| one.get() == entry))
    }
}

/// What a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// A client is shown what there is.
    Shown,
    /// A call needs what is known of its tool.
    OfCall,
}

/// A list, or why it is not known.
pub(crate) type Listed = Result<Arc<Entries>, String>;

type Key = (Tenant, ServerId, ListKind);

/// The lists that were read.
pub(crate) struct ServerLists {
    client: Client,
    ttl: Duration,
    cells: Mutex<HashMap<Key, Arc<Cell>>>,
    /// By tenant; grows whenever a list was read that is another one than its callers were shown.
    changes: std::sync::Mutex<HashMap<Tenant, u64>>,
}

struct Cell {
    used: std::sync::Mutex<Instant>,
    /// When a refused call last showed that the list is no longer true.
    expired: std::sync::Mutex<Option<Instant>>,
    kept: std::sync::Mutex<Option<Kept>>,
    /// Whether somebody was told that the list is not known.
    is_missed: AtomicBool,
    state: Arc<Mutex<State>>,
}

/// A list that was read, and where.
struct Kept {
    server: Arc<Server>,
    entries: Arc<Entries>,
}

/// What is known beside the list; locked while it is read.
#[derive(Default)]
struct State {
    /// Of which server.
    server: Option<Arc<Server>>,
    /// Until when it is shown without asking.
    until: Option<Instant>,
    /// Until when it says what a single call needs to know. A call waits for no list that its server only calls stale.
    of_calls_until: Option<Instant>,
    failure: String,
    /// Who was refused a moment ago, until when, and what they are told. Another user, or another session, may be allowed what these are
    /// not.
    refused: HashMap<String, (Instant, Listed)>,
}

impl State {
    /// Forgets what is known of a server that had that id before.
    fn become_of(&mut self, server: &Arc<Server>) {
        if !self.server.as_ref().is_some_and(|before| is_same(before, server)) {
            *self = Self { server: Some(Arc::clone(server)), ..Self::default() };
        }
    }

    /// The answer without reading; none if it has to be read.
    fn known_to(&self, caller: &Caller, kept: Option<Arc<Entries>>, use_of: Use) -> Option<Listed> {
        let now = Instant::now();
        let until = match use_of {
            Use::Shown => self.until,
            Use::OfCall => self.of_calls_until,
        };
        if until.is_some_and(|until| until > now) {
            return Some(kept.ok_or_else(|| self.failure.clone()));
        }
        let refused = self.refused.get(&name_of(caller));
        refused.filter(|(until, _)| *until > now).map(|(_, answer)| answer.clone())
    }

    fn refuse(&mut self, caller: &Caller, answer: Listed) {
        let now = Instant::now();
        self.refused.retain(|_, (until, _)| *until > now);
        if self.refused.len() < MAX_REFUSED {
            self.refused.insert(name_of(caller), (now + PAUSE, answer));
        }
    }
}

/// Whether both are reached at the same place in the same way. A catalog that was read again has a new value of each server.
fn is_same(one: &Arc<Server>, other: &Arc<Server>) -> bool {
    Arc::ptr_eq(one, other) || one.transport == other.transport
}

/// The user with all that access depends on, and the session.
pub(crate) fn name_of(caller: &Caller) -> String {
    let session = caller.conversation.as_ref().map(|session| session.as_str());
    serde_json::to_string(&(&caller.user, session)).unwrap_or_default()
}

impl ServerLists {
    pub(crate) fn new(client: Client, ttl: Duration) -> Self {
        Self { client, ttl, cells: Mutex::default(), changes: std::sync::Mutex::default() }
    }

    /// A number that is another one after a list of that tenant was read that differs from what its callers were shown.
    pub(crate) fn changes(&self, tenant: &Tenant) -> u64 {
        lock(&self.changes).get(tenant).copied().unwrap_or_default()
    }

    fn count_change(&self, tenant: &Tenant) {
        *lock(&self.changes).entry(tenant.clone()).or_default() += 1;
    }

    /// What the server lists for the caller's tenant, if it is known by `until`. One caller asks, the others wait for the same answer.
    /// A reading goes on when its caller waits no longer: those who come later find what it has read.
    pub(crate) async fn of(
        self: &Arc<Self>,
        caller: &Caller,
        server: &Arc<Server>,
        (kind, use_of): (ListKind, Use),
        until: Instant,
    ) -> Listed {
        let cell = self.cell((caller.tenant.clone(), server.id.clone(), kind)).await;
        let waited = timeout_at(until, async {
            let mut state = Arc::clone(&cell.state).lock_owned().await;
            state.become_of(server);
            if let Some(known) = state.known_to(caller, cell.kept_of(server), use_of) {
                return known;
            }
            let (lists, cell) = (Arc::clone(self), Arc::clone(&cell));
            let (caller, server) = (caller.clone(), Arc::clone(server));
            let reading =
                tokio::spawn(async move { lists.renew(&cell, state, &caller, &server, kind).await });
            reading.await.unwrap_or_else(|_| Err("its reading was interrupted".to_owned()))
        });
        let late = |_| cell.kept_of(server).ok_or_else(|| "it was not read in time".to_owned());
        let listed = waited.await.unwrap_or_else(late);
        if listed.is_err() {
            cell.is_missed.store(true, Ordering::Relaxed);
        }
        listed
    }

    /// Reads the list again.
    async fn renew(
        &self,
        cell: &Cell,
        mut state: OwnedMutexGuard<State>,
        caller: &Caller,
        server: &Arc<Server>,
        kind: ListKind,
    ) -> Listed {
        match self.read(caller, server, kind).await {
            Ok(mut entries) => {
                let now = Instant::now();
                let until = Some(now + entries.shown_for(self.ttl));
                entries.until = until;
                if cell.keep(server, entries) {
                    self.count_change(&caller.tenant);
                }
                let (server, of_calls_until) = (Some(Arc::clone(server)), Some(now + self.ttl));
                *state = State { server, until, of_calls_until, ..State::default() };
            }
            Err(NotListed { why, is_refusal: true }) => {
                let answer = cell.kept_of(server).ok_or(why);
                state.refuse(caller, answer.clone());
                return answer;
            }
            Err(NotListed { why: failure, .. }) => {
                tracing::warn!(server = %server.id, tenant = %caller.tenant, list = kind.operation().as_str(), code = "gateway_list_failed", "a list cannot be read: {failure}");
                let until = Some(Instant::now() + PAUSE);
                (state.failure, state.until, state.of_calls_until) = (failure, until, until);
            }
        }
        cell.kept_of(server).ok_or_else(|| state.failure.clone())
    }

    /// A call was refused because of what the server's list of tools says now: it is read again when it is next asked for. A tool that never
    /// was does not make it read for each call.
    pub(crate) fn expire(&self, tenant: &Tenant, server: &ServerId) {
        // Whoever holds one of them now is reading, or about to.
        let Ok(cells) = self.cells.try_lock() else { return };
        let Some(cell) = cells.get(&(tenant.clone(), server.clone(), ListKind::Tools)) else { return };
        let now = Instant::now();
        if lock(&cell.expired).is_some_and(|before| before + PAUSE > now) {
            return;
        }
        if let Ok(mut state) = cell.state.try_lock() {
            *lock(&cell.expired) = Some(now);
            (state.until, state.of_calls_until) = (Some(now), Some(now));
        }
    }

    /// How often a tenant's lists are looked at for changes: as often as one of them grows stale. One that is always stale is read as often as
    /// those that say nothing of it.
    pub(crate) async fn looked_at_each(&self, tenant: &Tenant) -> Duration {
        let cells = self.cells.lock().await;
        let of_tenant = cells.iter().filter(|((of, ..), _)| of == tenant);
        let each = of_tenant.filter_map(|(_, cell)| {
            let kept = lock(&cell.kept);
            let entries = &kept.as_ref()?.entries;
            (entries.served_ms != Some(0)).then(|| entries.shown_for(self.ttl))
        });
        each.min().unwrap_or(self.ttl)
    }

    async fn cell(&self, key: Key) -> Arc<Cell> {
        let mut cells = self.cells.lock().await;
        let now = Instant::now();
        if !cells.contains_key(&key) && cells.len() >= MAX_LISTS {
            let oldest = cells.iter().min_by_key(|(_, cell)| cell.used()).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| cells.remove(&oldest));
        }
        let cell = cells.entry(key).or_insert_with(|| Arc::new(Cell::at(now)));
        cell.use_at(now);
        Arc::clone(cell)
    }

    /// The whole list, as far as the bounds allow.
    async fn read(&self, caller: &Caller, server: &Server, kind: ListKind) -> Result<Entries, NotListed> {
        let until = Instant::now() + ALL_PARTS_WITHIN;
        let (mut by_name, mut bytes, mut cursor) = (HashMap::new(), 0_usize, None);
        let mut served_ms: Option<u64> = None;
        let mut seen = HashSet::new();
        for _ in 0..MAX_PARTS {
            let part = self.read_part(caller, server, kind, cursor.as_deref()).await?;
            for (name, entry) in part.entries {
                bytes = bytes.saturating_add(entry.get().len());
                by_name.insert(name, entry);
            }
            cursor = part.next;
            served_ms = [served_ms, part.served_ms].into_iter().flatten().min();
            let is_full = by_name.len() >= MAX_ENTRIES || bytes >= MAX_BYTES;
            // A server that gives a cursor again goes round in a circle.
            let is_new = cursor.clone().is_some_and(|cursor| seen.insert(cursor));
            if !is_new || is_full || Instant::now() >= until {
                break;
            }
        }
        let by_name = Arc::new(by_name);
        Ok(Entries { by_name, is_cut: cursor.is_some(), served_ms, until: None })
    }

    async fn read_part(
        &self,
        caller: &Caller,
        server: &Server,
        kind: ListKind,
        cursor: Option<&str>,
    ) -> Result<Part, NotListed> {
        let time_out = u64::try_from(TIME_OUT.as_millis()).unwrap_or(u64::MAX);
        let request = call_request::listing(caller, &server.id, kind.operation(), cursor, time_out)
            .map_err(|error| NotListed::to_caller(&error))?;
        let sent = timeout(TIME_OUT, self.client.send(&request, None)).await;
        let sent = sent.map_err(|_| NotListed::of(&"the queue does not answer"))?;
        let message_id = sent.map_err(|error| NotListed::of(&error))?;
        let waited = self.client.wait_for_sent(&request, &message_id, TIME_OUT).await;
        part_of(&waited.map_err(|error| NotListed::of(&error))?.outcome, kind)
    }
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Cell {
    fn at(now: Instant) -> Self {
        Self {
            used: std::sync::Mutex::new(now),
            expired: std::sync::Mutex::default(),
            kept: std::sync::Mutex::default(),
            is_missed: AtomicBool::default(),
            state: Arc::default(),
        }
    }

    fn used(&self) -> Instant {
        *lock(&self.used)
    }

    fn use_at(&self, now: Instant) {
        *lock(&self.used) = now;
    }

    /// The list that is kept of that server.
    fn kept_of(&self, server: &Arc<Server>) -> Option<Arc<Entries>> {
        let kept = lock(&self.kept);
        kept.as_ref().filter(|kept| is_same(&kept.server, server)).map(|kept| Arc::clone(&kept.entries))
    }

    /// Keeps the list, and says whether it is another one than callers were shown. A list that nobody missed is none: it was never asked for, or
    /// dropped for others.
    fn keep(&self, server: &Arc<Server>, entries: Entries) -> bool {
        let entries = Arc::new(entries);
        let kept = Kept { server: Arc::clone(server), entries: Arc::clone(&entries) };
        let before = lock(&self.kept).replace(kept);
        let is_missed = self.is_missed.swap(false, Ordering::Relaxed);
        before.map_or(is_missed, |before| !before.entries.is_same(&entries))
    }
}

/// Why a list is not known.
struct NotListed {
    why: String,
    is_refusal: bool,
}

impl NotListed {
    fn of(error: &dyn std::fmt::Display) -> Self {
        Self { why: error.to_string(), is_refusal: false }
    }

    /// The fleet accepts no request of this caller.
    fn to_caller(error: &dyn std::fmt::Display) -> Self {
        Self { why: error.to_string(), is_refusal: true }
    }
}

/// What one call has listed.
struct Part {
    entries: Vec<(String, Box<RawValue>)>,
    next: Option<String>,
    served_ms: Option<u64>,
}

fn part_of(outcome: &Outcome, kind: ListKind) -> Result<Part, NotListed> {
    let content = outcome.content().filter(|_| outcome.kind == OutcomeKind::Succeeded);
    let Some(content) = content else {
        let why = outcome.error.as_ref().map_or("without a list", |error| error.message.as_str());
        let why = format!("the call ended as `{}`: {why}", outcome.kind);
        return Err(NotListed { why, is_refusal: outcome.kind == OutcomeKind::Refused });
    };
    let members: Members = serde_json::from_str(content.get()).unwrap_or_default();
    let list = members.get(kind.member()).and_then(|list| serde_json::from_str(list.get()).ok());
    let list: Vec<Box<RawValue>> =
        list.ok_or_else(|| NotListed::of(&format!("the answer is no list of {}", kind.member())))?;
    let entries = list.into_iter().filter_map(|entry| Some((name_in(&entry, kind)?, entry)));
    let next = members.get("nextCursor").and_then(|next| serde_json::from_str(next.get()).ok());
    let served_ms = members.get("ttlMs").and_then(|ttl| serde_json::from_str(ttl.get()).ok());
    Ok(Part { entries: entries.collect(), next, served_ms })
}

/// The name or address of an entry.
fn name_in(entry: &RawValue, kind: ListKind) -> Option<String> {
    let members: Members = serde_json::from_str(entry.get()).ok()?;
    serde_json::from_str(members.get(kind.key())?.get()).ok()
}

#[cfg(test)]
mod tests;
