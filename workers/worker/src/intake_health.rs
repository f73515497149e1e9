//! Whether the intake works: when it last began a receive from each queue, and when the queue last answered one.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::request::Priority;

/// A worker with free slots is ready if a receive was answered within this time: three long polls.
const READY_FOR: Duration = Duration::from_secs(60);
/// A worker with free slots is alive if its intake began a receive within this time.
const LIVE_FOR: Duration = Duration::from_secs(180);

/// When the intake last began a receive from each queue, and when one was last answered.
#[derive(Debug)]
pub struct IntakeHealth {
    created: Instant,
    queues: Vec<(Priority, QueueHealth)>,
}

#[derive(Debug, Default)]
struct QueueHealth {
    started_ms: AtomicU64,
    /// 0: never.
    received_ms: AtomicU64,
    /// Receivers that wait for a free slot.
    waiting: AtomicU32,
}

/// Held while a receiver waits for a free slot.
pub(crate) struct Waiting<'a>(Option<&'a AtomicU32>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.0 {
            waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl IntakeHealth {
    /// The health of an intake that reads those queues.
    pub(crate) fn of(queues: impl Iterator<Item = Priority>) -> Self {
        let queues = queues.map(|queue| (queue, QueueHealth::default())).collect();
        Self { created: Instant::now(), queues }
    }

    /// The intake starts: it has as long as ever until its first receive, however long the worker's start has taken.
    pub(crate) fn begin(&self) {
        for (_, health) in &self.queues {
            health.started_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    fn queue(&self, queue: Priority) -> Option<&QueueHealth> {
        self.queues.iter().find(|(priority, _)| *priority == queue).map(|(_, health)| health)
    }

    /// A receiver begins: it waits for a slot while the returned guard is held.
    pub(crate) fn begin_receive(&self, queue: Priority) -> Waiting<'_> {
        let waiting = self.queue(queue).map(|health| {
            health.started_ms.store(self.now_ms(), Ordering::Relaxed);
            health.waiting.fetch_add(1, Ordering::Relaxed);
            &health.waiting
        });
        Waiting(waiting)
    }

    /// A receive was answered.
    pub(crate) fn received(&self, queue: Priority) {
        if let Some(health) = self.queue(queue) {
            health.received_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    /// A receiver does not receive because its queue is paused.
    pub(crate) fn paused(&self, queue: Priority) {
        drop(self.begin_receive(queue));
        self.received(queue);
    }

    /// Whether each queue's receives begin, unless all slots are busy.
    pub(crate) fn is_live(&self) -> bool {
        self.queues.iter().all(|(_, health)| health.is_busy() || self.since(&health.started_ms) < LIVE_FOR)
    }

    /// Whether each queue answers.
    pub(crate) fn is_ready(&self) -> bool {
        self.queues.iter().all(|(_, health)| {
            let received = health.received_ms.load(Ordering::Relaxed) > 0;
            received && (health.is_busy() || self.since(&health.received_ms) < READY_FOR)
        })
    }

    fn since(&self, then: &AtomicU64) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(then.load(Ordering::Relaxed)))
    }

    /// Milliseconds since the creation, and never 0.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

impl QueueHealth {
    /// A worker whose slots are all busy has nothing to receive for.
    fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_ready_while_the_queue_answers() {
        let intake_health = IntakeHealth::of([Priority::Normal].into_iter());
        assert!(!intake_health.is_ready() && intake_health.is_live());
        drop(intake_health.begin_receive(Priority::Normal));
        intake_health.received(Priority::Normal);
        assert!(intake_health.is_ready());
        tokio::time::advance(READY_FOR + Duration::from_millis(1)).await;
        assert!(!intake_health.is_ready() && intake_health.is_live());
        tokio::time::advance(LIVE_FOR).await;
        assert!(!intake_health.is_live(), "the intake begins no receive though slots are free");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_start_takes_nothing_from_the_first_receive() {
        let intake_health = IntakeHealth::of([Priority::Normal].into_iter());
        tokio::time::advance(LIVE_FOR * 10).await;
        intake_health.begin();
        assert!(intake_health.is_live() && !intake_health.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_whose_slots_are_all_busy_is_ready_and_live() {
        let intake_health = IntakeHealth::of([Priority::Normal].into_iter());
        intake_health.received(Priority::Normal);
        let waiting = intake_health.begin_receive(Priority::Normal);
        tokio::time::advance(LIVE_FOR * 10).await;
        assert!(intake_health.is_ready() && intake_health.is_live());
        drop(waiting);
        assert!(!intake_health.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_ready_only_if_each_of_its_queues_answers() {
        let intake_health = IntakeHealth::of([Priority::High, Priority::Normal].into_iter());
        intake_health.received(Priority::Normal);
        assert!(!intake_health.is_ready(), "the high one has not answered");
        intake_health.paused(Priority::High);
        assert!(intake_health.is_ready(), "a paused queue is not asked");
    }
}
