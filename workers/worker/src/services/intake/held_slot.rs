//! The slot that a call holds, which it sets down while it waits for its turn.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::slots;
use crate::gate::InHand;
use crate::pipeline::slot::Slot;

/// The slot of a call.
pub(super) struct HeldSlot {
    pool: slots::PoolOf,
    slot: Option<slots::Slot>,
    /// One of the slots that are kept for turns, in place of `slot`.
    kept: Option<OwnedSemaphorePermit>,
    in_hand: InHand,
}

impl HeldSlot {
    pub(super) fn new(slot: slots::Slot, in_hand: InHand) -> Self {
        Self { pool: slot.pool(), slot: Some(slot), kept: None, in_hand }
    }
}

impl Slot for HeldSlot {
    fn set_down(&mut self) {
        (self.slot, self.kept) = (None, None);
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
        self.in_hand.count();
    }
}
