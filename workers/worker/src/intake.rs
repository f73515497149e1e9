//! Owns the flow of messages into the worker: a permit first, then a message, then a task of its own for each.
//!
//! **Invariant:** a message is received only when a slot for it is held; a panic in one call harms no other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use toolfleet_aws::queue::Delivery;

use crate::fleet::Fleet;
use crate::{backoff, path};

/// The most messages SQS hands out at once.
const BATCH: u32 = 10;
/// How long a receive waits for a message, in seconds: the most SQS allows.
const WAIT_S: u32 = 20;
/// How long a receive waits for more permits than its first, so that a busy worker still receives in tens.
const GATHER: Duration = Duration::from_millis(5);

/// The slots of a worker, handed out to one receive at a time so that the free ones are not spread over many small receives.
struct Slots {
    free: Arc<Semaphore>,
    turn: Mutex<()>,
}

/// Takes messages until the worker drains, then waits for what runs.
pub async fn run(fleet: Arc<Fleet>) {
    let free = Arc::new(Semaphore::new(fleet.limits.slots as usize));
    let slots = Arc::new(Slots { free, turn: Mutex::new(()) });
    let running = TaskTracker::new();
    let receivers = TaskTracker::new();
    for _ in 0..fleet.limits.slots.div_ceil(BATCH).clamp(1, 16) {
        receivers.spawn(receive(fleet.clone(), slots.clone(), running.clone()));
    }
    receivers.close();
    receivers.wait().await;
    running.close();
    if !running.is_empty() {
        tracing::info!(calls = running.len(), "waiting for the calls that run");
    }
    running.wait().await;
}

async fn receive(fleet: Arc<Fleet>, slots: Arc<Slots>, running: TaskTracker) {
    let mut failures = 0;
    while !fleet.shutdown.is_draining() {
        let permits = tokio::select! {
            () = fleet.shutdown.draining() => return,
            permits = slots.take() => permits,
        };
        let Some(mut permits) = permits else { return };
        let count = u32::try_from(permits.len()).unwrap_or(BATCH);
        let received = tokio::select! {
            () = fleet.shutdown.draining() => return,
            received = fleet.queue.receive(count, WAIT_S, fleet.limits.visibility_s()) => received,
        };
        match received {
            Ok(deliveries) => {
                failures = 0;
                for (delivery, permit) in deliveries.into_iter().zip(permits.drain(..)) {
                    let fleet = fleet.clone();
                    running.spawn(async move {
                        // The permit is held until the call is out of the worker.
                        let _permit = permit;
                        isolated(fleet, delivery).await;
                    });
                }
            }
            Err(trouble) => {
                drop(permits);
                failures += 1;
                tracing::error!(%trouble, code = "receive_failed", failures, "cannot receive messages; trying again");
                let wait = Duration::from_millis(backoff::after_tries(failures).min(10_000));
                tokio::select! {
                    () = fleet.shutdown.draining() => return,
                    () = tokio::time::sleep(wait) => {}
                }
            }
        }
    }
}

impl Slots {
    /// One permit at least, and up to ten if they come free soon.
    async fn take(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let _turn = self.turn.lock().await;
        let mut permits = vec![self.free.clone().acquire_owned().await.ok()?];
        let until = Instant::now() + GATHER;
        while permits.len() < BATCH as usize {
            match tokio::time::timeout_at(until, self.free.clone().acquire_owned()).await {
                Ok(permit) => permits.push(permit.ok()?),
                Err(_) => break,
            }
        }
        Some(permits)
    }
}

/// A call in a task of its own, so that its panic ends there. The message comes again when its invisibility ends.
async fn isolated(fleet: Arc<Fleet>, delivery: Delivery) {
    let message_id = delivery.message_id.clone();
    if let Err(error) = tokio::spawn(path::run(fleet, delivery)).await {
        tracing::error!(message_id, %error, code = "internal_error", "a call met a defect of the worker; its message comes again");
    }
}
