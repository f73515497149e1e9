//! How long a claim is sure: the lease from its last renewal, by a clock that never jumps and also counts while the process is frozen.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The lease of one claim, as its worker counts it.
pub(super) struct Lease {
    lasts: Duration,
    sure_until: Mutex<Instant>,
}

impl Lease {
    /// The lease of a claim that was asked for at `claimed_at`.
    pub(super) fn new(claimed_at: Instant, lasts: Duration) -> Self {
        Self { lasts, sure_until: Mutex::new(claimed_at + lasts) }
    }

    /// When it was last asked for.
    pub(super) fn asked(&self) -> Instant {
        self.sure_until().checked_sub(self.lasts).unwrap_or_else(Instant::now)
    }

    /// A renewal that was asked for at `asked` is stored.
    pub(super) fn renew(&self, asked: Instant) {
        *self.sure_until.lock().unwrap_or_else(PoisonError::into_inner) = asked + self.lasts;
    }

    /// Until when no other worker may take the call over.
    pub(super) fn sure_until(&self) -> Instant {
        *self.sure_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another worker may hold the call now.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.sure_until()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_over_after_a_freeze_without_a_heartbeat() {
        let lease = Lease::new(Instant::now(), Duration::from_secs(30));
        tokio::time::advance(Duration::from_secs(10)).await;
        lease.renew(Instant::now());
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(!lease.is_over());
        // Nobody has polled the heartbeat in between, as after SIGSTOP.
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(lease.is_over());
    }
}
