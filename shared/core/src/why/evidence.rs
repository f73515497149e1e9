//! What is known of a call when somebody asks why it is not running.

use serde::Serialize;

use crate::call::CallRow;
use crate::control::Control;
use crate::ids::CallKey;
use crate::time::Timestamp;

/// What was read. A part that could not be read is absent.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The call.
    pub key: &'a CallKey,
    /// Its row.
    pub row: Option<&'a CallRow>,
    /// Now.
    pub now: Timestamp,
    /// What operators have set.
    pub control: Option<&'a Control>,
    /// The workers.
    pub workers: Option<&'a WorkersSeen>,
    /// The queues of calls; empty if they were not read.
    pub queues: &'a [QueueState],
    /// Whether the dead-letter queue holds its message.
    pub dead_letter: &'a DeadLetterSeen,
    /// Whether only the row was read: what else is not known is then not listed.
    pub row_only: bool,
}

impl<'a> Evidence<'a> {
    /// No more than the row.
    pub const fn of_row(key: &'a CallKey, row: Option<&'a CallRow>, now: Timestamp) -> Self {
        let dead_letter = &DeadLetterSeen::NotRead;
        Self { key, row, now, control: None, workers: None, queues: &[], dead_letter, row_only: true }
    }
}

/// The workers, as they report.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WorkersSeen {
    /// Those that report.
    pub alive: u64,
    /// Those of them that drain, and start nothing.
    pub draining: u64,
    /// The slots of those that report.
    pub slots: u64,
    /// Slots that are taken.
    pub busy: u64,
    /// The part of the fleet's slot time that the tenant had within a minute, from 0 to 1.
    pub tenant_share: Option<f64>,
    /// The worker that holds the call's claim.
    pub holder: HolderSeen,
}

/// What the worker that holds a claim reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderSeen {
    /// Not known.
    #[default]
    NotKnown,
    /// It reported at that instant, and is not overdue.
    Reports(Timestamp),
    /// It has not reported since that instant.
    SilentSince(Timestamp),
    /// It has no row: it stopped, or it never reported.
    Absent,
}

/// About how many messages a queue holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueState {
    /// Its name.
    pub name: String,
    /// Its name in a switch: `high`, `default` or `low`.
    pub priority: String,
    /// Ready to be received.
    pub visible: u64,
    /// Received and not deleted.
    pub in_flight: u64,
    /// Delayed.
    pub delayed: u64,
    /// How long a message waited that was received for the first time lately, in milliseconds, where workers report it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Whether the dead-letter queue holds the call's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterSeen {
    /// It was not read.
    NotRead,
    /// There is none.
    NoQueue,
    /// The message is not among the `looked_at` messages that were read; `all` if these are all of them.
    NotFound {
        /// How many were read.
        looked_at: u64,
        /// Whether there are no others.
        all: bool,
    },
    /// It is there.
    Found(DeadLetterFound),
}

/// The message of a call in the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterFound {
    /// The code of its record, where a worker moved it there; otherwise it was received too often.
    pub reason: Option<String>,
    /// When the call's first message was sent.
    pub first_sent: Timestamp,
    /// When its own message was sent, or its call's `not_before` where that is later.
    pub waited_until: Timestamp,
    /// The deadline that its request names.
    pub deadline: Option<Timestamp>,
}
