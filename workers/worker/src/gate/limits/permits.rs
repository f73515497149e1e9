//! The permits of concurrency limits, taken and released together: one write for all that this worker changes of a limit at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::fleet::limits::Permits;
use toolfleet_aws::{Applied, AwsError, Clock, apply};
use toolfleet_core::limits::LimitKey;
use toolfleet_core::limits::holders::{Change, Granted, HolderRow, Take, away_ms};
use toolfleet_core::time::Timestamp;

/// The most limits with a state; beyond it those that are not in use are forgotten.
const MANY: usize = 10_000;
/// How long a permit is taken to be held before any was released, in milliseconds.
const FIRST_HOLD_MS: u64 = 1_000;

/// The concurrency limits that this worker uses.
#[derive(Debug)]
pub(crate) struct PermitBooks {
    fleet: Fleet,
    clock: Clock,
    skew_ms: u64,
    books: Mutex<HashMap<LimitKey, Arc<Book>>>,
}

#[derive(Debug)]
struct Book {
    store: Permits,
    key: LimitKey,
    clock: Clock,
    skew_ms: u64,
    state: Mutex<BookState>,
}

#[derive(Debug, Default)]
struct BookState {
    takes: Vec<(Take, oneshot::Sender<Option<bool>>)>,
    releases: Vec<String>,
    limit: u32,
    /// Whether a task writes for those who ask.
    writing: bool,
    seen: Option<HolderRow>,
    /// How long permits of this worker were held lately, in milliseconds.
    hold_ms: Option<u64>,
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
}

/// A permit. It is released when it is dropped, unless its request is under way: then it ends by its own time.
#[derive(Debug)]
pub(crate) struct Permit {
    book: Arc<Book>,
    wish: PermitWish,
    since: Instant,
    under_way: bool,
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

    /// How long it counts from its last renewal, in milliseconds.
    pub(crate) const fn hold_ms(&self) -> u64 {
        self.wish.hold_ms
    }

    /// Makes it count for its whole time from now on.
    pub(crate) async fn renew(&self) {
        let take =
            Take { name: self.wish.name.clone(), until: self.book.clock.now().plus_ms(self.wish.hold_ms) };
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
        if self.under_way {
            return;
        }
        let held_ms = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.book.release(std::mem::take(&mut self.wish.name), Some(held_ms));
    }
}

impl PermitBooks {
    pub(super) fn new(fleet: Fleet, clock: Clock, skew_ms: u64) -> Self {
        Self { fleet, clock, skew_ms, books: Mutex::default() }
    }

    /// Takes a permit.
    ///
    /// # Errors
    /// None is free: how long the call stays away, in milliseconds; nothing where the table does not answer.
    pub(crate) async fn take(
        &self,
        key: &LimitKey,
        wish: PermitWish,
        workers: u32,
    ) -> Result<Permit, Option<u64>> {
        let book = self.book(key);
        let take = Take { name: wish.name.clone(), until: self.clock.now().plus_ms(wish.hold_ms) };
        match book.take(take, wish.limit).await {
            Some(true) => Ok(Permit { book, wish, since: Instant::now(), under_way: false }),
            Some(false) => Err(Some(book.away_ms(wish.limit, workers))),
            None => Err(None),
        }
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
        let (store, clock, skew_ms) = (self.fleet.permits(key), self.clock.clone(), self.skew_ms);
        let book = Arc::new(Book { store, key: key.clone(), clock, skew_ms, state: Mutex::default() });
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

    fn release(self: &Arc<Self>, name: String, held_ms: Option<u64>) {
        {
            let mut state = self.state();
            state.releases.push(name);
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
        let tail = state.tail.map_or(now, |tail| tail.max(now)).plus_ms(each_ms);
        state.tail = Some(tail);
        away_ms(tail.ms_since(now))
    }

    /// Writes what is to be changed until nothing is.
    async fn write(self: Arc<Self>) {
        loop {
            let Some((senders, change, seen)) = self.next() else { return };
            let granted = match self.apply(seen, &change).await {
                Ok(granted) => granted,
                Err(error) => {
                    tracing::warn!(%error, limit = %self.key, code = "limit_unread", "a limit's row cannot be read or written; its calls wait");
                    self.state().seen = None;
                    continue;
                }
            };
            for ((sender, take), taken) in senders.into_iter().zip(change.take).zip(granted.taken) {
                if sender.send(Some(taken)).is_err() && taken {
                    self.state().releases.push(take.name);
                }
            }
        }
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

    #[expect(clippy::type_complexity, reason = "the three parts of one write have no other use")]
    fn next(&self) -> Option<(Vec<oneshot::Sender<Option<bool>>>, Change, Option<HolderRow>)> {
        let mut state = self.state();
        if state.takes.is_empty() && state.releases.is_empty() {
            state.writing = false;
            return None;
        }
        let (take, senders) = state.takes.drain(..).unzip();
        let change = Change {
            now: self.clock.now(),
            limit: state.limit,
            skew_ms: self.skew_ms,
            release: std::mem::take(&mut state.releases),
            take,
            block: None,
        };
        Some((senders, change, state.seen.clone()))
    }
}
