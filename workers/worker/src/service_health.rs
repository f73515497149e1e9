//! The state of each background service, as `/health/services` shows it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What a service does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceState {
    /// It runs; so often it was started again.
    Running {
        /// Restarts since the worker started.
        restarts: u32,
    },
    /// It has failed and is started again after a pause.
    Restarting {
        /// Restarts since the worker started, this one included.
        restarts: u32,
    },
    /// It has failed too often, and the worker drains.
    Failed,
    /// It has ended because the worker drains.
    Ended,
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running { restarts: 0 } => f.write_str("running"),
            Self::Running { restarts } => write!(f, "running, {restarts} restarts"),
            Self::Restarting { restarts } => write!(f, "restarting, {restarts} restarts"),
            Self::Failed => f.write_str("failed"),
            Self::Ended => f.write_str("ended"),
        }
    }
}

/// The states of all services of a worker. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ServiceHealth(Arc<Mutex<BTreeMap<&'static str, ServiceState>>>);

impl ServiceHealth {
    pub(crate) fn set(&self, service: &'static str, state: ServiceState) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(service, state);
    }

    /// Whether that service has failed and does not run.
    pub(crate) fn is_restarting(&self, service: &str) -> bool {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(service).is_some_and(|state| match state {
            ServiceState::Restarting { .. } | ServiceState::Failed => true,
            ServiceState::Running { .. } | ServiceState::Ended => false,
        })
    }

    /// One line for each service, by name: `intake running`.
    pub fn lines(&self) -> String {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.iter().map(|(service, state)| format!("{service} {state}\n")).collect()
    }
}
