//! The ended sessions whose MCP sessions are still to be closed at their servers.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use toolfleet_core::ids::{SessionId, Tenant};

/// A set of sessions that wakes the session closer.
#[derive(Debug, Default)]
pub struct EndedSessions {
    waiting: Mutex<BTreeSet<(Tenant, SessionId)>>,
    added: Notify,
}

impl EndedSessions {
    /// Adds a session that a refused call or a look at the sessions table has shown to be over.
    pub(crate) fn add(&self, tenant: Tenant, session: SessionId) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert((tenant, session));
        self.added.notify_one();
    }

    /// Waits until there is something to take.
    pub(crate) async fn added(&self) {
        self.added.notified().await;
    }

    /// Takes all.
    pub(crate) fn take(&self) -> BTreeSet<(Tenant, SessionId)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
