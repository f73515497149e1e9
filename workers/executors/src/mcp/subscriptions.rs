//! How many subscriptions of one tenant at one server run in a worker: each keeps a slot for minutes, which other calls of the tenant would lack.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use toolfleet_core::call::HeldReason;
use toolfleet_core::failure::{Blame, Evidence, Failure, Reachability, RetryClass};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::outcome::{Code, MayHaveRun};

type Key = (ServerId, Tenant);

/// The subscriptions that run, by server and tenant.
pub(super) struct Subscriptions {
    most: usize,
    running: Mutex<HashMap<Key, usize>>,
}

/// One that runs, until it is dropped.
pub(super) struct Running<'a> {
    subscriptions: &'a Subscriptions,
    key: Key,
}

impl Subscriptions {
    pub(super) fn new(most: usize) -> Self {
        Self { most, running: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more. It does not wait for another one's end, which may be hours away.
    pub(super) fn begin(&self, server: &ServerId, tenant: &Tenant) -> Result<Running<'_>, Failure> {
        let key = (server.clone(), tenant.clone());
        let mut running = self.lock();
        let count = running.entry(key.clone()).or_default();
        if *count >= self.most {
            return Err(full(self.most));
        }
        *count += 1;
        drop(running);
        Ok(Running { subscriptions: self, key })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut running = self.subscriptions.lock();
        match running.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                running.remove(&self.key);
            }
        }
    }
}

fn full(most: usize) -> Failure {
    let detail = format!(
        "the tenant has as many subscriptions at this server as a worker takes, which are {most}; end another one, or read the resource instead"
    );
    Failure {
        class: RetryClass::Permanent,
        blame: Blame::Request,
        may_have_run: MayHaveRun::No,
        code: Code::SubscriptionsFull,
        summary: detail.clone(),
        detail,
        evidence: Evidence::Nothing,
        reachability: Reachability::Unknown,
        held: HeldReason::BackOff,
        rpc_code: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_so_many_at_each_server_and_leaves_those_of_others() {
        let subscriptions = Subscriptions::new(2);
        let begin = |server: &str, tenant: &str| {
            subscriptions.begin(&ServerId::parse(server).unwrap(), &Tenant::parse(tenant).unwrap())
        };
        let (first, second) = (begin("a", "acme").ok().unwrap(), begin("a", "acme").ok().unwrap());
        let refused = begin("a", "acme").err().unwrap();
        assert_eq!((refused.code, refused.may_have_run), (Code::SubscriptionsFull, MayHaveRun::No));
        assert!(refused.is_permanent() && refused.detail.contains("are 2"), "{refused}");
        assert!(begin("b", "acme").is_ok() && begin("a", "globex").is_ok());
        drop(first);
        assert!(begin("a", "acme").is_ok());
        drop(second);
        assert!(subscriptions.lock().is_empty());
    }
}
