//! How large a run is.

use std::time::Duration;

/// The size of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// How many calls are sent.
    pub calls: u32,
    /// For how long calls are sent and faults come.
    pub length: Duration,
    /// From a call's sending to its deadline, unless it is in a hurry.
    pub timeout_ms: u64,
}
