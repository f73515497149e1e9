//! Whether the intake works: when it last began a receive, and when the queue last answered one.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A worker with free slots is ready if a receive was answered within this time: three long polls.
const READY_FOR: Duration = Duration::from_secs(60);
/// A worker with free slots is alive if its intake began a receive within this time.
const LIVE_FOR: Duration = Duration::from_secs(180);

/// When the intake last began a receive, and when one was last answered.
#[derive(Debug)]
pub struct IntakeHealth {
    created: Instant,
    started_ms: AtomicU64,
    /// 0: never.
    received_ms: AtomicU64,
    /// Receivers that wait for a free slot.
    waiting: AtomicU32,
}

impl Default for IntakeHealth {
    fn default() -> Self {
        Self {
            created: Instant::now(),
            started_ms: AtomicU64::new(0),
            received_ms: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
        }
    }
}

/// Held while a receiver waits for a free slot.
pub(crate) struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl IntakeHealth {
    /// A receiver begins: it waits for a slot while the returned guard is held.
    pub(crate) fn begin_receive(&self) -> Waiting<'_> {
        self.started_ms.store(self.now_ms(), Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// A receive was answered.
    pub(crate) fn received(&self) {
        self.received_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// A worker whose slots are all busy has nothing to receive for.
    fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn is_live(&self) -> bool {
        self.is_busy() || self.since(&self.started_ms) < LIVE_FOR
    }

    pub(crate) fn is_ready(&self) -> bool {
        let received = self.received_ms.load(Ordering::Relaxed) > 0;
        received && (self.is_busy() || self.since(&self.received_ms) < READY_FOR)
    }

    fn since(&self, then: &AtomicU64) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(then.load(Ordering::Relaxed)))
    }

    /// Milliseconds since the creation, and never 0.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_ready_while_the_queue_answers() {
        let intake_health = IntakeHealth::default();
        assert!(!intake_health.is_ready() && intake_health.is_live());
        drop(intake_health.begin_receive());
        intake_health.received();
        assert!(intake_health.is_ready());
        tokio::time::advance(READY_FOR + Duration::from_millis(1)).await;
        assert!(!intake_health.is_ready() && intake_health.is_live());
        tokio::time::advance(LIVE_FOR).await;
        assert!(!intake_health.is_live(), "the intake begins no receive though slots are free");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_whose_slots_are_all_busy_is_ready_and_live() {
        let intake_health = IntakeHealth::default();
        intake_health.received();
        let waiting = intake_health.begin_receive();
        tokio::time::advance(LIVE_FOR * 10).await;
        assert!(intake_health.is_ready() && intake_health.is_live());
        drop(waiting);
        assert!(!intake_health.is_ready());
    }
}
