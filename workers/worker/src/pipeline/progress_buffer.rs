//! Owns what is progress_buffer of a call while it runs: gathered as it comes, written at a pace that the tables can bear (`lease.rs`).
//!
//! **Invariant:** a notification is never a write of its own; what was heard and not written yet goes with the outcome.

use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;
use toolfleet_core::progress::{CallProgress, LogLine, ProgressNote};
use toolfleet_core::time::Timestamp;

/// What the server told since the claim.
#[derive(Debug, Default)]
pub(super) struct ProgressBuffer {
    gathered: Mutex<Gathered>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Gathered {
    notes: Option<Box<CallProgress>>,
    /// Grows with every note.
    version: u64,
}

impl ProgressBuffer {
    /// Goes on from what an earlier claim has noted.
    pub(super) fn after(earlier: Option<&CallProgress>) -> Self {
        let notes = earlier.cloned().map(Box::new);
        Self { gathered: Mutex::new(Gathered { notes, version: 0 }), news: Notify::new() }
    }

    pub(super) fn hear(&self, note: ProgressNote, now: Timestamp) {
        {
            let mut gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
            gathered.version += 1;
            gathered.notes.get_or_insert_with(|| Box::new(CallProgress::none(now))).take(note, now);
        }
        self.news.notify_one();
    }

    /// A task's word on itself comes with every answer: it is heard when it is another than the last.
    pub(super) fn hear_of_task(&self, text: String, now: Timestamp) {
        let last = |gathered: &Gathered| {
            let line = gathered.notes.as_ref().and_then(|notes| notes.log.last());
            line.is_some_and(|line| line.text == text)
        };
        let known = last(&self.gathered.lock().unwrap_or_else(PoisonError::into_inner));
        if !known && !text.is_empty() {
            self.hear(ProgressNote::Log(LogLine { level: "task".to_owned(), text }), now);
        }
    }

    /// What was heard beyond `version`, and the version it is.
    pub(super) fn since(&self, version: u64) -> Option<(Box<CallProgress>, u64)> {
        let gathered = self.gathered.lock().unwrap_or_else(PoisonError::into_inner);
        let notes = gathered.notes.as_ref().filter(|_| gathered.version > version)?;
        Some((notes.clone(), gathered.version))
    }

    /// Waits for something beyond `version`. One waits at a time.
    pub(super) async fn news(&self, version: u64) {
        while self.since(version).is_none() {
            self.news.notified().await;
        }
    }
}
