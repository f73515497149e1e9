//! The times of one call, as its audit record states them.

use toolfleet_core::time::Timestamp;

/// When a call was sent, claimed and ended, and by whom.
#[derive(Debug, Clone, PartialEq)]
pub struct CallTimeline {
    /// When its message was sent.
    pub sent_at: Timestamp,
    /// When it was first claimed.
    pub claimed_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How often it was claimed.
    pub fence: u64,
    /// Who ended it.
    pub worker: Option<String>,
    /// Whether it ended as `outcome_unknown`.
    pub in_doubt: bool,
}
