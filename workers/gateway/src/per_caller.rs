//! How much a caller has at once at this gateway: subscriptions, each of which keeps a slot of a worker, and requests that last, each of which
//! keeps a slot of the gateway.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::caller::Caller;
use crate::message::RpcError;

/// How many subscriptions a caller has at once, in all its streams.
pub(crate) const MOST_SUBSCRIPTIONS: usize = 60;
/// How many requests that last a caller has at once: event streams that tell of changes, and those that wait for the result of a task.
pub(crate) const MOST_LASTING: usize = 20;

/// The counts by caller.
pub(crate) struct PerCaller {
    most: usize,
    counts: Counts,
}

type Counts = Arc<Mutex<HashMap<String, usize>>>;

/// One more of its caller, until it is dropped.
pub(crate) struct Counted {
    counts: Counts,
    caller: String,
}

fn lock(counts: &Counts) -> MutexGuard<'_, HashMap<String, usize>> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PerCaller {
    /// At most so many of each caller.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, counts: Arc::default() }
    }

    /// Counts one more; none if the caller has as many as it may.
    pub(crate) fn count(&self, caller: &Caller) -> Option<Counted> {
        let caller = caller.binding();
        let mut counts = lock(&self.counts);
        let count = counts.entry(caller.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Counted { counts: Arc::clone(&self.counts), caller })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        match counts.get_mut(&self.caller) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                counts.remove(&self.caller);
            }
        }
    }
}

/// Why a request that lasts is not taken.
pub(crate) fn too_many_lasting() -> RpcError {
    RpcError::internal(format!(
        "A caller has at most {MOST_LASTING} requests that last at a gateway: event streams, and waits for the result of a task. End another \
         one first."
    ))
}

#[cfg(test)]
mod tests {
    use toolfleet_core::ids::Tenant;

    use super::*;

    #[test]
    fn a_caller_has_its_share_and_leaves_that_of_others() {
        let caller = |tenant| Caller {
            tenant: Tenant::parse(tenant).unwrap(),
            user: None,
            session: None,
            conversation: None,
            expires: None,
        };
        let (acme, globex) = (caller("acme"), caller("globex"));
        let counts = PerCaller::new(3);
        let held: Vec<_> = (0..3).map(|_| counts.count(&acme).unwrap()).collect();
        assert!(counts.count(&acme).is_none() && counts.count(&globex).is_some());
        drop(held);
        assert!(counts.count(&acme).is_some());
        assert!(lock(&counts.counts).is_empty());
    }
}
