//! Whether this machine's clock is known to be wrong. A worker with such a clock takes no calls, takes no entry of another for lost, and writes
//! none that others take for lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use toolfleet_aws::ServerTime;
use toolfleet_core::time::Timestamp;

/// What is known of the worker's clock. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct ClockCheck {
    server_time: ServerTime,
    /// The allowed difference of two clocks, in milliseconds.
    skew_ms: u64,
    /// Whether the log says already that the clock is off.
    said: Arc<AtomicBool>,
}

impl ClockCheck {
    pub(super) fn new(server_time: ServerTime, skew_ms: u64) -> Self {
        Self { server_time, skew_ms, said: Arc::default() }
    }

    /// That time of the machine's clock by the clock of DynamoDB, where both are known to differ by more than is allowed. The dates of answers are
    /// right to within that.
    pub(super) fn corrected(&self, now: Timestamp) -> Timestamp {
        let off_by_ms = self.server_time.off_by_ms(self.skew_ms).unwrap_or(0);
        Timestamp::from_ms(now.as_ms().saturating_sub(off_by_ms))
    }

    /// How long after its time an entry counts, in milliseconds: for ever, where the clock is off.
    pub(super) fn skew_ms(&self) -> u64 {
        if self.is_off() { u64::MAX } else { self.skew_ms }
    }

    /// Whether the clock is off by more than leases allow for.
    pub(crate) fn is_off(&self) -> bool {
        let Some(off_by_ms) = self.server_time.off_by_ms(self.skew_ms) else {
            if self.said.swap(false, Ordering::Relaxed) {
                tracing::info!("this machine's clock is that of DynamoDB again");
            }
            return false;
        };
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::error!(
                off_by_ms,
                code = "clock_off",
                "this machine's clock is not that of DynamoDB; its worker takes no calls until both agree"
            );
        }
        true
    }
}
