//! The table of MCP sessions: one per conversation, opened by one caller while the others wait (single flight).
//!
//! **Invariant:** two conversations, two tenants or two addresses never share a session.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;
use toolfleet_core::ids::{ServerId, Tenant};

use crate::endpoint::Endpoint;
use crate::transport::http::cookies::Cookies;

/// A session as `initialize` opened it.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// `Mcp-Session-Id`; servers without state give none.
    pub(crate) id: Option<Arc<str>>,
    /// The version the server chose.
    pub(crate) version: &'static str,
    /// Tells a session from its successor.
    pub(crate) serial: u64,
    /// When it was opened; nothing where another client opened it some time ago.
    pub(crate) opened: Option<Instant>,
    /// What sticky load balancers in front of the server set for it.
    pub(crate) cookies: Arc<Cookies>,
}

impl Session {
    /// Whether the server gave it an id, and it existed before that moment: only then can a refusal mean that it is lost.
    pub(crate) fn existed_before(&self, moment: Instant) -> bool {
        self.id.is_some() && self.opened.is_none_or(|opened| opened < moment)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    server: ServerId,
    url: String,
    tenant: Option<Tenant>,
    conversation: Option<String>,
}

#[derive(Debug, Default)]
struct Slot {
    current: AsyncMutex<Current>,
    used: AtomicU64,
}

#[derive(Debug, Default)]
struct Current {
    open: Option<Session>,
    /// The id of the one that the server lost last.
    lost: Option<Arc<str>>,
}

/// The open sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    uses: AtomicU64,
    max: usize,
}

impl Sessions {
    pub(crate) fn new(max: usize) -> Self {
        Self { slots: Mutex::new(HashMap::new()), uses: AtomicU64::new(0), max: max.max(1) }
    }

    /// The conversation's session, or the one that opening gives; it is told which one was lost before.
    pub(crate) async fn get<E, F: Future<Output = Result<Session, E>>>(
        &self,
        endpoint: &Endpoint,
        conversation: Option<&str>,
        open: impl FnOnce(Option<Arc<str>>) -> F,
    ) -> Result<Session, E> {
        let slot = self.slot(endpoint, conversation);
        let mut current = slot.current.lock().await;
        if let Some(session) = &current.open {
            return Ok(session.clone());
        }
        let lost = current.lost.clone();
        Ok(current.open.insert(open(lost).await?).clone())
    }

    /// The server lost this session; a successor that another caller has opened meanwhile stays.
    pub(crate) async fn forget(&self, endpoint: &Endpoint, conversation: Option<&str>, serial: u64) {
        let slot = self.slot(endpoint, conversation);
        let mut current = slot.current.lock().await;
        if let Some(session) = current.open.take_if(|session| session.serial == serial) {
            current.lost = session.id;
        }
    }

    /// Takes the conversation's session out, to end it.
    pub(crate) async fn take(&self, endpoint: &Endpoint, conversation: &str) -> Option<Session> {
        let slot = self.lock().remove(&key(endpoint, Some(conversation)))?;
        slot.current.lock().await.open.take()
    }

    /// The conversations that are remembered, each once.
    pub(crate) fn conversations(&self) -> BTreeSet<(Tenant, String)> {
        let named = |key: &Key| Some((key.tenant.clone()?, key.conversation.clone()?));
        self.lock().keys().filter_map(named).collect()
    }

    /// Forgets a conversation at every server.
    pub(crate) fn forget_all(&self, tenant: &Tenant, conversation: &str) {
        let of = |key: &Key| {
            key.tenant.as_ref() == Some(tenant) && key.conversation.as_deref() == Some(conversation)
        };
        self.lock().retain(|key, _| !of(key));
    }

    fn slot(&self, endpoint: &Endpoint, conversation: Option<&str>) -> Arc<Slot> {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.lock();
        let slot = Arc::clone(slots.entry(key(endpoint, conversation)).or_default());
        slot.used.store(now, Ordering::Relaxed);
        if slots.len() > self.max {
            evict(&mut slots, self.max);
        }
        slot
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops the eighth that has been unused for longest, so that the cost of looking is shared by many calls.
fn evict(slots: &mut HashMap<Key, Arc<Slot>>, max: usize) {
    let mut uses: Vec<u64> = slots.values().map(|slot| slot.used.load(Ordering::Relaxed)).collect();
    let keep = max.saturating_sub(max / 8).max(1);
    let cut = uses.len().saturating_sub(keep);
    uses.sort_unstable();
    if let Some(&oldest_kept) = uses.get(cut) {
        slots.retain(|_, slot| slot.used.load(Ordering::Relaxed) >= oldest_kept);
    }
}

fn key(endpoint: &Endpoint, conversation: Option<&str>) -> Key {
    Key {
        server: endpoint.server.clone(),
        url: endpoint.url.as_str().to_owned(),
        tenant: endpoint.tenant.clone(),
        conversation: conversation.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(tenant: &str) -> Endpoint {
        Endpoint {
            server: ServerId::parse("s").unwrap(),
            url: "http://localhost/mcp".parse().unwrap(),
            headers: http::HeaderMap::new(),
            auth: None,
            tenant: Some(Tenant::parse(tenant).unwrap()),
            transport: crate::endpoint::EndpointTransport::Http,
        }
    }

    fn session(serial: u64) -> Session {
        Session { id: None, version: "2025-11-25", serial, opened: None, cookies: Arc::default() }
    }

    async fn serial(sessions: &Sessions, tenant: &str, conversation: &str, fresh: u64) -> u64 {
        let open = async |_| Ok::<_, ()>(session(fresh));
        sessions.get(&endpoint(tenant), Some(conversation), open).await.unwrap().serial
    }

    #[tokio::test]
    async fn a_session_belongs_to_one_conversation_of_one_tenant() {
        let sessions = Sessions::new(100);
        assert_eq!(serial(&sessions, "a", "x", 1).await, 1);
        assert_eq!(serial(&sessions, "a", "x", 2).await, 1);
        assert_eq!(serial(&sessions, "a", "y", 3).await, 3);
        assert_eq!(serial(&sessions, "b", "x", 4).await, 4);
    }

    #[tokio::test]
    async fn a_lost_session_is_forgotten_once_and_its_successor_is_kept() {
        let sessions = Sessions::new(100);
        serial(&sessions, "a", "x", 1).await;
        sessions.forget(&endpoint("a"), Some("x"), 1).await;
        assert_eq!(serial(&sessions, "a", "x", 2).await, 2);
        sessions.forget(&endpoint("a"), Some("x"), 1).await;
        assert_eq!(serial(&sessions, "a", "x", 3).await, 2);
    }

    #[tokio::test]
    async fn the_longest_unused_sessions_make_room() {
        let sessions = Sessions::new(16);
        for n in 0..40 {
            serial(&sessions, "a", "kept", 1000).await;
            serial(&sessions, "a", &format!("c{n}"), n).await;
            assert!(sessions.lock().len() <= 16);
        }
        assert_eq!(serial(&sessions, "a", "kept", 0).await, 1000);
    }
}
