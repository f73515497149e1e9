//! The operator's switches: which servers, and which tenants of a server, are paused now.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use toolfleet_core::ids::{ServerId, Tenant};

/// What an operator has paused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Paused {
    /// The server that is not called.
    pub server: ServerId,
    /// The only tenant for whom it is not called; none means all.
    pub tenant: Option<Tenant>,
}

/// The switches of a worker.
#[derive(Debug, Default)]
pub struct Switches {
    /// Whether anything is paused: without a pause, a check is one load.
    any: AtomicBool,
    paused: RwLock<HashSet<Paused>>,
}

impl Switches {
    /// Replaces all pauses. Calls under way meet them at their next attempt.
    pub fn set(&self, paused: HashSet<Paused>) {
        let mut current = self.paused.write().unwrap_or_else(PoisonError::into_inner);
        self.any.store(!paused.is_empty(), Ordering::Release);
        *current = paused;
    }

    /// Whether calls of that tenant to that server are paused.
    pub fn is_paused(&self, server: &ServerId, tenant: &Tenant) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let of = |tenant: Option<&Tenant>| Paused { server: server.clone(), tenant: tenant.cloned() };
        let paused = self.paused.read().unwrap_or_else(PoisonError::into_inner);
        paused.contains(&of(None)) || paused.contains(&of(Some(tenant)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_of_one_tenant_leaves_the_others_alone() {
        let server = |id: &str| ServerId::parse(id).unwrap();
        let tenant = |id: &str| Tenant::parse(id).unwrap();
        let switches = Switches::default();
        let paused = |of: &str, by: &str| switches.is_paused(&server(of), &tenant(by));
        assert!(!paused("crm", "acme"));
        switches.set(HashSet::from([
            Paused { server: server("crm"), tenant: Some(tenant("acme")) },
            Paused { server: server("erp"), tenant: None },
        ]));
        assert!(paused("crm", "acme") && !paused("crm", "globex"));
        assert!(paused("erp", "acme") && paused("erp", "globex") && !paused("hr", "acme"));
        switches.set(HashSet::new());
        assert!(!paused("crm", "acme") && !paused("erp", "acme"));
    }
}
