//! Single flight: one caller fetches, callers with the same key wait, and all of them get its result, also a failure.
//!
//! **Invariant:** at most one fetch per key is under way, and it continues when its first caller gives up.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tracing::Instrument as _;

/// The fetches under way.
pub(crate) struct SingleFlight<K, V>(Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>);

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight").finish_non_exhaustive()
    }
}

/// Takes a fetch off the list, also where it panics.
struct Listed<K: Eq + Hash, V> {
    key: K,
    flights: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

impl<K: Eq + Hash, V> Drop for Listed<K, V> {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// What the fetch of that key gives, begun with `fetch` if none is under way; nothing where it broke down.
    pub(crate) async fn join<F>(&self, key: K, fetch: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (mut receiver, flight) = {
            let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match flights.get(&key) {
                Some(receiver) => (receiver.clone(), None),
                None => {
                    let (tell, receiver) = watch::channel(None);
                    flights.insert(key.clone(), receiver.clone());
                    let (listed, fetch) = (Listed { key, flights: Arc::clone(&self.0) }, fetch());
                    let flight = async move {
                        let fetched = fetch.await;
                        // Removed first: later callers start a new fetch, or find the cached value.
                        drop(listed);
                        tell.send_replace(Some(fetched));
                    };
                    (receiver, Some(flight))
                }
            }
        };
        // After the lock: a runtime that ends drops the flight at once, which takes it off the list.
        if let Some(flight) = flight {
            tokio::spawn(flight.in_current_span());
        }
        receiver.wait_for(Option::is_some).await.ok()?.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_many_want_is_fetched_once_and_a_failure_is_shared_too() {
        let (flights, fetched) =
            (SingleFlight::<_, Result<u32, &str>>::default(), Arc::new(AtomicU32::new(0)));
        let fetch = || {
            let fetched = Arc::clone(&fetched);
            async move {
                tokio::task::yield_now().await;
                match fetched.fetch_add(1, Ordering::Relaxed) {
                    0 => Err("away"),
                    n => Ok(n),
                }
            }
        };
        let all = join_all((0..10).map(|_| flights.join("a", fetch))).await;
        assert_eq!(all, vec![Some(Err("away")); 10]);
        assert_eq!(flights.join("a", fetch).await, Some(Ok(1)));
        assert_eq!(fetched.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_fetch_goes_on_when_who_began_it_gives_up_and_one_that_panics_is_begun_anew() {
        let (flights, gate) = (SingleFlight::<_, u32>::default(), Arc::new(Notify::new()));
        let fetch = || {
            let gate = Arc::clone(&gate);
            async move {
                gate.notified().await;
                7
            }
        };
        let mut first = Box::pin(flights.join("a", fetch));
        assert!(futures::poll!(first.as_mut()).is_pending());
        drop(first);
        let second = flights.join("a", || async { unreachable!("one is under way") });
        gate.notify_one();
        assert_eq!(second.await, Some(7));
        assert_eq!(flights.join("b", || async { panic!("scripted") }).await, None);
        assert_eq!(flights.join("b", || async { 8 }).await, Some(8));
    }
}
