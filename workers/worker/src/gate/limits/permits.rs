//! The concurrency limits that one worker uses.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;
use toolfleet_aws::Clock;
use toolfleet_aws::fleet::Fleet;
use toolfleet_core::ids::Nonce;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::limits::holders::Take;
use toolfleet_core::time::Timestamp;

use super::permit_book::{Permit, PermitBook};
use super::permit_wish::{NoPermit, Patience, PermitWish};
use crate::clock_check::ClockCheck;

/// The most limits with a state; beyond it those that are not in use are forgotten.
const MANY: usize = 10_000;

/// The concurrency limits that this worker uses.
#[derive(Debug)]
pub(crate) struct PermitBooks {
    fleet: Fleet,
    clock: Clock,
    /// The worker's process. Another one with the same worker id knows nothing of its open requests, and gets a block of its own.
    process: String,
    clock_check: ClockCheck,
    books: Mutex<HashMap<LimitKey, Arc<PermitBook>>>,
}

impl PermitBooks {
    pub(super) fn new(fleet: Fleet, clock: Clock, process: &Nonce, clock_check: ClockCheck) -> Self {
        Self { fleet, clock, process: process.as_str().to_owned(), clock_check, books: Mutex::default() }
    }

    /// Takes a permit, now or after a wait in the worker's hands.
    ///
    /// # Errors
    /// None is free, or the table does not answer.
    pub(crate) async fn take(
        &self,
        key: &LimitKey,
        wish: PermitWish,
        patience: Patience,
    ) -> Result<Permit, NoPermit> {
        self.book(key).take(wish, patience).await
    }

    /// Whether that limit had no permit a moment ago: a call need not take a turn first.
    pub(crate) fn is_full_lately(&self, key: &LimitKey) -> bool {
        self.book(key).is_full_lately()
    }

    /// How long a call with that deadline that goes to the queue now stays there, in milliseconds.
    pub(crate) fn park(&self, key: &LimitKey, limit: u32, patience: Patience, deadline: Timestamp) -> u64 {
        self.book(key).park(limit, patience, deadline)
    }

    /// How many calls wait in the worker's hands.
    pub(super) fn waiting(&self, key: &LimitKey) -> usize {
        self.book(key).waiting()
    }

    /// Whether a row is being written, or is to be.
    pub(super) fn is_writing(&self) -> bool {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.values().any(|book| book.is_writing())
    }

    /// Keeps the entry of that name until then. Whether it is in the row: one that was there is, another where a permit is free.
    ///
    /// # Errors
    /// The table does not answer.
    pub(crate) async fn keep(
        &self,
        key: &LimitKey,
        name: String,
        limit: u32,
        until: Timestamp,
    ) -> Result<bool, NoPermit> {
        self.book(key).keep(Take { name, until, replaces: None }, Some(limit)).await
    }

    /// Lets the entry of that name count until then, if it is in the row. It does so from now on, whoever waits until it is stored.
    pub(crate) fn prolong(&self, key: &LimitKey, name: String, until: Timestamp) -> oneshot::Receiver<()> {
        self.book(key).prolong(name, until)
    }

    /// Releases the entry of that name from now on, whoever waits until that is stored.
    pub(crate) fn release(&self, key: &LimitKey, name: String) -> oneshot::Receiver<()> {
        self.book(key).release(name, None)
    }

    fn book(&self, key: &LimitKey) -> Arc<PermitBook> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(book) = books.get(key) {
            return Arc::clone(book);
        }
        if books.len() >= MANY {
            books.retain(|_, book| Arc::strong_count(book) > 1);
        }
        let store = self.fleet.permits(key);
        let (clock, clock_check) = (self.clock.clone(), self.clock_check.clone());
        let book = PermitBook::new(store, key.clone(), clock, self.process.clone(), clock_check);
        let book = Arc::new(book);
        books.insert(key.clone(), Arc::clone(&book));
        book
    }
}
