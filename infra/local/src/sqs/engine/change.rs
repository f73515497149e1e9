//! The changes of a set of queues, as the journal stores them.
//!
//! **Invariant:** replaying the changes of a journal in order gives the same queues. Queues change by a `Change` only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fifo::{Original, SameAs};
use super::message::Message;
use super::move_task::MoveTask;

/// One change. Times are milliseconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Change {
    Created {
        queue: String,
        attributes: BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
        at_ms: u64,
        /// Above every number that was ever used, so that an old receipt handle never fits a new message.
        next_seq: u64,
    },
    AttributesSet {
        queue: String,
        attributes: BTreeMap<String, String>,
        at_ms: u64,
    },
    TagsSet {
        queue: String,
        tags: BTreeMap<String, String>,
    },
    Dropped {
        queue: String,
    },
    Purged {
        queue: String,
    },
    Stored {
        queue: String,
        seq: u64,
        message: Message,
    },
    /// A FIFO queue learned a deduplication id.
    Remembered {
        queue: String,
        same_as: SameAs,
        original: Original,
    },
    Received {
        queue: String,
        seq: u64,
        at_ms: u64,
        due_ms: u64,
    },
    Hidden {
        queue: String,
        seq: u64,
        due_ms: u64,
    },
    Released {
        queue: String,
        seq: u64,
        at_ms: u64,
    },
    Removed {
        queue: String,
        seq: u64,
    },
    /// A task that moves messages was started or made progress.
    MoveSet {
        task: MoveTask,
    },
}
