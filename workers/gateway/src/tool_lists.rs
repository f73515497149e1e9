//! What servers list, read through the fleet: a `tools/list` call like any other, with the caller's tenant. The gateway itself reaches no
//! server and holds no server's credential.
//!
//! Lists are kept for a while, by tenant and server: what one user of a tenant was shown is shown to its others. A list that cannot be read
//! again is used on. A refusal is that of one caller, and remembered for a moment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout, timeout_at};
use toolfleet_catalog::Server;
use toolfleet_client::Client;
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::outcome::{Outcome, OutcomeKind};

use crate::call_request;
use crate::caller::Caller;

/// How long a server's list is waited for.
const TIME_OUT: Duration = Duration::from_secs(10);
/// How long a request for the list of all tools waits for a server's list, from its arrival on: for a reading of another one, and for its own.
pub(crate) const LISTS_WITHIN: Duration = Duration::from_secs(25);
/// After a failure, how long nobody asks again.
const PAUSE: Duration = Duration::from_secs(15);
/// How many lists are kept. Beyond that the oldest one is dropped.
const MAX_LISTS: usize = 1_000;
/// How many callers are remembered whom a server's list was refused.
const MAX_REFUSED: usize = 1_000;

/// The entries of a server's list, by the tools' names there.
pub(crate) type Entries = HashMap<String, Box<RawValue>>;

/// A list, or why it is not known.
pub(crate) type Listed = Result<Arc<Entries>, String>;

type Key = (Tenant, ServerId);

/// The lists that were read.
pub(crate) struct ToolLists {
    client: Client,
    ttl: Duration,
    cells: Mutex<HashMap<Key, Arc<Cell>>>,
}

struct Cell {
    used: std::sync::Mutex<Instant>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    entries: Option<Arc<Entries>>,
    /// Until when it is used without asking.
    until: Option<Instant>,
    failure: String,
    /// Who was refused a moment ago, until when, and what they are told. Another user, or another session, may be allowed what these are
    /// not.
    refused: HashMap<String, (Instant, Listed)>,
}

impl State {
    /// The answer without reading; none if it has to be read.
    fn known_to(&self, caller: &Caller) -> Option<Listed> {
        let now = Instant::now();
        if self.until.is_some_and(|until| until > now) {
            return Some(self.entries.clone().ok_or_else(|| self.failure.clone()));
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

/// The user with all that access depends on, and the session.
fn name_of(caller: &Caller) -> String {
    let session = caller.session.as_ref().map(|session| session.as_str());
    serde_json::to_string(&(&caller.user, session)).unwrap_or_default()
}

impl ToolLists {
    pub(crate) fn new(client: Client, ttl: Duration) -> Self {
        Self { client, ttl, cells: Mutex::default() }
    }

    /// What the server lists for the caller's tenant, if it is known by `until`. One caller asks, the others wait for the same answer.
    /// A reading goes on when its caller waits no longer: those who come later find what it has read.
    pub(crate) async fn of(
        self: &Arc<Self>,
        caller: &Caller,
        server: &Arc<Server>,
        until: Instant,
    ) -> Listed {
        let late = |_| Err("it was not read in time".to_owned());
        let waited = timeout_at(until, async {
            let cell = self.cell((caller.tenant.clone(), server.id.clone())).await;
            let state = Arc::clone(&cell.state).lock_owned().await;
            if let Some(known) = state.known_to(caller) {
                return known;
            }
            let (lists, caller, server) = (Arc::clone(self), caller.clone(), Arc::clone(server));
            let reading = tokio::spawn(async move { lists.renew(state, &caller, &server).await });
            reading.await.unwrap_or_else(|_| Err("its reading was interrupted".to_owned()))
        });
        waited.await.unwrap_or_else(late)
    }

    /// Reads the list again.
    async fn renew(&self, mut state: OwnedMutexGuard<State>, caller: &Caller, server: &Server) -> Listed {
        match self.read(caller, server).await {
            Ok(entries) => {
                let until = Some(Instant::now() + self.ttl);
                *state = State { entries: Some(Arc::new(entries)), until, ..State::default() };
            }
            Err(NotListed { why, is_refusal: true }) => {
                let answer = state.entries.clone().ok_or(why);
                state.refuse(caller, answer.clone());
                return answer;
            }
            Err(NotListed { why: failure, .. }) => {
                tracing::warn!(server = %server.id, tenant = %caller.tenant, code = "gateway_list_failed", "the tool list cannot be read: {failure}");
                (state.failure, state.until) = (failure, Some(Instant::now() + PAUSE));
            }
        }
        state.entries.clone().ok_or_else(|| state.failure.clone())
    }

    async fn cell(&self, key: Key) -> Arc<Cell> {
        let mut cells = self.cells.lock().await;
        let now = Instant::now();
        if !cells.contains_key(&key) && cells.len() >= MAX_LISTS {
            let oldest = cells.iter().min_by_key(|(_, cell)| cell.used()).map(|(key, _)| key.clone());
            oldest.and_then(|oldest| cells.remove(&oldest));
        }
        let cell = cells
            .entry(key)
            .or_insert_with(|| Arc::new(Cell { used: std::sync::Mutex::new(now), state: Arc::default() }));
        cell.use_at(now);
        Arc::clone(cell)
    }

    async fn read(&self, caller: &Caller, server: &Server) -> Result<Entries, NotListed> {
        let time_out = u64::try_from(TIME_OUT.as_millis()).unwrap_or(u64::MAX);
        let request = call_request::listing(caller, &server.id, time_out)
            .map_err(|error| NotListed::to_caller(&error))?;
        let sent = timeout(TIME_OUT, self.client.send(&request, None)).await;
        let sent = sent.map_err(|_| NotListed::of(&"the queue does not answer"))?;
        let message_id = sent.map_err(|error| NotListed::of(&error))?;
        let waited = self.client.wait_for_sent(&request, &message_id, TIME_OUT).await;
        entries_of(&waited.map_err(|error| NotListed::of(&error))?.outcome)
    }
}

impl Cell {
    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn use_at(&self, now: Instant) {
        *self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
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

#[derive(Deserialize)]
struct List {
    tools: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

fn entries_of(outcome: &Outcome) -> Result<Entries, NotListed> {
    let content = outcome.content().filter(|_| outcome.kind == OutcomeKind::Succeeded);
    let Some(content) = content else {
        let why = outcome.error.as_ref().map_or("without a list", |error| error.message.as_str());
        let why = format!("the call ended as `{}`: {why}", outcome.kind);
        return Err(NotListed { why, is_refusal: outcome.kind == OutcomeKind::Refused });
    };
    let list: List =
        serde_json::from_str(content.get()).map_err(|_| NotListed::of(&"the answer is no list of tools"))?;
    let named = |entry: Box<RawValue>| Some((serde_json::from_str::<Named>(entry.get()).ok()?.name, entry));
    Ok(list.tools.into_iter().filter_map(named).collect())
}
