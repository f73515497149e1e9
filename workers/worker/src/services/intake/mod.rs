//! Receives messages: it takes free slots first, then receives at most as many messages, and runs each in a task of its own.
//!
//! Each queue has receivers of its own. One polls while its queue has few messages. A full receive starts another receiver; one that does not
//! ends its receiver, except the last. So a quiet worker sends one request in twenty seconds for each queue, and a busy one as many as its
//! slots can use. While one tenant's calls fill the worker there are two. Where several queues have a backlog, they share the slots (`slots`).
//!
//! **Invariant:** a receive holds a slot for each message that it may bring when it begins; a panic in one call does not affect another.

mod calls;
mod held_slot;
mod pace;
mod slots;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use toolfleet_aws::queue::{Delivery, Queue};
use toolfleet_core::control::Control;
use toolfleet_core::request::Priority;
use toolfleet_core::time::Timestamp;

use super::Service;
use crate::backoff;
use crate::context::WorkerContext;
use crate::gate::RECEIVERS_WHEN_FULL;
use crate::shutdown::{ServiceFailed, Shutdown};
pub(super) use calls::{Calls, make_visible};
use pace::Pace;
use slots::Slot;

/// The name of the service.
pub(crate) const INTAKE: &str = "intake";
/// The most messages SQS hands out at once.
const BATCH: u32 = 10;
/// How long a receive waits for a message, in seconds: the most SQS allows.
const WAIT_S: u32 = 20;
/// How long a receive that is under way when the worker drains may still come back. SQS would hide what it has just handed over
/// for a whole lease; a busy queue answers within this time, and an idle one has nothing to hand over.
const DRAIN_RECEIVE: Duration = Duration::from_millis(300);

/// The most receivers of a queue.
const MOST_RECEIVERS: u32 = 16;

/// How often a receiver looks whether its queue is still paused.
const PAUSE_CHECK: Duration = Duration::from_secs(1);

/// The service that receives messages and runs their calls.
pub struct Intake {
    /// Those of each queue, the most urgent first.
    queues: Vec<Arc<Receivers>>,
    calls: Calls,
    receivers: TaskTracker,
    /// A receiver has panicked.
    panicked: Arc<Notify>,
}

/// What the receivers of one queue share. It outlives a restart of the service: calls under way keep their slots.
struct Receivers {
    context: Arc<WorkerContext>,
    queue: Queue,
    priority: Priority,
    calls: Calls,
    /// The most slots that one receive can use.
    most: u32,
    /// Whether the worker reads other queues too, so that a poll of an empty queue holds one slot only.
    shared: bool,
    pace: Pace,
    receiving: AtomicU32,
    receivers: TaskTracker,
    panicked: Arc<Notify>,
}

impl Intake {
    /// The intake of that worker.
    pub fn new(context: Arc<WorkerContext>) -> Self {
        let (calls, receivers) = (Calls::new(&context), TaskTracker::new());
        receivers.close();
        let panicked = Arc::new(Notify::new());
        let queues = context.queues.all().map(|(priority, queue)| {
            Arc::new(Receivers {
                queue: queue.clone(),
                priority,
                calls: calls.clone(),
                // A FIFO queue hands out several messages of a group at once, and the next of a group only when the former is deleted
                // or visible again: one message in a receive is one of its group at a time.
                most: if queue.is_fifo() { 1 } else { BATCH.min(context.limits.slots) },
                shared: context.queues.optional() > 0,
                pace: Pace::new(),
                receiving: AtomicU32::new(0),
                receivers: receivers.clone(),
                panicked: panicked.clone(),
                context: context.clone(),
            })
        });
        Self { queues: queues.collect(), calls, receivers, panicked }
    }
}

impl Service for Intake {
    fn name(&self) -> &'static str {
        INTAKE
    }

    /// Receives until the worker drains, then waits for the calls under way. Returns early when a receiver has panicked; the next run
    /// then starts a receiver in its place.
    async fn run(&self, shutdown: &Shutdown) {
        for queue in &self.queues {
            if queue.receiving.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                queue.spawn();
            }
        }
        tokio::select! {
            biased;
            () = self.panicked.notified() => {}
            () = self.receivers.wait() => {}
        }
        if shutdown.is_draining() {
            self.finish().await;
        }
    }

    async fn finish(&self) {
        let Calls { context, running, .. } = &self.calls;
        self.receivers.wait().await;
        context.send_at_once();
        running.close();
        if !running.is_empty() {
            tracing::info!(calls = running.len(), worker = %context.worker, "waiting for the calls that run");
        }
        running.wait().await;
    }
}

async fn receive(intake: Arc<Receivers>) {
    let context = &intake.context;
    let mut failures = 0;
    while !context.shutdown.is_draining() {
        if intake.is_paused() {
            context.intake_health.paused(intake.priority);
            if !pause(context, PAUSE_CHECK).await {
                return;
            }
            continue;
        }
        let waiting = context.intake_health.begin_receive(intake.priority);
        let slots = tokio::select! {
            () = context.shutdown.draining() => return,
            slots = intake.due_slots() => slots,
        };
        drop(waiting);
        let count = u32::try_from(slots.len()).unwrap_or(BATCH);
        let polled = intake.calls.slots.polled(count);
        let received = intake.queue.receive(count, WAIT_S, context.limits.visibility_s());
        let mut received = std::pin::pin!(received);
        let received = tokio::select! {
            received = &mut received => received,
            () = context.shutdown.draining() => match tokio::time::timeout(DRAIN_RECEIVE, received).await {
                Ok(received) => received,
                Err(_) => return,
            },
        };
        drop(polled);
        let wait = match received {
            // Paused, or draining, since the poll began.
            Ok(deliveries) if context.shutdown.is_draining() || intake.is_paused() => {
                context.gate.shares().received(slots.len(), None, intake.priority);
                make_visible(deliveries).await;
                Duration::ZERO
            }
            Ok(deliveries) => {
                failures = 0;
                match intake.took(deliveries, slots) {
                    Some(wait) => wait,
                    None => return,
                }
            }
            Err(error) => {
                context.gate.shares().received(slots.len(), None, intake.priority);
                drop(slots);
                failures += 1;
                let queue = intake.queue.name();
                tracing::error!(%error, queue, code = "receive_failed", failures, "cannot receive messages; trying again");
                Duration::from_millis(backoff::after_tries(failures).min(10_000))
            }
        };
        if !wait.is_zero() && !pause(context, wait).await {
            return;
        }
    }
}

/// Waits; `false` if the worker drains.
async fn pause(context: &WorkerContext, wait: Duration) -> bool {
    tokio::select! {
        () = context.shutdown.draining() => false,
        () = tokio::time::sleep(wait) => true,
    }
}

impl Receivers {
    /// Whether an operator has paused this queue, the worker lets its long calls end first, or its clock is off.
    fn is_paused(&self) -> bool {
        let control = self.context.gate.control().current();
        let by_operator =
            control.is_some_and(|control| is_queue_paused(&control, self.priority, self.context.now()));
        by_operator || !self.context.is_receiving()
    }

    /// Slots for the next receive. Where one tenant's calls fill the worker, as many as that receive may ask for, when it is due.
    async fn due_slots(&self) -> Vec<Slot> {
        let mut slots = self.calls.slots.take(self.priority, self.wanted()).await;
        slots.truncate(self.context.gate.shares().pace(slots.len(), self.priority).await);
        slots
    }

    /// How many slots the next receive takes if they are free.
    fn wanted(&self) -> u32 {
        if self.shared { self.calls.slots.poll_size(self.priority).min(self.most) } else { self.most }
    }

    /// Runs the calls of a receive. Returns how long to wait before the next one, or `None` if this receiver ends.
    fn took(self: &Arc<Self>, deliveries: Vec<Delivery>, slots: Vec<Slot>) -> Option<Duration> {
        let (got, count) = (deliveries.len(), slots.len());
        let messages = u32::try_from(got).unwrap_or(BATCH);
        self.context.intake_health.received(self.priority);
        self.context.meters.received(messages);
        self.calls.slots.received(self.priority, messages);
        self.context.gate.shares().received(count, Some(got), self.priority);
        // The slots that were held for them.
        deliveries.into_iter().zip(slots).for_each(|(delivery, slot)| self.calls.start(delivery, slot));
        let is_behind = self.context.run_queue.is_behind();
        let pause = self.pace.after(messages, Instant::now(), is_behind);
        let shares = self.context.gate.shares();
        if got > 0 && shares.paces(self.priority) {
            self.add_receiver(RECEIVERS_WHEN_FULL);
            return if self.may_end(RECEIVERS_WHEN_FULL) { None } else { Some(pause) };
        }
        if got < count || shares.is_full() {
            return if self.may_end(1) { None } else { Some(pause) };
        }
        // The poll of an empty queue takes one message: whether more are there, the next receive shows.
        if !self.shared || count > 1 || self.most == 1 {
            self.add_receiver(MOST_RECEIVERS);
        }
        Some(Duration::ZERO)
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

    /// Starts one receiver more, unless there are that many, or the slots cannot use it.
    fn add_receiver(self: &Arc<Self>, most: u32) {
        let most = self.context.limits.slots.div_ceil(BATCH).clamp(1, most);
        let more = |now| (now < most).then_some(now + 1);
        if self.receiving.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok() {
            self.spawn();
        }
    }

    /// Whether this receiver may end: so many are left.
    fn may_end(&self, least: u32) -> bool {
        let less = |now: u32| (now > least).then(|| now - 1);
        self.receiving.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }
}

/// Whether an operator has paused the queue of that priority.
pub(super) fn is_queue_paused(control: &Control, priority: Priority, now: Timestamp) -> bool {
    let name = match priority {
        Priority::High => "high",
        Priority::Normal => "default",
        Priority::Low => "low",
    };
    control.pause_of_queue(name, now).is_some()
}
