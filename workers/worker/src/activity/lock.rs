//! Locks counts.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a panic left is counts, which are never half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
