//! A permit in this worker: it counts from the write that took it until its answer, else until its own time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_aws::fleet::limits::Permits;
use toolfleet_core::limits::holders::Take;
use toolfleet_core::time::Timestamp;

use super::super::permit_wish::PermitWish;
use super::PermitBook;
use super::rows::PermitRows;

/// A permit. It is released when it is dropped, unless its request is under way: then it ends by its own time.
#[derive(Debug)]
pub(crate) struct Permit<S: PermitRows = Permits> {
    pub(super) book: Arc<PermitBook<S>>,
    pub(super) wish: PermitWish,
    pub(super) since: Instant,
    pub(super) under_way: bool,
    pub(super) of_block: bool,
}

impl<S: PermitRows> Permit<S> {
    /// The request is sent: from now on only an answer releases the permit.
    pub(crate) const fn sent(&mut self) {
        self.under_way = true;
    }

    /// The request is answered, or did not reach the server.
    pub(crate) const fn answered(&mut self) {
        self.under_way = false;
    }

    /// Whether it was taken so lately that it counts for a whole attempt that begins now.
    pub(crate) fn is_fresh(&self, margin: Duration) -> bool {
        self.since.elapsed() <= margin
    }

    /// How long it counts from its last renewal, in milliseconds.
    pub(crate) const fn hold_ms(&self) -> u64 {
        self.wish.hold_ms
    }

    /// Makes it count for its whole time from now on.
    pub(crate) async fn renew(&self) {
        let until = self.book.clock.now().plus_ms(self.wish.hold_ms);
        if self.of_block {
            return self.book.lease(self.wish.limit, self.wish.workers.unwrap_or(1), until).await;
        }
        let take = Take { name: self.wish.name.clone(), until, replaces: None };
        let _kept = self.book.keep(take, self.wish.limit).await;
    }

    /// The request has become a task of its server: an entry of that name takes the place of this permit.
    pub(crate) async fn becomes(mut self, name: String, until: Timestamp) {
        let (book, entry) = (Arc::clone(&self.book), std::mem::take(&mut self.wish.name));
        let take = Take { name, until, replaces: Some(entry.clone()) };
        // What is left of this permit releases nothing.
        self.under_way = true;
        book.replace(entry, take, self.wish.limit).await;
    }
}

impl<S: PermitRows> Drop for Permit<S> {
    fn drop(&mut self) {
        if self.of_block {
            return self.book.leave_block(self.under_way.then_some(self.wish.hold_ms));
        }
        if self.under_way {
            return;
        }
        let held_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.book.release(std::mem::take(&mut self.wish.name), Some(held_ms));
    }
}
