//! The turns of rate limits, asked for together: one write for all calls of this worker that wait for the same limit, ten a second at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::fleet::limits::Turns;
use toolfleet_aws::{Applied, AwsError, Clock, apply};
use toolfleet_core::limits::turn_book::{Ask, Grant, Reserve, TurnRow};
use toolfleet_core::limits::{LimitKey, RateLimit, Turn};
use toolfleet_core::time::Timestamp;

/// The shortest time between two writes to one limit.
const PACE: Duration = Duration::from_millis(100);
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

#[derive(Debug)]
struct Book {
    store: Turns,
    key: LimitKey,
    clock: Clock,
    state: Mutex<BookState>,
}

#[derive(Debug, Default)]
struct BookState {
    asks: Vec<(Ask, oneshot::Sender<Option<Grant>>)>,
    give_back: Vec<Turn>,
    rule: Option<(RateLimit, u64)>,
    /// Whether a task writes for those who ask.
    writing: bool,
    written_at: Option<Instant>,
    seen: Option<TurnRow>,
    setting: Option<Setting>,
}

/// The setting of a limit's row, and when it was read.
#[derive(Debug, Clone, Copy)]
struct Setting {
    epoch: u64,
    rate: RateLimit,
    version: u64,
    at: Instant,
}

impl Setting {
    const fn of(row: &TurnRow, at: Instant) -> Self {
        Self { epoch: row.epoch, rate: row.rate, version: row.version, at }
    }
}

/// What a call that asks for a turn gets.
#[derive(Debug)]
pub(crate) enum TurnAnswer {
    /// A turn.
    Turn(HeldTurn),
    /// None; it would get one at about this time.
    Later(Timestamp),
    /// None at the time that it wished.
    Taken,
    /// The table does not answer.
    Unknown,
}

/// A turn in this worker. One that is dropped without being used goes back.
#[derive(Debug)]
pub(crate) struct HeldTurn {
    book: Arc<Book>,
    pub(crate) turn: Turn,
    keep: bool,
}

impl HeldTurn {
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

impl Drop for HeldTurn {
    fn drop(&mut self) {
        if !self.keep {
            let mut state = self.book.state();
            if state.give_back.len() < MOST_ASKS {
                state.give_back.push(self.turn);
            }
        }
    }
}

impl TurnBooks {
    pub(super) fn new(fleet: Fleet, clock: Clock) -> Self {
        Self { fleet, clock, books: Mutex::default() }
    }

    /// Asks for a turn under that limit.
    pub(crate) async fn ask(&self, key: &LimitKey, rate: RateLimit, version: u64, ask: Ask) -> TurnAnswer {
        let book = self.book(key);
        let (sender, receiver) = oneshot::channel();
        let begin = {
            let mut state = book.state();
            state.asks.push((ask, sender));
            state.rule = Some((rate, version));
            !std::mem::replace(&mut state.writing, true)
        };
        if begin {
            tokio::spawn(Arc::clone(&book).write());
        }
        match receiver.await.ok().flatten() {
            Some(Grant::Turn(turn)) => TurnAnswer::Turn(HeldTurn { book, turn, keep: false }),
            Some(Grant::Later(at_us)) => TurnAnswer::Later(Timestamp::from_ms(at_us / 1_000)),
            Some(Grant::Taken(_)) => TurnAnswer::Taken,
            None => TurnAnswer::Unknown,
        }
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
        let known = book.state().setting.filter(|setting| setting.at.elapsed() < SETTING_KNOWN);
        let setting = match known {
            Some(setting) => setting,
            None => {
                let asked = Instant::now();
                let row = match book.store.read().await {
                    Ok(row) => row?,
                    Err(error) => {
                        book.failed(&error);
                        return None;
                    }
                };
                let setting = Setting::of(&row, asked);
                book.state().setting = Some(setting);
                setting
            }
        };
        // Another delivery of the same message may use the turn, so this one never gives it back.
        let held = HeldTurn { book, turn, keep: true };
        // A worker that knows a newer limit gives the row its setting when it asks: that voids the turn.
        let is_newer = rate != setting.rate && version >= setting.version;
        (setting.epoch == turn.epoch && !is_newer).then_some(held)
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
        let book = Arc::new(Book { store, key: key.clone(), clock, state: Mutex::default() });
        books.insert(key.clone(), Arc::clone(&book));
        book
    }
}

impl Book {
    fn state(&self) -> MutexGuard<'_, BookState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes for those who ask until nobody does.
    async fn write(self: Arc<Self>) {
        loop {
            let due = self.state().written_at.map(|at| at + PACE);
            if let Some(due) = due {
                tokio::time::sleep_until(due).await;
            }
            let Some((senders, reserve, seen)) = self.next() else { return };
            let asked = Instant::now();
            let applied = apply(&self.store, seen.as_ref(), &reserve).await;
            let mut state = self.state();
            state.written_at = Some(asked);
            let grants = match applied {
                Ok(Applied::Stored { row, then }) => {
                    state.setting = Some(Setting::of(&row, asked));
                    state.seen = Some(*row);
                    then
                }
                Ok(Applied::Rejected { row, rejection }) => {
                    state.seen = row.map(|row| *row);
                    rejection
                }
                Err(error) => {
                    // The row may have changed: it is read again.
                    state.seen = None;
                    drop(state);
                    self.failed(&error);
                    continue;
                }
            };
            drop(state);
            for (sender, grant) in senders.into_iter().zip(grants) {
                if let (Err(Some(Grant::Turn(turn))), true) = (sender.send(Some(grant)), true) {
                    self.state().give_back.push(turn);
                }
            }
        }
    }

    /// The calls to serve next; none ends the task.
    #[expect(clippy::type_complexity, reason = "the three parts of one write have no other use")]
    fn next(&self) -> Option<(Vec<oneshot::Sender<Option<Grant>>>, Reserve, Option<TurnRow>)> {
        let mut state = self.state();
        let most = state.asks.len().min(MOST_ASKS);
        let rule = state.rule.filter(|_| most > 0);
        let Some((rate, version)) = rule else {
            state.writing = false;
            return None;
        };
        let (asks, senders) = state.asks.drain(..most).unzip();
        let reserve = Reserve {
            now_us: self.clock.now().as_ms().saturating_mul(1_000),
            mark: fastrand::u64(..),
            rate,
            version,
            shared: self.key.is_shared(),
            give_back: std::mem::take(&mut state.give_back),
            asks,
        };
        Some((senders, reserve, state.seen.clone()))
    }

    fn failed(&self, error: &AwsError) {
        tracing::warn!(%error, limit = %self.key, code = "limit_unread", "a limit's row cannot be read or written; its calls wait");
    }
}
