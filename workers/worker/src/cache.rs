//! Owns a small cache with expiry, for what a worker may remember for a while: sessions, discovered tools.
//!
//! **Invariant:** it never holds more than its capacity, and never hands out what has expired.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Values that are good for a while.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    good_for: Duration,
    capacity: usize,
    entries: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// An empty cache.
    pub(crate) fn new(good_for: Duration, capacity: usize) -> Self {
        Self { good_for, capacity, entries: Mutex::default() }
    }

    /// What is remembered of `key`.
    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, value)| value.clone())
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Remembers `value`.
    pub(crate) fn put(&self, key: K, value: V) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= self.capacity {
            let now = Instant::now();
            entries.retain(|_, (until, _)| *until > now);
            if entries.len() >= self.capacity {
                entries.clear();
            }
        }
        entries.insert(key, (Instant::now() + self.good_for, value));
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
    async fn it_never_outgrows_its_capacity() {
        let cache = Cache::new(Duration::from_secs(5), 3);
        for n in 0..100 {
            cache.put(n, n);
        }
        assert!(cache.entries.lock().unwrap().len() <= 3);
    }
}
