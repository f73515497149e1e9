//! Runs received messages, each in a slot. It is what all ways to receive messages have in common.
//!
//! **Invariant:** a panic in one call does not affect another.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::join_all;
use tokio_util::task::TaskTracker;
use toolfleet_aws::queue::Delivery;
use toolfleet_core::request::Priority;

use super::held_slot::HeldSlot;
use super::slots::{Slot, Slots};
use crate::config::limits::Limits;
use crate::context::WorkerContext;
use crate::pipeline;
use crate::pipeline::origin::Origin;

/// The calls of a worker and its slots. Clones are the same.
#[derive(Clone)]
pub(in crate::services) struct Calls {
    pub(super) context: Arc<WorkerContext>,
    pub(super) slots: Arc<Slots>,
    pub(super) running: TaskTracker,
}

impl Calls {
    pub(in crate::services) fn new(context: &Arc<WorkerContext>) -> Self {
        let Limits { slots, .. } = context.limits;
        // One more for each optional queue: the poll of an empty one takes no slot from the calls.
        let all = slots
            .saturating_add(context.limits.reserve().saturating_mul(2))
            .saturating_add(context.queues.optional());
        let running = TaskTracker::new();
        let in_hand = running.clone();
        let in_hand = move || in_hand.len() as u64;
        context.meters.watch("toolfleet.calls.in_hand", "Calls in the worker's hands.", in_hand);
        let gate = Arc::clone(&context.gate);
        let flooded = move || u64::from(gate.shares().is_full());
        context.meters.watch("toolfleet.flooded", "1 while one tenant's calls fill the worker.", flooded);
        let slots = Slots::new(all, context.limits.reserve());
        Self { context: Arc::clone(context), slots, running }
    }

    /// Runs a message of the intake in a task of its own.
    pub(super) fn start(&self, delivery: Delivery, slot: Slot) {
        let origin = Origin::received(&self.context);
        self.running.spawn(self.clone().run(delivery, slot, origin));
    }

    /// Waits for a slot and runs the message in it, unless `origin` ends before. What runs is dropped with the future.
    pub(in crate::services) async fn run_in_turn(&self, delivery: Delivery, queue: Priority, origin: Origin) {
        let slot = tokio::select! {
            biased;
            () = origin.shutdown().draining() => None,
            mut slots = self.slots.take(queue, 1) => slots.pop(),
        };
        match slot {
            Some(slot) => self.running.track_future(self.clone().run(delivery, slot, origin)).await,
            None => make_visible(vec![delivery]).await,
        }
    }

    async fn run(self, delivery: Delivery, slot: Slot, origin: Origin) {
        let message_id = delivery.message_id.clone();
        let slot = HeldSlot::new(&self.context, slot);
        let running = pipeline::run_from(Arc::clone(&self.context), delivery, slot, origin);
        // A call shares nothing with the others but what its own steps keep consistent. Its message is received again.
        if AssertUnwindSafe(running).catch_unwind().await.is_err() {
            tracing::error!(
                message_id,
                code = "internal_error",
                "a call panicked; its message is received again"
            );
        }
    }
}

/// Makes messages visible again that are not run, because the worker drains, their queue is paused, or they follow one that waits.
pub(in crate::services) async fn make_visible(deliveries: Vec<Delivery>) {
    let back = deliveries.iter().map(|delivery| delivery.queue.change_visibility(&delivery.receipt, 0));
    for error in join_all(back).await.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, code = "requeue_failed", "cannot make a message visible again early");
    }
}
