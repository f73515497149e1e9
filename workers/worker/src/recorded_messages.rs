//! The unreadable messages in the dead-letter queue that this worker has recorded.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// The most messages kept; beyond it the set is cleared, and messages are recorded again.
const MAX_MESSAGES: usize = 10_000;

/// A bounded set of message ids.
#[derive(Debug, Default)]
pub(crate) struct RecordedMessages(Mutex<HashSet<String>>);

impl RecordedMessages {
    /// Whether the message was recorded.
    pub(crate) fn has(&self, message_id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(message_id)
    }

    /// The message is recorded.
    pub(crate) fn add(&self, message_id: &str) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_MESSAGES {
            known.clear();
        }
        known.insert(message_id.to_owned());
    }
}
