//! The answer of a target to one attempt, in words that hold for every kind of target.

use crate::outcome::Outcome;

/// What a target answered to one attempt.
#[derive(Debug)]
pub struct Answer {
    /// What it means for the call.
    pub meaning: Meaning,
    /// How the target was spoken to, for traces.
    pub connection: Connection,
}

/// What an answer means for its call.
#[derive(Debug)]
pub enum Meaning {
    /// The call has ended: it succeeded, its tool reported an error, or the target asks for input.
    Ended(Outcome),
    /// The target works on the call as a task, to be polled later.
    Task {
        /// The target's name for the task.
        handle: String,
        /// How long the target wants to wait before it is polled, in milliseconds, where it says so.
        poll_after_ms: Option<u64>,
    },
}

/// How a target was spoken to.
#[derive(Debug, Default)]
pub struct Connection {
    /// The version of its protocol; empty where it has none.
    pub protocol_version: String,
    /// The session of its protocol, with targets that have sessions.
    pub session: Option<String>,
}

/// How far the task of a call is.
#[derive(Debug)]
pub enum TaskStatus {
    /// The target works on it.
    Working {
        /// How long the target wants to wait before it is polled again, in milliseconds, where it says so.
        poll_after_ms: Option<u64>,
        /// What the target says of its progress, one short line; may be empty.
        message: String,
    },
    /// It has ended, and the call with it.
    Ended(Outcome),
    /// The target does not know the task.
    Unknown {
        /// What the target says, shortened.
        message: String,
    },
}
