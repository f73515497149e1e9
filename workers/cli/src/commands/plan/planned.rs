//! All that is planned.

use super::bill::Item;
use super::demand::Peak;
use super::proposal::Proposal;
use super::usage::Usage;
use super::waiting::{Service, Wait};

/// All that is planned.
pub(super) struct Plan {
    /// Calls a second when they are highest.
    pub(super) peak: Peak,
    pub(super) service: Service,
    pub(super) found: Proposal,
    pub(super) usage: Usage,
    pub(super) items: Vec<Item>,
    pub(super) waits: Vec<(u32, Option<Wait>)>,
}

impl Plan {
    /// USD in a month, and for a million calls.
    pub(super) fn usd(&self) -> (f64, f64) {
        let month: f64 = self.items.iter().map(|item| item.usd).sum();
        (month, month / (self.usage.rate * 730.0 * 3_600.0 / 1e6))
    }

    /// The messages in flight when the rate is highest.
    pub(super) fn in_flight(&self) -> f64 {
        self.peak.rate * (self.service.mean_s + self.found.wait.mean_s)
    }
}
