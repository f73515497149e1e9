//! Collects the progress that a server reports while its call runs; the heartbeat stores it at a pace that the tables can bear.
//!
//! A notification is never a write of its own. What is collected and not stored yet is stored with the outcome.

use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;
use toolfleet_core::progress::{CallProgress, LogLine, ProgressNote};
use toolfleet_core::time::Timestamp;

/// The progress of one call since its claim.
#[derive(Debug, Default)]
pub(super) struct ProgressBuffer {
    collected: Mutex<Collected>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Collected {
    notes: Option<Box<CallProgress>>,
    /// Grows with every addition.
    version: u64,
}

impl ProgressBuffer {
    /// Continues with what an earlier claim has collected.
    pub(super) fn after(earlier: Option<&CallProgress>) -> Self {
        let notes = earlier.cloned().map(Box::new);
        Self { collected: Mutex::new(Collected { notes, version: 0 }), changed: Notify::new() }
    }

    pub(super) fn add(&self, note: ProgressNote, now: Timestamp) {
        {
            let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
            collected.version += 1;
            collected.notes.get_or_insert_with(|| Box::new(CallProgress::none(now))).take(note, now);
        }
        self.changed.notify_one();
    }

    /// Adds the message that a task's status comes with, where it is another than the last one.
    pub(super) fn add_task_message(&self, text: String, now: Timestamp) {
        let last = |collected: &Collected| {
            let line = collected.notes.as_ref().and_then(|notes| notes.log.last());
            line.is_some_and(|line| line.text == text)
        };
        let known = last(&self.collected.lock().unwrap_or_else(PoisonError::into_inner));
        if !known && !text.is_empty() {
            self.add(ProgressNote::Log(LogLine { level: "task".to_owned(), text }), now);
        }
    }

    /// The progress, if there is any beyond `version`, and its version.
    pub(super) fn since(&self, version: u64) -> Option<(Box<CallProgress>, u64)> {
        let collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = collected.notes.as_ref().filter(|_| collected.version > version)?;
        Some((notes.clone(), collected.version))
    }

    /// Waits for something beyond `version`. One waits at a time.
    pub(super) async fn changed(&self, version: u64) {
        while self.since(version).is_none() {
            self.changed.notified().await;
        }
    }
}
