//! The block of a large limit, from which this worker gives out permits without a write.
//!
//! Permits of the block that are not in use stand in the way of other workers, and of entries. So they are given back: after a few seconds
//! without use, and at once where the limit has entries now, because it was lowered or the fleet has grown.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use toolfleet_core::limits::block::BlockWish;
use toolfleet_core::limits::holders::Granted;
use toolfleet_core::time::Timestamp;

use super::super::permit_wish::{NoPermit, Patience, PermitWish};
use super::rows::PermitRows;
use super::{BookState, LOOK_MS, Permit, PermitBook};

/// A worker that took and left no permit of its block for so long gives back those that are not in use.
const IDLE: Duration = Duration::from_secs(5);

impl<S: PermitRows> PermitBook<S> {
    /// A permit of this worker's block, which is leased anew where it is used up or ends too early.
    pub(super) async fn take_of_block(
        self: &Arc<Self>,
        wish: PermitWish,
        workers: u32,
        patience: Patience,
        wait_until: Instant,
    ) -> Result<Permit<S>, NoPermit> {
        let in_turn = wish.in_turn.then(|| InTurn::new(self));
        loop {
            let left = if in_turn.is_some() { &self.block_left_in_turn } else { &self.block_left };
            let mut left = std::pin::pin!(left.notified());
            left.as_mut().enable();
            let (since, until) = (Instant::now(), self.now().plus_ms(wish.hold_ms));
            let mut taken = self.state().take_of_block(wish.limit, until);
            if !taken {
                self.lease(Some(wish.limit), workers, until).await;
                taken = self.state().take_of_block(wish.limit, until);
            }
            if taken {
                let book = Arc::clone(self);
                return Ok(Permit { book, wish, since, under_way: false, of_block: true });
            }
            self.state().refused_at = Some(Instant::now());
            if Instant::now() >= wait_until || !self.may_wait(&wish, patience) {
                return Err(NoPermit::Full);
            }
            let look = Instant::now() + Duration::from_millis(LOOK_MS.1);
            let _elapsed = timeout_at(look.min(wait_until), left).await.is_err();
        }
    }

    /// Leases the block for longer, and larger where more is wanted.
    pub(super) async fn lease(self: &Arc<Self>, limit: Option<u32>, workers: u32, until: Timestamp) {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            state.limit = limit.unwrap_or(state.limit);
            state.block_asks.push(sender);
            state.wish_block(BlockWish { workers, until });
        }
        self.begin();
        let _leased = receiver.await;
    }

    /// A permit of the block is free again; one whose request is lost when the request ends by itself.
    pub(super) fn leave_block(self: &Arc<Self>, lost_for_ms: Option<u64>) {
        let book = Arc::clone(self);
        let leave = move || {
            let (unused, in_turn, others) = {
                let mut state = book.state();
                // A call whose turn has come cannot wait as long as the others can; yet they get every second permit.
                let in_turn = state.block_in_turn > 0;
                let others = !in_turn || state.line_is_next;
                state.line_is_next = !others;
                (state.leave_block(), in_turn, others)
            };
            if others {
                book.block_left.notify_one();
            }
            if in_turn {
                book.block_left_in_turn.notify_one();
            }
            if unused {
                book.begin();
            }
        };
        let Some(lost_for_ms) = lost_for_ms else { return leave() };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(Duration::from_millis(lost_for_ms)).await;
                leave();
            });
        }
    }
}

/// A call whose turn has come, while it waits for the block.
struct InTurn<'a, S: PermitRows>(&'a PermitBook<S>);

impl<'a, S: PermitRows> InTurn<'a, S> {
    fn new(book: &'a PermitBook<S>) -> Self {
        book.state().block_in_turn += 1;
        Self(book)
    }
}

impl<S: PermitRows> Drop for InTurn<'_, S> {
    fn drop(&mut self) {
        self.0.state().block_in_turn -= 1;
        // It may have been woken for a permit that it no longer waits for.
        self.0.block_left.notify_one();
    }
}

impl<S: PermitRows> BookState<S> {
    /// The next write leases the block for at least so long.
    pub(super) fn wish_block(&mut self, wish: BlockWish) {
        let before = self.block_wish.map_or(wish.until, |before| before.until);
        self.block_wish = Some(BlockWish { until: wish.until.max(before), ..wish });
    }

    fn take_of_block(&mut self, limit: u32, until: Timestamp) -> bool {
        let taken = self.block.take(limit, until);
        if taken {
            self.block_used_at = Some(Instant::now());
        }
        taken
    }

    /// The row has what was granted of the block.
    pub(super) fn leased(&mut self, granted: &Granted, limit: u32, until: Timestamp) {
        self.block.leased(granted, limit, until);
        self.block_used_at = Some(Instant::now());
    }

    /// A permit of the block is left; whether the task that writes has to know it.
    fn leave_block(&mut self) -> bool {
        self.block.leave();
        self.block_used_at = Some(Instant::now());
        self.block.has_unused() && (self.by_entries || !self.writing)
    }

    /// When permits of the block that are not in use are given back; none where it has none.
    pub(super) fn gives_back_at(&self, now: Instant) -> Option<Instant> {
        let since = if self.by_entries { None } else { self.block_used_at };
        self.block.has_unused().then(|| since.map_or(now, |since| since + IDLE))
    }
}
