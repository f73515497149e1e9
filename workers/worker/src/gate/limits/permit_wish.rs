//! What a call asks of a concurrency limit, how it waits for it, and why it has no permit.

use std::time::Duration;

/// What a call asks for.
#[derive(Debug, Clone)]
pub(crate) struct PermitWish {
    /// The name of its entry.
    pub(crate) name: String,
    /// The most permits.
    pub(crate) limit: u32,
    /// How long the entry counts without an answer, in milliseconds.
    pub(crate) hold_ms: u64,
    /// How many workers are alive, where the permit may come of a block.
    pub(crate) workers: Option<u32>,
    /// Whether its call has a turn that is due: it cannot wait for long, and goes before the calls that can.
    pub(crate) in_turn: bool,
}

/// How a call waits for a permit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How long it may wait in the worker's hands; zero where it goes back to the queue at once.
    pub(crate) most: Duration,
    /// The most calls of this limit that wait so.
    pub(crate) most_calls: u32,
    /// Whether it has waited in the queue before: it goes before those that have not.
    pub(crate) is_back: bool,
    /// How many workers are alive.
    pub(crate) workers: u32,
}

/// Why a call has no permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPermit {
    /// None is free.
    Full,
    /// The table does not answer.
    Unknown,
}
