//! The slot that a call holds, which it sets down while it waits for its turn.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gate::InHand;
use crate::pipeline::slot::Slot;

/// The slot of a call.
pub(super) struct HeldSlot {
    permit: Option<OwnedSemaphorePermit>,
    in_hand: InHand,
    free: Arc<Semaphore>,
    for_turns: Arc<Semaphore>,
}

impl HeldSlot {
    pub(super) fn new(
        permit: OwnedSemaphorePermit,
        in_hand: InHand,
        free: &Arc<Semaphore>,
        for_turns: &Arc<Semaphore>,
    ) -> Self {
        let (free, for_turns) = (Arc::clone(free), Arc::clone(for_turns));
        Self { permit: Some(permit), in_hand, free, for_turns }
    }
}

impl Slot for HeldSlot {
    fn set_down(&mut self) {
        self.permit = None;
        self.in_hand.uncount();
    }

    /// Where no slot is free, one of those that are kept for turns.
    async fn take_up(&mut self) {
        let kept = Arc::clone(&self.for_turns);
        let free = Arc::clone(&self.free);
        let permit = match Arc::clone(&free).try_acquire_owned() {
            Ok(permit) => Ok(permit),
            Err(_) => tokio::select! {
                biased;
                permit = kept.acquire_owned() => permit,
                permit = free.acquire_owned() => permit,
            },
        };
        self.permit = permit.ok();
        self.in_hand.count();
    }
}
