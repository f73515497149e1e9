//! What servers list, read through the fleet: a `tools/list` call like any other, with the caller's tenant. The gateway itself reaches no
//! server and holds no server's credential.
//!
//! Lists are kept for a while, by tenant and server. A list that cannot be read again is used on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Mutex;
use tokio::time::Instant;
use toolfleet_catalog::Server;
use toolfleet_client::Client;
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::outcome::{Outcome, OutcomeKind};

use crate::call_request;
use crate::caller::Caller;

/// How long a server's list is waited for.
const TIME_OUT: Duration = Duration::from_secs(10);
/// After a failure, how long nobody asks again.
const PAUSE: Duration = Duration::from_secs(15);
/// How many lists are kept. Beyond that the oldest one is dropped.
const MAX_LISTS: usize = 1_000;

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
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Option<Arc<Entries>>,
    /// Until when it is used without asking.
    until: Option<Instant>,
    failure: String,
}

impl ToolLists {
    pub(crate) fn new(client: Client, ttl: Duration) -> Self {
        Self { client, ttl, cells: Mutex::default() }
    }

    /// What the server lists for the caller's tenant. One caller asks, the others wait for the same answer.
    pub(crate) async fn of(&self, caller: &Caller, server: &Server) -> Listed {
        let cell = self.cell((caller.tenant.clone(), server.id.clone())).await;
        let mut state = cell.state.lock().await;
        if state.until.is_none_or(|until| until <= Instant::now()) {
            match self.read(caller, server).await {
                Ok(entries) => {
                    *state = State {
                        entries: Some(Arc::new(entries)),
                        until: Some(Instant::now() + self.ttl),
                        failure: String::new(),
                    };
                }
                // Another user, or another session, may be allowed what this one is not.
                Err(NotListed { why, is_refusal: true }) => return state.entries.clone().ok_or(why),
                Err(NotListed { why: failure, .. }) => {
                    tracing::warn!(server = %server.id, tenant = %caller.tenant, code = "gateway_list_failed", "the tool list cannot be read: {failure}");
                    (state.failure, state.until) = (failure, Some(Instant::now() + PAUSE));
                }
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
            .or_insert_with(|| Arc::new(Cell { used: std::sync::Mutex::new(now), state: Mutex::default() }));
        cell.use_at(now);
        Arc::clone(cell)
    }

    async fn read(&self, caller: &Caller, server: &Server) -> Result<Entries, NotListed> {
        let time_out = u64::try_from(TIME_OUT.as_millis()).unwrap_or(u64::MAX);
        let request =
            call_request::listing(caller, &server.id, time_out).map_err(|error| NotListed::of(&error))?;
        let message_id = self.client.send(&request, None).await.map_err(|error| NotListed::of(&error))?;
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
