//! What a wrong clock may not do: take an entry of another worker for lost, or write one that others take for lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use toolfleet_aws::ServerTime;
use toolfleet_core::time::Timestamp;

/// What is known of the worker's clock. Clones are one.
#[derive(Debug, Clone)]
pub(super) struct ClockCheck {
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
        let Some(off_by_ms) = self.server_time.off_by_ms(self.skew_ms) else {
            self.said.store(false, Ordering::Relaxed);
            return self.skew_ms;
        };
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::error!(
                off_by_ms,
                code = "clock_off",
                "this machine's clock is not that of DynamoDB; its worker frees no permit of a lost worker until both agree"
            );
        }
        u64::MAX
    }
}
