//! The turns of rate limits, asked for together: one write for all calls of this worker that wait for the same limit, ten a second at most.
//! Where other workers are often faster, there are fewer writes, each for more calls.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::fleet::limits::Turns;
use toolfleet_aws::{Applied, AwsError, Clock, apply_in_rounds};
use toolfleet_core::limits::turn_book::{Ask, Grant, Reserve, Setting, TurnRow};
use toolfleet_core::limits::{LimitKey, RateLimit, Turn};

/// The shortest time between two writes to one limit, and the longest: it doubles with a write that others were faster than, and else shrinks.
const PACE: Duration = Duration::from_millis(100);
const SLOWEST_PACE: Duration = Duration::from_secs(2);
/// So many rounds one write has; after that its calls wait for the next.
const ROUNDS: u32 = 4;
/// The most calls in one write.
const MOST_ASKS: usize = 100;
/// By how much the time to the next write differs at random, in percent.
const PACE_SPREAD: u32 = 25;
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
    /// How much longer than [`PACE`] is between two writes.
    slower: Duration,
    seen: Option<TurnRow>,
    /// The setting of the limit's row, and when it was read.
    setting: Option<(Setting, Instant)>,
}

/// What a call that asks for a turn gets.
#[derive(Debug)]
pub(crate) enum TurnAnswer {
    /// A turn.
    Turn(HeldTurn),
    /// None; it would get one at about this time, in microseconds.
    Later(i64),
    /// None at the time that it wished. The next is this one, in microseconds.
    Taken(i64),
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
            Some(Grant::Later(at_us)) => TurnAnswer::Later(at_us),
            Some(Grant::Taken(at_us)) => TurnAnswer::Taken(at_us),
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
        let known = book.state().setting.filter(|(_, read_at)| read_at.elapsed() < SETTING_KNOWN);
        let setting = match known {
            Some((setting, _)) => setting,
            None => {
                let asked = Instant::now();
                let row = match book.store.read().await {
                    Ok(row) => row?,
                    Err(error) => {
                        book.failed(&error);
                        return None;
                    }
                };
                let setting = Setting::of(&row);
                book.state().setting = Some((setting, asked));
                setting
            }
        };
        // Another delivery of the same message may use the turn, so this one never gives it back.
        let held = HeldTurn { book, turn, keep: true };
        setting.honours(turn, rate, version).then_some(held)
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

impl BookState {
    fn next_write(&self) -> Option<Instant> {
        Some(self.written_at? + PACE + self.slower)
    }

    /// Learns how many rounds others were faster in.
    fn paced(&mut self, lost: u32) {
        self.slower = slower(self.slower, lost, fastrand::u32(0..PACE_SPREAD));
    }

    /// Those who asked are served by the next write, before others.
    fn again(&mut self, senders: Vec<oneshot::Sender<Option<Grant>>>, reserve: Reserve) {
        let asks: Vec<_> = reserve.asks.into_iter().zip(senders).collect();
        self.asks.splice(..0, asks);
        self.give_back.extend(reserve.give_back);
    }
}

/// How much longer than [`PACE`] is until the next write, after one that lost so many rounds. `spread` keeps workers apart.
fn slower(before: Duration, lost: u32, spread: u32) -> Duration {
    if lost == 0 {
        return before * 4 / 5;
    }
    let longer = (before + PACE / 2) * (100 + lost * PACE_SPREAD + spread) / 100;
    longer.min(SLOWEST_PACE - PACE)
}

impl Book {
    fn state(&self) -> MutexGuard<'_, BookState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes for those who ask until nobody does.
    async fn write(self: Arc<Self>) {
        loop {
            let due = self.state().next_write();
            if let Some(due) = due {
                tokio::time::sleep_until(due).await;
            }
            let Some((senders, reserve, seen)) = self.next() else { return };
            let asked = Instant::now();
            let applied = apply_in_rounds(&self.store, seen.as_ref(), &reserve, ROUNDS).await;
            let mut state = self.state();
            state.written_at = Some(asked);
            let grants = match applied {
                Ok((applied, lost)) => {
                    state.paced(lost);
                    match applied {
                        Some(Applied::Stored { row, then }) => {
                            state.setting = Some((Setting::of(&row), asked));
                            state.seen = Some(*row);
                            then
                        }
                        Some(Applied::Rejected { row, rejection }) => {
                            state.seen = row.map(|row| *row);
                            rejection
                        }
                        None => {
                            state.seen = None;
                            state.again(senders, reserve);
                            continue;
                        }
                    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_others_win_become_fewer_and_recover() {
        let mut pause = Duration::ZERO;
        for _ in 0..20 {
            pause = slower(pause, 4, 0);
        }
        assert_eq!(PACE + pause, SLOWEST_PACE);
        for _ in 0..30 {
            pause = slower(pause, 0, 9);
        }
        assert!(pause < Duration::from_millis(3), "{pause:?}");
    }
}
