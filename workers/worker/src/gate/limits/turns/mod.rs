//! The turns of rate limits, asked for together: one write for all calls of this worker that wait for the same limit, ten a second at most. What
//! is given back goes into the same write, or into one of its own where no call asks soon.
//! Where other workers are often faster, there are fewer writes, each for more calls.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::fleet::limits::Turns;
use toolfleet_aws::{Applied, AwsError, Clock, Read, apply_in_rounds};
use toolfleet_core::limits::turn_book::{Ask, Grant, Reserve, Setting, TurnRow, TurnTable};
use toolfleet_core::limits::{LimitKey, RateLimit, Turn};

use super::write_pace::WritePace;

/// The shortest time between two writes to one limit, the longest, and how much it grows at least.
const PACE: Duration = Duration::from_millis(100);
const SLOWEST_PACE: Duration = Duration::from_secs(2);
const PACE_STEP: Duration = Duration::from_millis(50);
/// A call for which all writes of so long were lost waits in its queue.
const LOST_FOR: Duration = Duration::from_secs(5);
/// For so long a turn that is given back waits for a call of this worker that asks: one write serves both.
const WITH_AN_ASK: Duration = Duration::from_millis(100);
/// The most calls in one write.
const MOST_ASKS: usize = 100;
/// For so long what was read of a limit's setting counts.
const SETTING_KNOWN: Duration = Duration::from_secs(2);
/// The most limits with a state; beyond it those that are not in use are forgotten.
const MANY: usize = 10_000;

/// The rate limits that this worker uses.
#[derive(Debug)]
pub(crate) struct TurnBooks {
    fleet: Fleet,
    clock: Clock,
    books: Mutex<HashMap<LimitKey, Arc<Book>>>,
}

/// A store of the turns of one limit: the fleet table, or a model of it.
pub(crate) trait TurnRows: Read<Table = TurnTable> + Debug + Send + Sync + 'static {}

impl<S: Read<Table = TurnTable> + Debug + Send + Sync + 'static> TurnRows for S {}

#[derive(Debug)]
pub(crate) struct Book<S: TurnRows = Turns> {
    store: S,
    key: LimitKey,
    clock: Clock,
    state: Mutex<BookState>,
    /// Wakes the task that writes from its wait for a call that asks.
    changed: Notify,
}

#[derive(Debug)]
struct BookState {
    asks: Vec<Asked>,
    give_back: Vec<Turn>,
    /// When the turns that are given back are written without a call that asks.
    gives_back_at: Option<Instant>,
    rule: Option<(RateLimit, u64)>,
    /// Whether a task writes for those who ask.
    writing: bool,
    pace: WritePace,
    seen: Option<TurnRow>,
    /// The setting of the limit's row, and when it was read.
    setting: Option<(Setting, Instant)>,
}

/// A call that asks, who learns of the answer, and since when it asks.
#[derive(Debug)]
struct Asked {
    ask: Ask,
    reply: oneshot::Sender<Answered>,
    since: Instant,
}

/// What the task that writes answers.
#[derive(Debug)]
enum Answered {
    Grant(Grant),
    /// Other workers were faster, again and again.
    Lost,
}

/// What the task that writes does next.
enum Step {
    Write(Box<Next>),
    Pause(Instant),
    End,
}

/// One write, and who waits for it.
struct Next {
    waiting: Vec<(oneshot::Sender<Answered>, Instant)>,
    reserve: Reserve,
    seen: Option<TurnRow>,
    reads_first: bool,
}

/// What a call that asks for a turn gets.
#[derive(Debug)]
pub(crate) enum TurnAnswer<S: TurnRows = Turns> {
    /// A turn.
    Turn(HeldTurn<S>),
    /// None; it would get one at about this time, in microseconds.
    Later(i64),
    /// None at the time that it wished. The next is this one, in microseconds.
    Taken(i64),
    /// None: so many workers change the limit's row that others were always faster.
    Contended,
    /// The table does not answer.
    Unknown,
}

/// A turn in this worker. One that is dropped without being used goes back.
#[derive(Debug)]
pub(crate) struct HeldTurn<S: TurnRows = Turns> {
    book: Arc<Book<S>>,
    pub(crate) turn: Turn,
    keep: bool,
}

impl<S: TurnRows> HeldTurn<S> {
    /// Its limit.
    pub(crate) fn limit(&self) -> &LimitKey {
        &self.book.key
    }

    /// The call is sent now, or its message carries the turn on.
    pub(crate) fn keep(mut self) -> Turn {
        self.keep = true;
        self.turn
    }
}

impl<S: TurnRows> Drop for HeldTurn<S> {
    fn drop(&mut self) {
        if !self.keep {
            self.book.give_back(self.turn);
        }
    }
}

impl TurnBooks {
    pub(super) fn new(fleet: Fleet, clock: Clock) -> Self {
        Self { fleet, clock, books: Mutex::default() }
    }

    /// Asks for a turn under that limit.
    pub(crate) async fn ask(&self, key: &LimitKey, rate: RateLimit, version: u64, ask: Ask) -> TurnAnswer {
        self.book(key).ask(rate, version, ask).await
    }

    /// A turn that a message carries, unless the limit has changed since it was given.
    pub(crate) async fn carried(
        &self,
        key: &LimitKey,
        rate: RateLimit,
        version: u64,
        turn: Turn,
    ) -> Option<HeldTurn> {
        let book = self.book(key);
        let counts = book.honours(rate, version, turn).await;
        // Another delivery of the same message may use the turn, so this one never gives it back.
        counts.then_some(HeldTurn { book, turn, keep: true })
    }

    /// Whether a turn still counts after a wait, for a worker that knows the limit as `rate` of that version now.
    pub(crate) async fn still_counts(&self, held: &HeldTurn, rate: RateLimit, version: u64) -> bool {
        held.book.honours(rate, version, held.turn).await
    }

    /// Whether a row is being written, or is to be.
    pub(super) fn is_writing(&self) -> bool {
        let books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        books.values().any(|book| book.is_writing())
    }

    fn book(&self, key: &LimitKey) -> Arc<Book> {
        let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(book) = books.get(key) {
            return Arc::clone(book);
        }
        if books.len() >= MANY {
            books.retain(|_, book| Arc::strong_count(book) > 1);
        }
        let (store, clock) = (self.fleet.turns(key), self.clock.clone());
        let book = Arc::new(Book::new(store, key.clone(), clock));
        books.insert(key.clone(), Arc::clone(&book));
        book
    }
}

impl<S: TurnRows> Book<S> {
    fn new(store: S, key: LimitKey, clock: Clock) -> Self {
        let state = BookState {
            asks: Vec::new(),
            give_back: Vec::new(),
            gives_back_at: None,
            rule: None,
            writing: false,
            pace: WritePace::new(PACE, SLOWEST_PACE, PACE_STEP),
            seen: None,
            setting: None,
        };
        Self { store, key, clock, state: Mutex::new(state), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, BookState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(self: &Arc<Self>, rate: RateLimit, version: u64, ask: Ask) -> TurnAnswer<S> {
        let (reply, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            state.asks.push(Asked { ask, reply, since: Instant::now() });
            state.rule = Some((rate, version));
        }
        self.begin();
        match receiver.await {
            Ok(Answered::Grant(Grant::Turn(turn))) => {
                TurnAnswer::Turn(HeldTurn { book: Arc::clone(self), turn, keep: false })
            }
            Ok(Answered::Grant(Grant::Later(at_us))) => TurnAnswer::Later(at_us),
            Ok(Answered::Grant(Grant::Taken(at_us))) => TurnAnswer::Taken(at_us),
            Ok(Answered::Lost) => TurnAnswer::Contended,
            Err(_) => TurnAnswer::Unknown,
        }
    }

    /// Gives a turn back that its call cannot use.
    fn give_back(self: &Arc<Self>, turn: Turn) {
        {
            let mut state = self.state();
            if state.give_back.len() >= MOST_ASKS {
                return;
            }
            state.give_back.push(turn);
            state.gives_back_at.get_or_insert_with(|| Instant::now() + WITH_AN_ASK);
        }
        self.begin();
    }

    /// Whether its row is being written, or is to be.
    fn is_writing(&self) -> bool {
        self.state().writing
    }

    /// Starts the task that writes, or wakes it. Where the runtime has ended, turns are given back no more.
    fn begin(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let is_writing = std::mem::replace(&mut self.state().writing, true);
        if is_writing {
            self.changed.notify_one();
        } else {
            runtime.spawn(Arc::clone(self).write());
        }
    }

    /// Whether a turn that was given earlier counts, by the limit's setting as it was two seconds ago at most.
    async fn honours(&self, rate: RateLimit, version: u64, turn: Turn) -> bool {
        let known = self.state().setting.filter(|(_, read_at)| read_at.elapsed() < SETTING_KNOWN);
        let setting = match known {
            Some((setting, _)) => setting,
            None => {
                let asked = Instant::now();
                let row = match self.store.read().await {
                    Ok(Some(row)) => row,
                    Ok(None) => return false,
                    Err(error) => {
                        self.failed(&error);
                        return false;
                    }
                };
                let setting = Setting::of(&row);
                self.state().setting = Some((setting, asked));
                setting
            }
        };
        setting.honours(turn, rate, version)
    }

    /// Writes for those who ask, and what is given back, until there is nothing to write.
    async fn write(self: Arc<Self>) {
        loop {
            let due = self.state().pace.due();
            if let Some(due) = due {
                tokio::time::sleep_until(due).await;
            }
            let next = match self.next() {
                Step::End => return,
                Step::Pause(until) => {
                    let _elapsed = timeout_at(until, self.changed.notified()).await.is_err();
                    continue;
                }
                Step::Write(next) => *next,
            };
            match self.apply(&next).await {
                Ok(Some(grants)) => self.answer(next, grants),
                Ok(None) => self.state().again(next),
                Err(error) => {
                    // The row may have changed: it is read again. Those who asked learn that nothing is known.
                    self.state().seen = None;
                    self.failed(&error);
                }
            }
        }
    }

    /// The grants; none where another worker was faster.
    async fn apply(&self, next: &Next) -> Result<Option<Vec<Grant>>, AwsError> {
        let asked = Instant::now();
        let rev = |row: &Option<TurnRow>| row.as_ref().map(|row| row.rev);
        let (mut row, mut others_write) = (next.seen.clone(), false);
        if next.reads_first {
            row = self.store.read().await?;
            others_write = rev(&row) != rev(&next.seen);
        }
        let applied = apply_in_rounds(&self.store, row.as_ref(), &next.reserve, 1).await;
        let mut state = self.state();
        let applied = match applied {
            Ok((applied, _)) => applied,
            Err(error) => {
                state.pace.failed(asked);
                return Err(error);
            }
        };
        state.pace.written(asked, applied.is_none(), others_write);
        Ok(match applied {
            Some(Applied::Stored { row, then }) => {
                state.setting = Some((Setting::of(&row), asked));
                state.seen = Some(*row);
                Some(then)
            }
            Some(Applied::Rejected { row, rejection }) => {
                state.seen = row.map(|row| *row);
                Some(rejection)
            }
            None => None,
        })
    }

    fn answer(self: &Arc<Self>, next: Next, grants: Vec<Grant>) {
        for ((reply, _), grant) in next.waiting.into_iter().zip(grants) {
            if let Err(Answered::Grant(Grant::Turn(turn))) = reply.send(Answered::Grant(grant)) {
                self.give_back(turn);
            }
        }
    }

    /// The calls to serve next, with the turns that are given back.
    fn next(&self) -> Step {
        let mut state = self.state();
        let most = state.asks.len().min(MOST_ASKS);
        match state.gives_back_at {
            Some(due) if most == 0 && due > Instant::now() => return Step::Pause(due),
            Some(_) => {}
            None if most > 0 => {}
            None => {
                state.writing = false;
                return Step::End;
            }
        }
        let Some((rate, version)) = state.rule else {
            state.writing = false;
            return Step::End;
        };
        state.gives_back_at = None;
        let (asks, waiting) = state.asks.drain(..most).map(|one| (one.ask, (one.reply, one.since))).unzip();
        let reserve = Reserve {
            now_us: self.clock.now().as_ms().saturating_mul(1_000),
            mark: fastrand::u64(..),
            rate,
            version,
            shared: self.key.is_shared(),
            give_back: std::mem::take(&mut state.give_back),
            asks,
        };
        // A write on a row that is known from earlier may be lost, and what it gives back with it.
        let reads_first = state.pace.reads_first() || !reserve.give_back.is_empty();
        let seen = state.seen.clone();
        Step::Write(Box::new(Next { waiting, reserve, seen, reads_first }))
    }

    fn failed(&self, error: &AwsError) {
        tracing::warn!(%error, limit = %self.key, code = "limit_unread", "a limit's row cannot be read or written; its calls wait");
    }
}

impl BookState {
    /// Those whose write was lost are served by the next one, before others, unless they have waited for long.
    fn again(&mut self, next: Next) {
        let Next { waiting, reserve, .. } = next;
        let mut asks = Vec::new();
        for (ask, (reply, since)) in reserve.asks.into_iter().zip(waiting) {
            if since.elapsed() >= LOST_FOR {
                drop(reply.send(Answered::Lost));
            } else {
                asks.push(Asked { ask, reply, since });
            }
        }
        self.asks.splice(..0, asks);
        // What was given back stays unused: the write may have been stored without an answer, and another worker may have taken the turn.
    }
}
