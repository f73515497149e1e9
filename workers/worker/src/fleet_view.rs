//! The summary of the fleet as this worker last read it. It is some seconds old, and missing at first.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use toolfleet_core::fleet::{BEAT_MS, FleetSummary};
use toolfleet_core::time::Timestamp;

/// The summary that was read last.
#[derive(Debug, Default)]
pub struct FleetView(ArcSwapOption<FleetSummary>);

impl FleetView {
    /// Uses `summary` from now on.
    pub fn take(&self, summary: FleetSummary) {
        self.0.store(Some(Arc::new(summary)));
    }

    /// The summary, unless it is so old that no worker renews it.
    pub fn current(&self, now: Timestamp) -> Option<Arc<FleetSummary>> {
        self.0.load_full().filter(|summary| !summary.is_stale(now))
    }

    /// The summary, however old it is.
    pub fn last(&self) -> Option<Arc<FleetSummary>> {
        self.0.load_full()
    }

    /// How many workers live, this one included.
    pub fn workers(&self, now: Timestamp) -> u32 {
        self.current(now).map_or(1, |summary| summary.workers.alive.max(1))
    }

    /// How often a worker writes its row, in milliseconds.
    pub fn beat_ms(&self, now: Timestamp) -> u64 {
        self.current(now).map_or(BEAT_MS, |summary| summary.beat_ms)
    }
}
