//! How many subscriptions the callers of this gateway have: each of them keeps a slot of a worker.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::caller::Caller;

/// How many a caller has at once, in all its streams.
pub(crate) const MOST_OF_CALLER: usize = 60;

/// The subscriptions by caller.
#[derive(Default)]
pub(crate) struct Subscribers(Mutex<HashMap<String, usize>>);

/// One subscription, until it is dropped.
pub(crate) struct Counted<'a> {
    subscribers: &'a Subscribers,
    caller: String,
}

impl Subscribers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more; none if the caller has as many as it may.
    pub(crate) fn count(&self, caller: &Caller) -> Option<Counted<'_>> {
        let caller = caller.binding();
        let mut counts = self.lock();
        let count = counts.entry(caller.clone()).or_default();
        if *count >= MOST_OF_CALLER {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Counted { subscribers: self, caller })
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut counts = self.subscribers.lock();
        match counts.get_mut(&self.caller) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => {
                counts.remove(&self.caller);
            }
        }
    }
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
            expires: None,
        };
        let (acme, globex) = (caller("acme"), caller("globex"));
        let subscribers = Subscribers::default();
        let held: Vec<_> = (0..MOST_OF_CALLER).map(|_| subscribers.count(&acme).unwrap()).collect();
        assert!(subscribers.count(&acme).is_none() && subscribers.count(&globex).is_some());
        drop(held);
        assert!(subscribers.count(&acme).is_some());
        assert!(subscribers.lock().is_empty());
    }
}
