//! The slot that a call holds, which it sets down while it waits for its turn.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::slots;
use crate::activity::Counted;
use crate::context::WorkerContext;
use crate::gate::InHand;
use crate::pipeline::slot::Slot;

/// The slot of a call.
pub(super) struct HeldSlot {
    pool: slots::PoolOf,
    slot: Option<slots::Slot>,
    /// One of the slots that are kept for turns, in place of `slot`.
    kept: Option<OwnedSemaphorePermit>,
    in_hand: InHand,
    context: Arc<WorkerContext>,
    busy: Option<Counted>,
}

impl HeldSlot {
    pub(super) fn new(context: &Arc<WorkerContext>, slot: slots::Slot) -> Self {
        let in_hand = context.gate.shares().in_hand();
        let busy = Some(context.activity.slot());
        Self { pool: slot.pool(), slot: Some(slot), kept: None, in_hand, context: Arc::clone(context), busy }
    }
}

impl Slot for HeldSlot {
    fn set_down(&mut self) {
        (self.slot, self.kept, self.busy) = (None, None, None);
        self.in_hand.uncount();
    }

    /// Where no slot is free or can be borrowed, one of those that are kept for turns.
    async fn take_up(&mut self) {
        self.slot = self.pool.slot_now();
        if self.slot.is_none() {
            tokio::select! {
                biased;
                kept = Arc::clone(self.pool.for_turns()).acquire_owned() => self.kept = kept.ok(),
                slot = self.pool.next_slot() => self.slot = slot,
            }
        }
        self.busy = Some(self.context.activity.slot());
        self.in_hand.count();
    }
}
