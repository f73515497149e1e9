//! How a delivery came to the worker: received by it, or in an invocation of a Lambda function.
//!
//! The worker deletes a message that it has received. Lambda deletes a message of an invocation, unless the response names it: the pipeline
//! notes which may be deleted.
//!
//! **Invariant:** a message may be deleted only where the pipeline would have deleted it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::queue::Delivery;

use crate::context::WorkerContext;
use crate::shutdown::Shutdown;

/// How a delivery came to the worker. Clones are one.
#[derive(Debug, Clone)]
pub struct Origin {
    shutdown: Shutdown,
    invoked: Option<Arc<Invoked>>,
}

#[derive(Debug)]
struct Invoked {
    window: Window,
    queue_is_paused: bool,
    may_be_deleted: AtomicBool,
    /// A heartbeat has changed for how long SQS hides the message: it may be visible again before the invocation ends.
    is_rehidden: AtomicBool,
}

/// The time in which an invocation runs calls.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Its begin.
    pub begun: Instant,
    /// When what runs is handed back.
    pub until: Instant,
}

/// Why a call does not begin in an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LacksTime {
    /// Too little time is left; another invocation has it.
    Now,
    /// No invocation has it.
    Always,
}

impl Origin {
    /// Of a message that the worker has received.
    pub fn received(context: &WorkerContext) -> Self {
        Self { shutdown: context.shutdown.clone(), invoked: None }
    }

    /// Of a message of an invocation, which ends with `shutdown`.
    pub fn invoked(shutdown: Shutdown, window: Window, queue_is_paused: bool) -> Self {
        let (may_be_deleted, is_rehidden) = (AtomicBool::new(false), AtomicBool::new(false));
        let invoked = Invoked { window, queue_is_paused, may_be_deleted, is_rehidden };
        Self { shutdown, invoked: Some(Arc::new(invoked)) }
    }

    /// Whether Lambda may delete the message.
    pub fn may_be_deleted(&self) -> bool {
        self.invoked.as_ref().is_some_and(|invoked| invoked.may_be_deleted.load(Ordering::Acquire))
    }

    /// The end of what runs for the delivery.
    pub(crate) const fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Whether an operator has paused the queue of a message that came all the same.
    pub(super) fn queue_is_paused(&self) -> bool {
        self.invoked.as_ref().is_some_and(|invoked| invoked.queue_is_paused)
    }

    /// Whether what may take `limit` has to wait for another invocation.
    pub(super) fn lacks_time(&self, limit: Duration) -> Option<LacksTime> {
        let Window { begun, until } = self.invoked.as_ref()?.window;
        if Instant::now() + limit <= until {
            return None;
        }
        Some(if begun + limit <= until { LacksTime::Now } else { LacksTime::Always })
    }

    /// A heartbeat hides the message for another time.
    pub(super) fn rehidden(&self) {
        if let Some(invoked) = &self.invoked {
            invoked.is_rehidden.store(true, Ordering::Release);
        }
    }

    /// Deletes the message, or leaves that to Lambda where nobody receives it before.
    pub(super) async fn delete(&self, delivery: &Delivery) -> Result<(), AwsError> {
        let leaves_it = self.invoked.as_ref().is_some_and(|of| !of.is_rehidden.load(Ordering::Acquire));
        if !leaves_it {
            delivery.queue.delete(&delivery.receipt).await?;
        }
        if let Some(invoked) = &self.invoked {
            invoked.may_be_deleted.store(true, Ordering::Release);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_invocation_has_the_time_that_is_left_too_late_in_this_one() {
        let begun = Instant::now();
        let window = Window { begun, until: begun + Duration::from_secs(50) };
        let origin = Origin::invoked(Shutdown::new(), window, false);
        let lacks = |seconds| origin.lacks_time(Duration::from_secs(seconds));
        assert_eq!((lacks(50), lacks(51)), (None, Some(LacksTime::Always)));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!((lacks(20), lacks(21), lacks(51)), (None, Some(LacksTime::Now), Some(LacksTime::Always)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_an_invocation_is_not_that_of_the_worker() {
        let worker = Shutdown::new();
        let (one, other) = (worker.child(), worker.child());
        one.end();
        assert!(one.is_draining() && !other.is_draining() && !worker.is_draining());
        worker.begin(Duration::from_secs(5));
        assert!(other.is_draining());
        other.over().await;
    }
}
