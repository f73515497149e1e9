//! The times of one call, from its audit record.

use toolfleet_core::time::Timestamp;

/// The times of one call, and who executed it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Timeline {
    /// When its message was sent.
    pub(crate) sent_at: Timestamp,
    /// When it was first claimed.
    pub(crate) claimed_at: Option<Timestamp>,
    /// When it ended.
    pub(crate) ended_at: Timestamp,
    /// How many times it was claimed.
    pub(crate) fence: u64,
    /// The worker that ended it.
    pub(crate) worker: Option<String>,
    /// Whether it ended as `outcome_unknown`.
    pub(crate) outcome_unknown: bool,
}
