//! Owns the changes a set of queues can undergo, in the form in which the journal keeps them.
//!
//! **Invariant:** replaying the changes of a journal in order gives the same queues; nothing changes a queue but a change.

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
        /// Above every number ever given out, so that an old receipt handle never fits a new message.
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
    /// A task that moves messages was started, or got on.
    MoveSet {
        task: MoveTask,
    },
}
