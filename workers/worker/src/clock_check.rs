//! Whether this machine's clock is known to be wrong, and the clock that a worker goes by. A worker with a wrong clock takes no calls and takes
//! no claim and no permit of another for lost. What it still writes, of the calls that it has, others compare with their own clocks: so it goes
//! by the clock of DynamoDB meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use toolfleet_aws::{Clock, ServerTime};
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
    pub(crate) fn new(server_time: ServerTime, skew_ms: u64) -> Self {
        Self { server_time, skew_ms, said: Arc::default() }
    }

    /// The clock of the worker: this machine's, and where both are known to differ by more than is allowed, that of DynamoDB. The dates of answers
    /// are right to within that.
    pub(crate) fn clock(&self, machine: Clock) -> Clock {
        let check = self.clone();
        Clock::Of(Arc::new(move || {
            let off_by_ms = check.off_by_ms().unwrap_or(0);
            Timestamp::from_ms(machine.now().as_ms().saturating_sub(off_by_ms))
        }))
    }

    /// By how many milliseconds this machine's clock is ahead of DynamoDB's, or behind if that is negative, if by more than is allowed.
    pub(crate) fn off_by_ms(&self) -> Option<i64> {
        self.server_time.off_by_ms(self.skew_ms)
    }

    /// How long after its time an entry counts, in milliseconds: for ever, where the clock is off.
    pub(crate) fn skew_ms(&self) -> u64 {
        if self.is_off() { u64::MAX } else { self.skew_ms }
    }

    /// Whether the clock is off by more than leases allow for.
    pub(crate) fn is_off(&self) -> bool {
        let Some(off_by_ms) = self.off_by_ms() else {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_goes_by_dynamodb_where_its_machine_is_wrong() {
        let right = Timestamp::from_ms(1_795_176_000_000);
        for off_ms in [3_600_000, -3_600_000] {
            let (time, machine_now) = (ServerTime::default(), Timestamp::from_ms(right.as_ms() + off_ms));
            let check = ClockCheck::new(time.clone(), 2_000);
            let clock = check.clock(Clock::Of(Arc::new(move || machine_now)));
            assert_eq!((clock.now(), check.off_by_ms()), (machine_now, None), "nothing is known yet");
            for _ in 0..2 {
                time.learn(machine_now, machine_now, "Fri, 20 Nov 2026 12:00:00 GMT");
            }
            assert_eq!((clock.now(), check.off_by_ms()), (right, Some(off_ms)));
            // The machine's clock was set right.
            time.learn(right, right, "Fri, 20 Nov 2026 12:00:00 GMT");
            assert_eq!(clock.now(), machine_now);
        }
    }
}
