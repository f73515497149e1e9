//! The state of the demo server: its tools, and the sessions of older clients.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::tools::Tools;

/// What the handlers share.
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

/// Sessions kept; beyond it the oldest is forgotten, and its client opens another.
const MAX_SESSIONS: usize = 10_000;

/// The sessions of older clients.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    known: HashSet<String>,
    order: VecDeque<String>,
}

impl Sessions {
    pub(super) fn open(&mut self) -> String {
        let id = uuid::Uuid::new_v4().to_string();
        self.known.insert(id.clone());
        self.order.push_back(id.clone());
        if self.order.len() > MAX_SESSIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        id
    }

    pub(super) fn knows(&self, id: &str) -> bool {
        self.known.contains(id)
    }

    pub(super) fn end(&mut self, id: &str) {
        self.known.remove(id);
    }
}
