//! Receives messages: it takes free slots first, then receives at most as many messages, and runs each in a task of its own.
//!
//! One receiver polls while the queue has few messages. A full receive starts another receiver; one that does not ends
//! its receiver, except the last. So a quiet worker sends one request in twenty seconds, and a busy one as many as its slots can use.
//!
//! **Invariant:** a message is received only when a slot for it is held; a panic in one call does not affect another.

mod held_slot;
mod pace;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use toolfleet_aws::queue::Delivery;

use super::Service;
use crate::context::WorkerContext;
use crate::shutdown::{ServiceFailed, Shutdown};
use crate::{backoff, pipeline};
use held_slot::HeldSlot;
use pace::Pace;

/// The most messages SQS hands out at once.
const BATCH: u32 = 10;
/// How long a receive waits for a message, in seconds: the most SQS allows.
const WAIT_S: u32 = 20;
/// How long a receive waits for more slots than its first, so that a busy worker still receives in tens.
const GATHER: Duration = Duration::from_millis(5);
/// How long a receive that is under way when the worker drains may still come back. SQS would hide what it has just handed over
/// for a whole lease; a busy queue answers within this time, and an idle one has nothing to hand over.
const DRAIN_RECEIVE: Duration = Duration::from_millis(300);

/// The service that receives messages and runs their calls.
pub struct Intake(Arc<Receivers>);

/// What all receivers of a worker share. It outlives a restart of the service: calls under way keep their slots.
struct Receivers {
    context: Arc<WorkerContext>,
    slots: Slots,
    pace: Pace,
    receiving: AtomicU32,
    receivers: TaskTracker,
    running: TaskTracker,
    /// A receiver has panicked.
    panicked: Notify,
}

/// The slots of a worker, handed out to one receive at a time so that the free ones are not spread over many small receives.
struct Slots {
    free: Arc<Semaphore>,
    /// A few more, for calls whose turn has come.
    for_turns: Arc<Semaphore>,
    /// How many one receive can use.
    most: usize,
    turn: Mutex<()>,
}

impl Intake {
    /// The intake of that worker.
    pub fn new(context: Arc<WorkerContext>) -> Self {
        let slots = context.limits.slots.saturating_add(context.limits.reserve().saturating_mul(2));
        let running = TaskTracker::new();
        let in_hand = running.clone();
        let in_hand = move || in_hand.len() as u64;
        context.meters.watch("toolfleet.calls.in_hand", "Calls in the worker's hands.", in_hand);
        let gate = Arc::clone(&context.gate);
        let flooded = move || u64::from(gate.shares().is_full());
        context.meters.watch("toolfleet.flooded", "1 while one tenant's calls fill the worker.", flooded);
        let receivers = TaskTracker::new();
        receivers.close();
        Self(Arc::new(Receivers {
            slots: Slots {
                free: Arc::new(Semaphore::new(slots as usize)),
                for_turns: Arc::new(Semaphore::new(context.limits.reserve() as usize)),
                // A FIFO queue hands out several messages of a group at once, and the next of a group only when the former is deleted
                // or visible again: one message in a receive is one of its group at a time.
                most: if context.queue.is_fifo() { 1 } else { BATCH.min(slots) as usize },
                turn: Mutex::new(()),
            },
            pace: Pace::new(),
            receiving: AtomicU32::new(0),
            receivers,
            running,
            panicked: Notify::new(),
            context,
        }))
    }
}

impl Service for Intake {
    fn name(&self) -> &'static str {
        "intake"
    }

    /// Receives until the worker drains, then waits for the calls under way. Returns early when a receiver has panicked; the next run
    /// then starts a receiver in its place.
    async fn run(&self, shutdown: &Shutdown) {
        let Receivers { receivers, receiving, panicked, .. } = &*self.0;
        receiving.fetch_add(1, Ordering::AcqRel);
        self.0.spawn();
        tokio::select! {
            biased;
            () = panicked.notified() => {}
            () = receivers.wait() => {}
        }
        if shutdown.is_draining() {
            self.finish().await;
        }
    }

    async fn finish(&self) {
        let Receivers { receivers, running, .. } = &*self.0;
        receivers.wait().await;
        running.close();
        if !running.is_empty() {
            tracing::info!(calls = running.len(), "waiting for the calls that run");
        }
        running.wait().await;
    }
}

async fn receive(intake: Arc<Receivers>) {
    let context = &intake.context;
    let mut failures = 0;
    while !context.shutdown.is_draining() {
        let waiting = context.intake_health.begin_receive();
        let slots = tokio::select! {
            () = context.shutdown.draining() => return,
            slots = intake.due_slots() => slots,
        };
        drop(waiting);
        let Some(slots) = slots else { return };
        let count = u32::try_from(slots.len()).unwrap_or(BATCH);
        let received = context.queue.receive(count, WAIT_S, context.limits.visibility_s());
        let mut received = std::pin::pin!(received);
        let received = tokio::select! {
            received = &mut received => received,
            () = context.shutdown.draining() => {
                if let Ok(Ok(deliveries)) = tokio::time::timeout(DRAIN_RECEIVE, received).await {
                    make_visible(context, deliveries).await;
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
                context.gate.shares().received(slots.len(), Some(deliveries.len()));
                intake.start(deliveries, slots);
                let pause = intake.pace.after(got, Instant::now());
                if got == count && !context.gate.shares().is_full() {
                    intake.add_receiver();
                    Duration::ZERO
                } else if intake.may_end() {
                    return;
                } else {
                    pause
                }
            }
            Err(error) => {
                context.gate.shares().received(slots.len(), None);
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

impl Receivers {
    /// Slots for the next receive. Where one tenant's calls fill the worker, as many as that receive may ask for, when it is due.
    async fn due_slots(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let mut slots = self.slots.take().await?;
        slots.truncate(self.context.gate.shares().pace(slots.len()).await);
        Some(slots)
    }

    /// A task of its own for each message, with the slot that was held for it.
    fn start(&self, deliveries: Vec<Delivery>, slots: Vec<OwnedSemaphorePermit>) {
        for (delivery, slot) in deliveries.into_iter().zip(slots) {
            let context = self.context.clone();
            let in_hand = context.gate.shares().in_hand();
            let slot = HeldSlot::new(slot, in_hand, &self.slots.free, &self.slots.for_turns);
            self.running.spawn(async move {
                let message_id = delivery.message_id.clone();
                // A call shares nothing with the others but what its own steps keep consistent. Its message is received again.
                if AssertUnwindSafe(pipeline::run(context, delivery, slot)).catch_unwind().await.is_err() {
                    tracing::error!(
                        message_id,
                        code = "internal_error",
                        "a call panicked; its message is received again"
                    );
                }
            });
        }
    }

    fn spawn(self: &Arc<Self>) {
        let intake = self.clone();
        self.receivers.spawn(async move {
            // A receiver shares nothing with the others but what its own steps keep consistent.
            if AssertUnwindSafe(receive(intake.clone())).catch_unwind().await.is_ok() {
                return;
            }
            intake.receiving.fetch_sub(1, Ordering::AcqRel);
            let drain = intake.context.limits.drain;
            if intake.context.shutdown.is_draining() {
                tracing::error!(service = "intake", code = "service_failed", "a receiver has panicked");
                intake.context.shutdown.fail(ServiceFailed("intake"), drain);
            }
            intake.panicked.notify_one();
        });
    }

    /// Starts one receiver more, unless the slots cannot use it.
    fn add_receiver(self: &Arc<Self>) {
        let most = self.context.limits.slots.div_ceil(BATCH).clamp(1, 16);
        let more = |now| (now < most).then_some(now + 1);
        if self.receiving.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
            self.spawn();
        }
    }

    /// Whether this receiver may end: it is not the last.
    fn may_end(&self) -> bool {
        let less = |now: u32| (now > 1).then(|| now - 1);
        self.receiving.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }
}

impl Slots {
    /// One slot at least, and as many as a receive can use if they are released soon.
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

/// Makes messages visible again that were received while the worker drains.
async fn make_visible(context: &WorkerContext, deliveries: Vec<Delivery>) {
    let back = deliveries.iter().map(|delivery| context.queue.change_visibility(&delivery.receipt, 0));
    for error in join_all(back).await.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, code = "requeue_failed", "cannot make a message visible again early");
    }
}
