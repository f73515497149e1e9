//! State of the demo server: the tools' counters and the open sessions, in memory.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::tools::Tools;

/// Open sessions at most. Beyond it the oldest is removed, and its client has to initialize again.
const MAX_SESSIONS: usize = 10_000;

/// What the request handlers share.
#[derive(Debug, Default)]
pub(super) struct Demo {
    tools: Mutex<Tools>,
    sessions: Mutex<Sessions>,
}

impl Demo {
    pub(super) fn tools(&self) -> MutexGuard<'_, Tools> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sessions of clients of the revision that has them.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: HashSet<String>,
    order: VecDeque<String>,
}

impl Sessions {
    pub(super) fn open(&mut self) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        self.open.insert(id.clone());
        self.order.push_back(id.clone());
        if self.order.len() > MAX_SESSIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.open.remove(&oldest);
        }
        id
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.open.contains(id)
    }

    /// Ends a session; false if it was not open.
    pub(super) fn end(&mut self, id: &str) -> bool {
        self.open.remove(id)
    }
}
