//! Ends dead letters: every worker scans the dead-letter queue, and ends the calls that are due.
//!
//! A scan goes through the whole queue: messages that are not due stay hidden until the scan ends, so that they are not received again
//! before the due ones behind them. Then they are visible again, so that a message move task can redrive them.
//!
//! **Invariant:** it takes no slot from the calls; a dead letter is either recorded and deleted, or still in the queue.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;
use toolfleet_aws::AwsError;
use toolfleet_aws::queue::{Delivery, Receipt};

use super::Service;
use crate::backoff;
use crate::context::{DeadLetters, WorkerContext};
use crate::pipeline::{self, NEVER_MS, Reaped};
use crate::shutdown::Shutdown;

/// The most messages SQS hands out at once.
const BATCH: u32 = 10;
/// How often a worker whose clock is off looks whether it is right again: it cannot tell what is due.
const CLOCK_CHECK: Duration = Duration::from_secs(1);
/// How long the first receive of a scan waits for a message, in seconds: the most SQS allows.
const WAIT_S: u32 = 20;
/// How long the others wait: long enough for SQS to ask all of its servers.
const NEXT_WAIT_S: u32 = 1;
/// The longest pause between two looks at messages that are not due.
const SCAN_AGAIN: Duration = Duration::from_secs(30);
/// The longest pause while the queue holds only messages that are never due: each look at those is in vain.
const SCAN_AGAIN_IN_VAIN: Duration = Duration::from_secs(300);
/// The longest scan, and how long it hides what it receives.
const LONGEST_SCAN: Duration = Duration::from_secs(30);
const HIDDEN_S: u32 = 60;
/// Messages of one scan that are made visible again when it ends. If there are more, they stay hidden for [`BEHIND_S`], so that the next
/// scan receives what is behind them.
const MOST: usize = 5_000;
const BEHIND_S: u64 = 300;

/// The service that ends dead letters; without a dead-letter queue it does nothing.
pub struct Reaper {
    context: Arc<WorkerContext>,
}

impl Reaper {
    /// The reaper of that worker.
    pub const fn new(context: Arc<WorkerContext>) -> Self {
        Self { context }
    }
}

impl Service for Reaper {
    fn name(&self) -> &'static str {
        "reaper"
    }

    async fn run(&self, shutdown: &Shutdown) {
        reap_until_drained(&self.context, shutdown).await;
    }
}

async fn reap_until_drained(context: &Arc<WorkerContext>, shutdown: &Shutdown) {
    let Some(dead) = context.dead_letters.clone() else {
        shutdown.draining().await;
        return;
    };
    let (mut failures, mut in_vain) = (0, 0);
    while !shutdown.is_draining() {
        if context.clock_is_off() {
            tokio::select! {
                () = shutdown.draining() => return,
                () = tokio::time::sleep(CLOCK_CHECK) => continue,
            }
        }
        let scan = scan(context, &dead).await;
        let soonest_ms = scan.undue.iter().map(|(_, after_ms)| *after_ms).min();
        scan.end(&dead).await;
        let pause = if let Some(error) = &scan.error {
            failures += 1;
            tracing::error!(%error, code = "receive_failed", failures, "cannot receive dead letters; trying again");
            Duration::from_millis(backoff::after_tries(failures))
        } else {
            failures = 0;
            in_vain = if soonest_ms == Some(NEVER_MS) { in_vain + 1 } else { 0 };
            pause(soonest_ms, in_vain)
        };
        tokio::select! {
            () = shutdown.draining() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// The pause after a scan whose soonest message is due in `soonest_ms`, the last of `in_vain` scans that found only messages that are
/// never due.
fn pause(soonest_ms: Option<u64>, in_vain: u32) -> Duration {
    let again = SCAN_AGAIN.saturating_mul(1 << in_vain.saturating_sub(1).min(8)).min(SCAN_AGAIN_IN_VAIN);
    soonest_ms.map_or(Duration::ZERO, Duration::from_millis).min(again)
}

/// One scan through the dead-letter queue.
#[derive(Default)]
struct Scan {
    /// What is not due, and in how many milliseconds it is.
    undue: Vec<(Receipt, u64)>,
    error: Option<AwsError>,
}

impl Scan {
    /// Makes visible again what is not due.
    async fn end(&self, dead: &DeadLetters) {
        let many = self.undue.len() >= MOST;
        let seconds = |after_ms: u64| {
            let behind = if many { after_ms.div_ceil(1000).min(BEHIND_S) } else { 0 };
            u32::try_from(behind).unwrap_or(0)
        };
        let back = self
            .undue
            .iter()
            .map(|(receipt, after_ms)| dead.queue.change_visibility(receipt, seconds(*after_ms)));
        for error in join_all(back).await.into_iter().filter_map(Result::err) {
            tracing::warn!(%error, code = "requeue_failed", "cannot make a dead letter visible again");
        }
    }
}

/// Reaps what is due until the queue is empty, and hides what is not due until then.
async fn scan(context: &Arc<WorkerContext>, dead: &Arc<DeadLetters>) -> Scan {
    let mut scan = Scan::default();
    let until = Instant::now() + LONGEST_SCAN;
    loop {
        let wait_s = if scan.undue.is_empty() { WAIT_S } else { NEXT_WAIT_S };
        let hidden_s = context.limits.visibility_s().max(HIDDEN_S);
        let received = tokio::select! {
            () = context.shutdown.draining() => return scan,
            received = dead.queue.receive(BATCH, wait_s, hidden_s) => received,
        };
        match received {
            Ok(deliveries) if deliveries.is_empty() => return scan,
            Ok(deliveries) => scan.undue.extend(batch(context, dead, deliveries).await),
            Err(error) => {
                scan.error = Some(error);
                return scan;
            }
        }
        if scan.undue.len() >= MOST || (Instant::now() >= until && !scan.undue.is_empty()) {
            return scan;
        }
    }
}

/// Reaps what a receive brought; gives what of it is not due, and in how many milliseconds it is.
async fn batch(
    context: &Arc<WorkerContext>,
    dead: &Arc<DeadLetters>,
    deliveries: Vec<Delivery>,
) -> Vec<(Receipt, u64)> {
    let mut under_way = JoinSet::new();
    for delivery in deliveries {
        let receipt = delivery.receipt.clone();
        let reaping = pipeline::reap(context.clone(), dead.clone(), delivery);
        // A task of its own for each, so that a panic ends there.
        under_way.spawn(async move { (receipt, reaping.await) });
    }
    let mut undue = Vec::new();
    while let Some(reaped) = under_way.join_next().await {
        match reaped {
            Ok((receipt, Reaped::NotDue { after_ms })) => undue.push((receipt, after_ms)),
            Ok((_, Reaped::Met)) => {}
            Err(error) => {
                tracing::error!(%error, code = "internal_error", "a dead letter met a defect of the worker; it stays where it is");
            }
        }
    }
    undue
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_of_messages_that_are_never_due_is_read_ever_less_often() {
        let seconds = |soonest_ms, in_vain| pause(soonest_ms, in_vain).as_secs();
        assert_eq!((seconds(None, 0), seconds(Some(7_000), 0), seconds(Some(90_000), 0)), (0, 7, 30));
        let pauses: Vec<_> = (1..=6).map(|in_vain| seconds(Some(NEVER_MS), in_vain)).collect();
        assert_eq!(pauses, [30, 60, 120, 240, 300, 300]);
        assert_eq!(seconds(Some(NEVER_MS), u32::MAX), 300);
    }
}
