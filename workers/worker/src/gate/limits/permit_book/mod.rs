//! The permits of one concurrency limit, as one worker takes and releases them: one write for all that it changes at a time.
//!
//! A call that finds no permit may wait in the worker's hands. The write that releases a permit takes it for the call that waits longest, so
//! a permit is passed on without a pause. While permits of other workers are waited for, the row is read again about as often as one is
//! released.

#[cfg(test)]
mod block_tests;
mod blocks;
mod rows;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};
use toolfleet_aws::Clock;
use toolfleet_aws::fleet::limits::Permits;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::limits::block::{BlockWish, LocalBlock};
use toolfleet_core::limits::holders::{HolderRow, Take, by_blocks};
use toolfleet_core::limits::waits::{Ahead, ParkedCalls};
use toolfleet_core::time::Timestamp;

use super::permit_wish::{NoPermit, Patience, PermitWish};
use super::write_pace::WritePace;
use crate::clock_check::ClockCheck;
pub(super) use rows::PermitRows;

/// How long a permit is taken to be held before any was released, in milliseconds.
const FIRST_HOLD_MS: u64 = 1_000;
/// For so long a limit that had no permit is taken to have none.
const FULL_LATELY: Duration = Duration::from_millis(200);
/// How often the row is looked at for calls in hand: the shortest and the longest pause, in milliseconds.
const LOOK_MS: (u64, u64) = (100, 1_000);
/// The longest pause between two writes, and how much a pause grows at least. A worker that meets no other writes at once.
const SLOWEST_PACE: Duration = Duration::from_secs(1);
const PACE_STEP: Duration = Duration::from_millis(10);

/// The permits of one limit.
#[derive(Debug)]
pub(super) struct PermitBook<S: PermitRows = Permits> {
    store: S,
    key: LimitKey,
    clock: Clock,
    worker: String,
    clock_check: ClockCheck,
    state: Mutex<BookState<S>>,
    /// Wakes the task that writes from its pause.
    changed: Notify,
    /// A permit of the block is free again.
    block_left: Notify,
    /// The same, for calls whose turn has come.
    block_left_in_turn: Notify,
}

#[derive(Debug)]
struct BookState<S: PermitRows> {
    asks: Vec<Ask<S>>,
    /// Calls that wait in the worker's hands, the first first.
    line: VecDeque<Ask<S>>,
    /// Whether the last permit went to a call whose turn had come: the next is for the line, which a fast rate limit would else starve.
    line_is_next: bool,
    parked: ParkedCalls,
    releases: Vec<String>,
    /// Those who wait until these are written.
    release_asks: Vec<oneshot::Sender<()>>,
    held_ms: Vec<u64>,
    limit: u32,
    block: LocalBlock,
    /// Those who wait for the block to be leased anew, and the lease that they need.
    block_asks: Vec<oneshot::Sender<()>>,
    block_wish: Option<BlockWish>,
    /// Whether the last call asked for an entry: what is left of a block stands in the way of entries.
    by_entries: bool,
    /// How many calls whose turn has come wait for the block.
    block_in_turn: u32,
    /// When a permit of the block was last taken or left.
    block_used_at: Option<Instant>,
    /// Whether a task writes for those who ask.
    writing: bool,
    /// Whether that task only waits for the block to be idle.
    resting: bool,
    pace: WritePace,
    seen: Option<HolderRow>,
    /// When a call last found no permit; none once this worker has released one.
    refused_at: Option<Instant>,
    /// When the row was last read or written.
    looked_at: Option<Instant>,
}

/// A request for an entry, and who learns of the answer.
#[derive(Debug)]
struct Ask<S: PermitRows> {
    take: Take,
    reply: Reply<S>,
    /// How many writes for it were lost.
    lost: u32,
    /// Whether it waits in the line until it has a permit.
    in_line: bool,
}

#[derive(Debug)]
enum Reply<S: PermitRows> {
    /// A new entry. A permit that nobody receives is released.
    Permit(PermitWish, oneshot::Sender<Option<Permit<S>>>),
    /// An entry that is kept for longer; whether it is in the row.
    Kept(oneshot::Sender<bool>),
    /// An entry that takes the place of one that is released in the same write. It is asked for until a write is stored.
    Replaces(oneshot::Sender<()>),
}

/// A permit. It is released when it is dropped, unless its request is under way: then it ends by its own time.
#[derive(Debug)]
pub(crate) struct Permit<S: PermitRows = Permits> {
    book: Arc<PermitBook<S>>,
    wish: PermitWish,
    since: Instant,
    under_way: bool,
    of_block: bool,
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

    /// Makes it count for its whole time from now on. The limit is that of later calls: it may have been lowered since this one was admitted.
    pub(crate) async fn renew(&self) {
        let until = self.book.now().plus_ms(self.wish.hold_ms);
        if self.of_block {
            return self.book.lease(None, self.wish.workers.unwrap_or(1), until).await;
        }
        let take = Take { name: self.wish.name.clone(), until, replaces: None };
        let _kept = self.book.keep(take, None).await;
    }

    /// The request has become a task of its server: an entry of that name takes the place of this permit, and counts for so long at least, in
    /// milliseconds. It does so from now on, whoever waits until it is stored.
    pub(crate) fn becomes(mut self, name: String, hold_ms: u64) -> oneshot::Receiver<()> {
        let (book, entry) = (Arc::clone(&self.book), std::mem::take(&mut self.wish.name));
        let until = book.now().plus_ms(hold_ms);
        let take = Take { name, until, replaces: Some(entry.clone()) };
        // What is left of this permit releases nothing.
        self.under_way = true;
        book.replace(entry, take)
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
        let _nobody_waits = self.book.release(std::mem::take(&mut self.wish.name), Some(held_ms));
    }
}

impl<S: PermitRows> PermitBook<S> {
    pub(super) fn new(
        store: S,
        key: LimitKey,
        clock: Clock,
        worker: String,
        clock_check: ClockCheck,
    ) -> Self {
        let (state, changed) = (Mutex::new(BookState::new()), Notify::new());
        let (block_left, block_left_in_turn) = (Notify::new(), Notify::new());
        Self { store, key, clock, worker, clock_check, state, changed, block_left, block_left_in_turn }
    }

    /// The time of entries: other workers compare it with their clocks.
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn state(&self) -> MutexGuard<'_, BookState<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a permit, now or after a wait in the worker's hands.
    pub(super) async fn take(
        self: &Arc<Self>,
        wish: PermitWish,
        patience: Patience,
    ) -> Result<Permit<S>, NoPermit> {
        let until = Instant::now() + patience.most;
        let of_block = wish.workers.filter(|workers| by_blocks(wish.limit, *workers));
        self.state().by_entries = of_block.is_none();
        if let Some(workers) = of_block {
            return self.take_of_block(wish, workers, patience, until).await;
        }
        // Where calls wait in hand, the next permit is for them.
        if wish.in_turn || patience.most.is_zero() || self.waiting() == 0 {
            match self.ask(wish.clone(), false).await {
                Ok(None) => self.state().refused_at = Some(Instant::now()),
                Ok(Some(permit)) => return Ok(permit),
                Err(no_permit) => return Err(no_permit),
            }
        }
        if self.may_wait(&wish, patience)
            && let Ok(waited) = timeout_at(until, self.ask(wish.clone(), true)).await
        {
            return match waited {
                Ok(Some(permit)) => Ok(permit),
                Ok(None) | Err(_) => Err(NoPermit::Unknown),
            };
        }
        Err(NoPermit::Full)
    }

    /// A permit; none where none is free. In the line it waits until it has one.
    async fn ask(self: &Arc<Self>, wish: PermitWish, in_line: bool) -> Result<Option<Permit<S>>, NoPermit> {
        let (sender, receiver) = oneshot::channel();
        let limit = wish.limit;
        let take = Take { name: wish.name.clone(), until: self.now(), replaces: None };
        let ask = Ask { take, reply: Reply::Permit(wish, sender), lost: 0, in_line };
        {
            let mut state = self.state();
            state.limit = limit;
            if in_line { state.line.push_back(ask) } else { state.asks.push(ask) }
        }
        self.begin();
        receiver.await.map_err(|_gone| NoPermit::Unknown)
    }

    /// Keeps an entry until that time. Whether it is in the row: one that was there is, another where a permit is free of that limit.
    ///
    /// # Errors
    /// The table does not answer.
    pub(super) async fn keep(self: &Arc<Self>, take: Take, limit: Option<u32>) -> Result<bool, NoPermit> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            state.limit = limit.unwrap_or(state.limit);
            state.asks.push(Ask { take, reply: Reply::Kept(sender), lost: 0, in_line: false });
        }
        self.begin();
        receiver.await.map_err(|_gone| NoPermit::Unknown)
    }

    /// An entry takes the place of another, in one write: no other call finds the permit free in between.
    fn replace(self: &Arc<Self>, entry: String, take: Take) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            state.release(entry);
            state.asks.push(Ask { take, reply: Reply::Replaces(sender), lost: 0, in_line: false });
        }
        self.begin();
        receiver
    }

    /// Lets the entry of that name count until then, if it is in the row or about to be. It does so from now on, whoever waits until it is
    /// stored.
    pub(super) fn prolong(self: &Arc<Self>, name: String, until: Timestamp) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let take = Take { replaces: Some(name.clone()), name, until };
        let ask = Ask { take, reply: Reply::Replaces(sender), lost: 0, in_line: false };
        self.state().again(ask);
        self.begin();
        receiver
    }

    /// How many calls wait in the worker's hands.
    pub(super) fn waiting(&self) -> usize {
        let mut state = self.state();
        state.line.retain(|ask| !ask.is_over());
        state.line.len()
    }

    /// Whether the call is served soon enough to wait in the worker's hands. One whose turn has come is before all that wait there.
    fn may_wait(&self, wish: &PermitWish, patience: Patience) -> bool {
        if wish.in_turn {
            return !patience.most.is_zero();
        }
        let most_ms = u64::try_from(patience.most.as_millis()).unwrap_or(u64::MAX);
        let ahead = self.ahead(wish.limit, patience);
        ahead.in_hand < u64::from(patience.most_calls) && ahead.estimate_ms() <= most_ms
    }

    fn ahead(&self, limit: u32, patience: Patience) -> Ahead {
        let now = self.clock.now();
        let mut state = self.state();
        state.line.retain(|ask| !ask.is_over());
        let in_hand = u64::try_from(state.line.len()).unwrap_or(u64::MAX);
        let parked = if patience.is_back { 0 } else { state.parked.count(now) };
        Ahead { in_hand, parked, hold_ms: state.hold_ms(), workers: patience.workers, limit }
    }

    /// How long a call with that deadline that goes to the queue now stays there, in milliseconds. At its deadline it ends, and is before no other
    /// call any more.
    pub(super) fn park(&self, limit: u32, patience: Patience, deadline: Timestamp) -> u64 {
        let now = self.clock.now();
        let away_ms = self.ahead(limit, patience).away_ms().min(deadline.ms_since(now));
        self.state().parked.add(now.plus_ms(away_ms));
        away_ms
    }

    /// Whether a moment ago no permit was free.
    pub(super) fn is_full_lately(&self) -> bool {
        self.state().refused_at.is_some_and(|at| at.elapsed() < FULL_LATELY)
    }

    /// Whether its row is being written, or is to be.
    pub(super) fn is_writing(&self) -> bool {
        let state = self.state();
        state.writing && !state.resting
    }

    /// Releases the entry of that name from now on, whoever waits until that is stored.
    pub(super) fn release(self: &Arc<Self>, name: String, held_ms: Option<u64>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            state.release(name);
            state.release_asks.push(sender);
            state.refused_at = None;
            state.held_ms.extend(held_ms);
        }
        self.begin();
        receiver
    }

    /// Starts the task that writes, or wakes it. Where the runtime has ended, entries end by their own time.
    fn begin(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let is_writing = {
            let mut state = self.state();
            state.resting = false;
            std::mem::replace(&mut state.writing, true)
        };
        if is_writing {
            self.changed.notify_one();
        } else {
            runtime.spawn(Arc::clone(self).write());
        }
    }
}

impl<S: PermitRows> BookState<S> {
    fn new() -> Self {
        Self {
            asks: Vec::new(),
            line: VecDeque::new(),
            line_is_next: false,
            parked: ParkedCalls::default(),
            releases: Vec::new(),
            release_asks: Vec::new(),
            held_ms: Vec::new(),
            limit: 0,
            block: LocalBlock::default(),
            block_asks: Vec::new(),
            block_wish: None,
            by_entries: false,
            block_in_turn: 0,
            block_used_at: None,
            writing: false,
            resting: false,
            pace: WritePace::new(Duration::ZERO, SLOWEST_PACE, PACE_STEP),
            seen: None,
            refused_at: None,
            looked_at: None,
        }
    }

    /// Releases the entry of that name with the next write, which then no longer renews it.
    fn release(&mut self, name: String) {
        self.asks.retain(|ask| ask.take.name != name);
        self.releases.push(name);
    }

    /// Asks again for an entry, unless it was released meanwhile.
    fn again(&mut self, ask: Ask<S>) {
        if self.releases.contains(&ask.take.name) {
            return;
        }
        match self.asks.iter_mut().find(|other| other.continues(&ask)) {
            Some(other) => other.unite(ask),
            None => self.asks.push(ask),
        }
    }

    fn hold_ms(&self) -> u64 {
        self.seen.as_ref().and_then(|row| row.hold_ms).unwrap_or(FIRST_HOLD_MS)
    }

    /// When the row is read again for those in the line: about as often as a permit is released.
    fn look_at(&self) -> Option<Instant> {
        let each_ms = self.hold_ms() / u64::from(self.limit.max(1));
        let pause_ms = each_ms.clamp(LOOK_MS.0, LOOK_MS.1);
        Some(self.looked_at? + Duration::from_millis(pause_ms))
    }
}

impl<S: PermitRows> Ask<S> {
    /// Whether nobody waits for the answer any more.
    fn is_over(&self) -> bool {
        match &self.reply {
            Reply::Permit(_, sender) => sender.is_closed(),
            Reply::Kept(_) | Reply::Replaces(_) => false,
        }
    }

    /// Whether one of both is for an entry in the place of another, and the other one for the same to count for longer then.
    fn continues(&self, other: &Self) -> bool {
        let (first, second) = (&self.take, &other.take);
        let both = first.replaces.is_some() && second.replaces.is_some();
        first.name == second.name && both && first.replaces != second.replaces
    }

    /// One write does both.
    fn unite(&mut self, with: Self) {
        let Take { name, until, replaces } = with.take;
        self.take.until = self.take.until.max(until);
        if replaces.as_ref() != Some(&name) {
            self.take.replaces = replaces;
        } else {
            // Whoever waited for the first of them waits no longer.
            self.reply = with.reply;
        }
    }

    /// Whether it is for a new entry.
    const fn is_new(&self) -> bool {
        matches!(self.reply, Reply::Permit(..))
    }

    /// Whether it is for a call whose turn has come.
    const fn is_in_turn(&self) -> bool {
        match &self.reply {
            Reply::Permit(wish, _) => wish.in_turn,
            Reply::Kept(_) | Reply::Replaces(_) => false,
        }
    }

    /// The entry that it asks for now: a new one counts from now on.
    fn take_from(&self, now: Timestamp) -> Take {
        let until = match &self.reply {
            Reply::Permit(wish, _) => now.plus_ms(wish.hold_ms),
            Reply::Kept(_) | Reply::Replaces(_) => self.take.until,
        };
        Take { until, ..self.take.clone() }
    }
}
