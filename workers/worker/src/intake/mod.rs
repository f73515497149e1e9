//! Owns the flow of messages into the worker: slots first, then messages for no more than these, then a task of its own for each.
//!
//! One receive is under way while the queue has little to give; each that comes back full begets another, each that does not
//! leaves. So a quiet worker sends one request in twenty seconds, and a busy one as many as its slots can use.
//!
//! **Invariant:** a message is received only when a slot for it is held; a panic in one call harms no other.

mod pace;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use toolfleet_aws::queue::Delivery;

use crate::context::WorkerContext;
use crate::{backoff, pipeline, services};
use pace::Pace;

/// The most messages SQS hands out at once.
const BATCH: u32 = 10;
/// How long a receive waits for a message, in seconds: the most SQS allows.
const WAIT_S: u32 = 20;
/// How long a receive waits for more slots than its first, so that a busy worker still receives in tens.
const GATHER: Duration = Duration::from_millis(5);
/// How long a receive that is under way when the worker drains may still come back. SQS would hide what it has just handed over
/// for a whole lease; a busy queue answers within this time, and an idle one has nothing to hand over.
const LAST_WORD: Duration = Duration::from_millis(300);

/// What all receivers of a worker share.
struct Intake {
    context: Arc<WorkerContext>,
    slots: Slots,
    pace: Pace,
    receiving: AtomicU32,
    receivers: TaskTracker,
    running: TaskTracker,
}

/// The slots of a worker, handed out to one receive at a time so that the free ones are not spread over many small receives.
struct Slots {
    free: Arc<Semaphore>,
    /// How many one receive can use.
    most: usize,
    turn: Mutex<()>,
}

/// Takes messages until the worker drains, then waits for what runs.
pub async fn run(context: Arc<WorkerContext>) {
    let slots = context.limits.slots.saturating_add(context.limits.reserve().saturating_mul(2));
    let intake = Arc::new(Intake {
        slots: Slots {
            free: Arc::new(Semaphore::new(slots as usize)),
            // A FIFO queue hands out several messages of a group at once, and the next of a group only when the former is gone or
            // visible again: one message in a receive is one of its group at a time.
            most: if context.queue.is_fifo() { 1 } else { BATCH.min(slots) as usize },
            turn: Mutex::new(()),
        },
        pace: Pace::new(),
        receiving: AtomicU32::new(1),
        receivers: TaskTracker::new(),
        running: TaskTracker::new(),
        context,
    });
    let running = intake.running.clone();
    let in_hand = move || running.len() as u64;
    intake.context.meters.watch("toolfleet.calls.in_hand", "Calls in the worker's hands.", in_hand);
    intake.spawn();
    intake.receivers.close();
    intake.receivers.wait().await;
    intake.running.close();
    if !intake.running.is_empty() {
        tracing::info!(calls = intake.running.len(), "waiting for the calls that run");
    }
    intake.running.wait().await;
}

async fn receive(intake: Arc<Intake>) {
    let context = &intake.context;
    let mut failures = 0;
    while !context.shutdown.is_draining() {
        let waiting = context.intake_health.turns();
        let slots = tokio::select! {
            () = context.shutdown.draining() => return,
            slots = intake.slots.take() => slots,
        };
        drop(waiting);
        let Some(slots) = slots else { return };
        let count = u32::try_from(slots.len()).unwrap_or(BATCH);
        let received = context.queue.receive(count, WAIT_S, context.limits.visibility_s());
        let mut received = std::pin::pin!(received);
        let received = tokio::select! {
            received = &mut received => received,
            () = context.shutdown.draining() => {
                if let Ok(Ok(deliveries)) = tokio::time::timeout(LAST_WORD, received).await {
                    give_back(context, deliveries).await;
                }
                return;
            }
        };
        let pause = match received {
            Ok(deliveries) => {
                failures = 0;
                let got = u32::try_from(deliveries.len()).unwrap_or(BATCH);
                context.intake_health.received();
                context.meters.received(got);
                intake.start(deliveries, slots);
                let pause = intake.pace.after(got, Instant::now());
                if got == count {
                    intake.beget();
                    Duration::ZERO
                } else if intake.may_leave() {
                    return;
                } else {
                    pause
                }
            }
            Err(error) => {
                drop(slots);
                failures += 1;
                tracing::error!(%error, code = "receive_failed", failures, "cannot receive messages; trying again");
                Duration::from_millis(backoff::after_tries(failures).min(10_000))
            }
        };
        if !pause.is_zero() {
            tokio::select! {
                () = context.shutdown.draining() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

impl Intake {
    /// A task of its own for each message, with the slot that was held for it.
    fn start(&self, deliveries: Vec<Delivery>, slots: Vec<OwnedSemaphorePermit>) {
        for (delivery, slot) in deliveries.into_iter().zip(slots) {
            let context = self.context.clone();
            self.running.spawn(async move {
                let message_id = delivery.message_id.clone();
                // Nothing is shared with a call that panicked but what its own steps keep consistent; its message comes again.
                if AssertUnwindSafe(pipeline::run(context, delivery, slot)).catch_unwind().await.is_err() {
                    tracing::error!(
                        message_id,
                        code = "internal_error",
                        "a call met a defect of the worker; its message comes again"
                    );
                }
            });
        }
    }

    fn spawn(self: &Arc<Self>) {
        let intake = self.clone();
        self.receivers.spawn(async move {
            let (shutdown, drain) = (&intake.context.shutdown, intake.context.limits.drain);
            services::guard(shutdown, drain, "intake", receive(intake.clone())).await;
        });
    }

    /// One receiver more, unless the slots cannot use it.
    fn beget(self: &Arc<Self>) {
        let most = self.context.limits.slots.div_ceil(BATCH).clamp(1, 16);
        let more = |now| (now < most).then_some(now + 1);
        if self.receiving.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
            self.spawn();
        }
    }

    /// Whether this receiver is not the last.
    fn may_leave(&self) -> bool {
        let less = |now: u32| (now > 1).then(|| now - 1);
        self.receiving.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }
}

impl Slots {
    /// One slot at least, and as many as a receive can use if they come free soon.
    async fn take(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let _turn = self.turn.lock().await;
        let mut slots = vec![self.free.clone().acquire_owned().await.ok()?];
        let until = Instant::now() + GATHER;
        while slots.len() < self.most {
            match tokio::time::timeout_at(until, self.free.clone().acquire_owned()).await {
                Ok(slot) => slots.push(slot.ok()?),
                Err(_) => break,
            }
        }
        Some(slots)
    }
}

/// Messages that came when the worker had begun to drain.
async fn give_back(context: &WorkerContext, deliveries: Vec<Delivery>) {
    let back = deliveries.iter().map(|delivery| context.queue.change_visibility(&delivery.receipt, 0));
    for error in join_all(back).await.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, code = "requeue_failed", "cannot give a message back early");
    }
}
