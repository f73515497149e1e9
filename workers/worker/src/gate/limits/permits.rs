//! The permits of concurrency limits, taken and released together: one write for all that this worker changes of a limit at a time.
//!
//! Of a limit far above the number of workers, the worker leases a block of permits and gives them out itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::fleet::limits::Permits;
use toolfleet_aws::{Applied, AwsError, Clock, apply};
use toolfleet_core::ids::WorkerId;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::limits::holders::{Change, Granted, HolderRow, Take, away_ms, by_blocks, tail_after_ask};
use toolfleet_core::time::Timestamp;

use super::block::{BlockWish, LocalBlock};

/// The most limits with a state; beyond it those that are not in use are forgotten.
const MANY: usize = 10_000;
/// How long a permit is taken to be held before any was released, in milliseconds.
const FIRST_HOLD_MS: u64 = 1_000;
/// For so long a limit that had no permit is taken to have none.
const FULL_LATELY: Duration = Duration::from_millis(200);
/// How long nothing is written after a failed write.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// The concurrency limits that this worker uses.
#[derive(Debug)]
pub(crate) struct PermitBooks {
    fleet: Fleet,
    clock: Clock,
    worker: String,
    skew_ms: u64,
    books: Mutex<HashMap<LimitKey, Arc<Book>>>,
}

#[derive(Debug)]
struct Book {
    store: Permits,
    key: LimitKey,
    clock: Clock,
    worker: String,
    skew_ms: u64,
    state: Mutex<BookState>,
}

/// One write, and who waits for it.
struct Next {
    senders: Vec<oneshot::Sender<Option<bool>>>,
    asks: Vec<oneshot::Sender<()>>,
    change: Change,
    seen: Option<HolderRow>,
}

#[derive(Debug, Default)]
struct BookState {
    takes: Vec<(Take, oneshot::Sender<Option<bool>>)>,
    releases: Vec<String>,
    limit: u32,
    block: LocalBlock,
    /// Those who wait for the block to be leased anew, and the lease that they need.
    block_asks: Vec<oneshot::Sender<()>>,
    block_wish: Option<BlockWish>,
    /// Whether a task writes for those who ask.
    writing: bool,
    seen: Option<HolderRow>,
    /// How long permits of this worker were held lately, in milliseconds.
    hold_ms: Option<u64>,
    /// When a call last found no permit; none once this worker has released one.
    refused_at: Option<Instant>,
    /// When the last of this worker's calls that wait would find a permit.
    tail: Option<Timestamp>,
}

/// What a call asks for.
#[derive(Debug, Clone)]
pub(crate) struct PermitWish {
    /// The name of its entry.
    pub(crate) name: String,
    /// The most permits.
    pub(crate) limit: u32,
    /// How long the entry counts without an answer, in milliseconds.
    pub(crate) hold_ms: u64,
    /// How many workers are alive, where the permit may come of a block.
    pub(crate) workers: Option<u32>,
}

impl PermitWish {
    /// The number of workers, where they lease blocks of that limit.
    fn by_blocks(&self) -> Option<u32> {
        self.workers.filter(|workers| by_blocks(self.limit, *workers))
    }
}

/// A permit. It is released when it is dropped, unless its request is under way: then it ends by its own time.
#[derive(Debug)]
pub(crate) struct Permit {
    book: Arc<Book>,
    wish: PermitWish,
    since: Instant,
    under_way: bool,
    of_block: bool,
}

impl Permit {
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
        let take = Take { name: self.wish.name.clone(), until };
        let _kept = self.book.take(take, self.wish.limit).await;
    }

    /// The request has become a task of its server: an entry of that name takes the place of this permit.
    pub(crate) async fn becomes(mut self, name: String, until: Timestamp) {
        self.under_way = false;
        let book = Arc::clone(&self.book);
        let limit = self.wish.limit;
        drop(self);
        let _kept = book.take(Take { name, until }, limit).await;
    }
}

impl Drop for Permit {
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

impl PermitBooks {
    pub(super) fn new(fleet: Fleet, clock: Clock, worker: &WorkerId, skew_ms: u64) -> Self {
        Self { fleet, clock, worker: worker.to_string(), skew_ms, books: Mutex::default() }
    }

    /// Takes a permit.
    ///
    /// # Errors
    /// None is free: how long the call stays away, in milliseconds; nothing where the table does not answer.
    pub(crate) async fn take(&self, key: &LimitKey, wish: PermitWish) -> Result<Permit, Option<u64>> {
        let book = self.book(key);
        let since = Instant::now();
        let until = self.clock.now().plus_ms(wish.hold_ms);
        let by_blocks = wish.by_blocks();
        let taken = match by_blocks {
            Some(workers) => book.take_of_block(wish.limit, workers, until).await,
            None => book.take(Take { name: wish.name.clone(), until }, wish.limit).await,
        };
        match taken {
            Some(true) => {
                let of_block = by_blocks.is_some();
                Ok(Permit { book, wish, since, under_way: false, of_block })
            }
            Some(false) => {
                book.state().refused_at = Some(Instant::now());
                Err(Some(book.away_ms(wish.limit, wish.workers.unwrap_or(1))))
            }
            None => Err(None),
        }
    }

    /// How long a call stays away of a limit that a moment ago had no permit, in milliseconds: it need not take a turn first.
    pub(crate) fn full_lately(&self, key: &LimitKey, limit: u32, workers: u32) -> Option<u64> {
        let book = self.book(key);
        let full = book.state().refused_at.is_some_and(|at| at.elapsed() < FULL_LATELY);
        full.then(|| book.away_ms(limit, workers))
    }

    /// Releases the entry of that name.
    pub(crate) fn release(&self, key: &LimitKey, name: String) {
        self.book(key).release(name, None);
    }

    fn book(&self, key: &LimitKey) -> Arc<Book> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(book) = books.get(key) {
            return Arc::clone(book);
        }
        if books.len() >= MANY {
            books.retain(|_, book| Arc::strong_count(book) > 1);
        }
        let (store, clock, worker) = (self.fleet.permits(key), self.clock.clone(), self.worker.clone());
        let (skew_ms, state) = (self.skew_ms, Mutex::default());
        let book = Arc::new(Book { store, key: key.clone(), clock, worker, skew_ms, state });
        books.insert(key.clone(), Arc::clone(&book));
        book
    }
}

impl Book {
    fn state(&self) -> MutexGuard<'_, BookState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(self: &Arc<Self>, take: Take, limit: u32) -> Option<bool> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            state.takes.push((take, sender));
            state.limit = limit;
        }
        self.begin();
        receiver.await.ok().flatten()
    }

    /// A permit of this worker's block, which is leased anew where it is used up or ends too early.
    async fn take_of_block(self: &Arc<Self>, limit: u32, workers: u32, until: Timestamp) -> Option<bool> {
        if !self.state().block.take(until) {
            self.lease(limit, workers, until).await;
            return Some(self.state().block.take(until));
        }
        Some(true)
    }

    /// Leases the block for longer, and larger where more is wanted.
    async fn lease(self: &Arc<Self>, limit: u32, workers: u32, until: Timestamp) {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            state.limit = limit;
            state.block_asks.push(sender);
            let before = state.block_wish.map_or(until, |wish| wish.until);
            state.block_wish = Some(BlockWish { workers, until: until.max(before) });
        }
        self.begin();
        let _leased = receiver.await;
    }

    /// A permit of the block is free again; one whose request is lost when the request ends by itself.
    fn leave_block(self: &Arc<Self>, lost_for_ms: Option<u64>) {
        let Some(lost_for_ms) = lost_for_ms else { return self.state().block.leave() };
        let book = Arc::clone(self);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(Duration::from_millis(lost_for_ms)).await;
                book.state().block.leave();
            });
        }
    }

    fn release(self: &Arc<Self>, name: String, held_ms: Option<u64>) {
        {
            let mut state = self.state();
            state.releases.push(name);
            state.refused_at = None;
            if let Some(held_ms) = held_ms {
                let before_ms = state.hold_ms.unwrap_or(held_ms);
                state.hold_ms = Some(before_ms.saturating_mul(7).saturating_add(held_ms) / 8);
            }
        }
        self.begin();
    }

    /// Starts the task that writes, unless it runs. Where the runtime has ended, entries end by their own time.
    fn begin(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !std::mem::replace(&mut self.state().writing, true) {
            runtime.spawn(Arc::clone(self).write());
        }
    }

    /// How long a call that found no permit stays away.
    fn away_ms(&self, limit: u32, workers: u32) -> u64 {
        let now = self.clock.now();
        let mut state = self.state();
        let each_ms = state.hold_ms.unwrap_or(FIRST_HOLD_MS).saturating_mul(u64::from(workers))
            / u64::from(limit.max(1));
        let tail = tail_after_ask(state.tail, now, each_ms);
        state.tail = Some(tail);
        away_ms(tail.ms_since(now))
    }

    /// Writes what is to be changed until nothing is.
    async fn write(self: Arc<Self>) {
        while let Some(Next { senders, asks, change, seen }) = self.next() {
            let granted = match self.apply(seen, &change).await {
                Ok(granted) => granted,
                Err(error) => {
                    tracing::warn!(%error, limit = %self.key, code = "limit_unread", "a limit's row cannot be read or written; its calls wait");
                    self.write_failed(change.release);
                    // Those who asked learn of it now.
                    drop((senders, asks));
                    tokio::time::sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            if let Some((_, block)) = &change.block {
                self.state().block.leased(granted.block, block.until);
            }
            drop(asks);
            for ((sender, take), taken) in senders.into_iter().zip(change.take).zip(granted.taken) {
                if sender.send(Some(taken)).is_err() && taken {
                    self.state().releases.push(take.name);
                }
            }
        }
    }

    /// What could not be released is released later.
    fn write_failed(&self, releases: Vec<String>) {
        let mut state = self.state();
        state.seen = None;
        state.releases.extend(releases);
    }

    /// A refusal counts only by a row that was read or written now.
    async fn apply(&self, seen: Option<HolderRow>, change: &Change) -> Result<Granted, AwsError> {
        let mut applied = apply(&self.store, seen.as_ref(), change).await?;
        if matches!(applied, Applied::Rejected { .. }) {
            let row = self.store.read().await?;
            applied = apply(&self.store, row.as_ref(), change).await?;
        }
        let (row, granted) = match applied {
            Applied::Stored { row, then } => (Some(row), then),
            Applied::Rejected { row, rejection } => (row, rejection),
        };
        self.state().seen = row.map(|row| *row);
        Ok(granted)
    }

    fn next(&self) -> Option<Next> {
        let mut state = self.state();
        if state.takes.is_empty() && state.releases.is_empty() && state.block_asks.is_empty() {
            state.writing = false;
            return None;
        }
        let (take, senders) = state.takes.drain(..).unzip();
        let asks = std::mem::take(&mut state.block_asks);
        let wish = state.block_wish.take();
        let block = wish.map(|wish| {
            let block = state.block.wanted(state.limit, wish, asks.len());
            (self.worker.clone(), block)
        });
        let change = Change {
            now: self.clock.now(),
            limit: state.limit,
            skew_ms: self.skew_ms,
            release: std::mem::take(&mut state.releases),
            take,
            block,
        };
        Some(Next { senders, asks, change, seen: state.seen.clone() })
    }
}
