//! Owns the flow of dead letters: every worker looks at the dead-letter queue, and what is due gets its end.
//!
//! What is not due stays visible but for the moment of a look, so that a message move task can still take it back.
//!
//! **Invariant:** it takes no slot from the calls, and what it meets ends in one of two ways: accounted for, or still there.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use toolfleet_aws::queue::Delivery;

use crate::backoff;
use crate::fleet::{DeadLetters, Fleet};
use crate::path::{self, Reaped};

/// The most messages SQS hands out at once.
const BATCH: u32 = 10;
/// How long a receive waits for a message, in seconds: the most SQS allows.
const WAIT_S: u32 = 20;
/// The longest pause between two looks at messages that are not due.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Looks until the worker drains; does nothing where no dead-letter queue is named.
pub async fn run(fleet: Arc<Fleet>) {
    let Some(dead) = fleet.dead_letters.clone() else {
        fleet.shutdown.draining().await;
        return;
    };
    let mut failures = 0;
    while !fleet.shutdown.is_draining() {
        let received = tokio::select! {
            () = fleet.shutdown.draining() => return,
            received = dead.queue.receive(BATCH, WAIT_S, fleet.limits.visibility_s()) => received,
        };
        let pause = match received {
            Ok(deliveries) => {
                failures = 0;
                batch(&fleet, &dead, deliveries).await
            }
            Err(trouble) => {
                failures += 1;
                tracing::error!(%trouble, code = "receive_failed", failures, "cannot receive dead letters; trying again");
                Some(Duration::from_millis(backoff::after_tries(failures)))
            }
        };
        if let Some(pause) = pause {
            tokio::select! {
                () = fleet.shutdown.draining() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// Reaps what a receive brought; says how long to pause where nothing of it was due.
async fn batch(fleet: &Arc<Fleet>, dead: &Arc<DeadLetters>, deliveries: Vec<Delivery>) -> Option<Duration> {
    let mut under_way = JoinSet::new();
    for delivery in deliveries {
        // A task of its own for each, so that a panic ends there.
        under_way.spawn(path::reap(fleet.clone(), dead.clone(), delivery));
    }
    let mut soonest_ms: Option<u64> = None;
    let mut met = false;
    while let Some(reaped) = under_way.join_next().await {
        match reaped {
            Ok(Reaped::NotDue { after_ms }) => {
                soonest_ms = Some(soonest_ms.map_or(after_ms, |ms| ms.min(after_ms)));
            }
            Ok(Reaped::Met) => met = true,
            Err(error) => {
                tracing::error!(%error, code = "internal_error", "a dead letter met a defect of the worker; it stays where it is");
            }
        }
    }
    soonest_ms.filter(|_| !met).map(|ms| Duration::from_millis(ms).min(LOOK_AGAIN))
}
