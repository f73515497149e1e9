//! Remembers which unreadable messages of the dead-letter queue have a record, so that a worker writes each record once.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The most messages that are remembered.
const MOST_REMEMBERED: usize = 10_000;

/// The unreadable messages in the dead-letter queue whose record this worker has seen to.
#[derive(Debug, Default)]
pub(crate) struct OnRecord(Mutex<HashSet<String>>);

impl OnRecord {
    pub(super) fn has(&self, message_id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(message_id)
    }

    pub(super) fn add(&self, message_id: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(message_id.to_owned());
    }
}
