//! A bounded cache with a TTL: sessions and discovered tools.
//!
//! **Invariant:** it never holds more than its capacity, and never hands out what has expired.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher as _, Hash};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Values with a TTL.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    good_for: Duration,
    capacity: usize,
    entries: Mutex<HashMap<K, (Instant, V)>>,
    /// Locks by hash of the key while its value is loaded; two keys with one lock wait for each other briefly.
    turns: Vec<tokio::sync::Mutex<()>>,
    hasher: RandomState,
}

/// How many keys can be loaded at once.
const TURNS: usize = 256;

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// An empty cache.
    pub(crate) fn new(good_for: Duration, capacity: usize) -> Self {
        let turns = std::iter::repeat_with(tokio::sync::Mutex::default).take(TURNS).collect();
        Self { good_for, capacity, entries: Mutex::default(), turns, hasher: RandomState::new() }
    }

    /// The cached value of `key`.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, value)| value.clone())
    }

    /// The cached value of `key`, or else that which `learn` loads; it is cached if there is one. The calls of one agent turn arrive
    /// together: the first loads, the others wait for it instead of loading too.
    pub(crate) async fn learn<E>(
        &self,
        key: &K,
        learn: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, E> {
        let place = usize::try_from(self.hasher.hash_one(key)).unwrap_or(0) % TURNS;
        let _turn = match self.turns.get(place) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        if let Some(known) = self.get(key) {
            return Ok(Some(known));
        }
        let learned = learn.await?;
        if let Some(value) = &learned {
            self.put(key.clone(), value.clone());
        }
        Ok(learned)
    }

    /// Forgets all.
    pub(crate) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Remembers `value`.
    pub(crate) fn put(&self, key: K, value: V) {
        self.put_for(key, value, self.good_for);
    }

    /// Remembers `value` for that long.
    pub(crate) fn put_for(&self, key: K, value: V, good_for: Duration) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.capacity {
            let now = Instant::now();
            entries.retain(|_, (until, _)| *until > now);
            if entries.len() >= self.capacity {
                entries.clear();
            }
        }
        entries.insert(key, (Instant::now() + good_for, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_value_is_forgotten_when_its_time_is_over() {
        let cache = Cache::new(Duration::from_secs(5), 10);
        cache.put("a", 1);
        assert_eq!(cache.get(&"a"), Some(1));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(cache.get(&"a"), None);
    }

    #[tokio::test]
    async fn what_many_ask_for_at_once_is_learned_once_and_neither_a_failure_nor_nothing_is_remembered() {
        let cache = Cache::new(Duration::from_secs(5), 10);
        let learned = std::sync::atomic::AtomicU32::new(0);
        let learn = || async {
            tokio::task::yield_now().await;
            match learned.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Err("throttled"),
                1 => Ok(None),
                n => Ok(Some(n)),
            }
        };
        assert_eq!(cache.learn(&"a", learn()).await, Err("throttled"));
        assert_eq!(cache.learn(&"a", learn()).await, Ok(None));
        let all = futures::future::join_all((0..10).map(|_| cache.learn(&"a", learn()))).await;
        assert_eq!(all, vec![Ok(Some(2)); 10]);
        assert_eq!(learned.into_inner(), 3);
    }

    #[tokio::test]
    async fn it_never_outgrows_its_capacity() {
        let cache = Cache::new(Duration::from_secs(5), 3);
        for n in 0..100 {
            cache.put(n, n);
        }
        assert!(cache.entries.lock().unwrap().len() <= 3);
    }
}
