//! The task that writes to one limit's row for all calls of this worker, until nothing is to be written and nobody waits.
//!
//! Entries that are released, new, in the place of others or kept for longer are exchanged (`Exchange` of the core): the writes of other workers
//! do not stand in their way. Everything else replaces the row, and is lost where another worker was faster. What was to be released, kept or replaced then goes into the next write,
//! which follows after a pause; calls in the line stay there; a call that has just asked learns after a few lost writes that no permit is free,
//! and waits as for any other. So a row with many writers makes calls wait for the limit, and is no error.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use toolfleet_aws::fleet::limits::Exchanged;
use toolfleet_aws::{AwsError, Swap};
use toolfleet_core::limits::block::BlockWish;
use toolfleet_core::limits::exchange::Exchange;
use toolfleet_core::limits::holders::{Change, Granted, HolderRow, HolderTable};
use toolfleet_core::state_table::{Decision, StateTable as _};

use super::rows::PermitRows;
use super::{Ask, BookState, Permit, PermitBook, Reply};

/// How long nothing is written after a failed write.
const AFTER_ERROR: Duration = Duration::from_secs(1);
/// After so many lost writes others are let pass.
const ROUNDS: u32 = 4;
/// A call that asked, and that was let wait so often, finds no permit.
const MOST_LOST: u32 = 3;
/// The most calls in hand that one write takes permits for.
const MOST_OF_LINE: usize = 100;

/// One write, and who waits for it.
pub(super) struct Next<S: PermitRows> {
    asks: Vec<Ask<S>>,
    release_asks: Vec<oneshot::Sender<()>>,
    block_asks: Vec<oneshot::Sender<()>>,
    block_wish: Option<BlockWish>,
    change: Change,
    seen: Option<HolderRow>,
    reads_first: bool,
    begun: Instant,
}

/// What became of one write.
enum Stored {
    /// The row is stored now.
    Row(Box<HolderRow>),
    /// Another row is stored, or none.
    Found(Option<Box<HolderRow>>),
}

/// What the task that writes does next.
enum Step<S: PermitRows> {
    Write(Box<Next<S>>),
    Pause(Instant),
    End,
}

impl<S: PermitRows> PermitBook<S> {
    /// Writes what is to be changed until nothing is and nobody waits.
    pub(super) async fn write(self: Arc<Self>) {
        loop {
            match self.next() {
                Step::End => return,
                Step::Pause(until) => {
                    let _elapsed = timeout_at(until, self.changed.notified()).await.is_err();
                }
                Step::Write(next) => self.write_one(*next).await,
            }
        }
    }

    async fn write_one(self: &Arc<Self>, next: Next<S>) {
        match self.apply(&next).await {
            Ok(Some(granted)) => self.answer(next, granted),
            Ok(None) => self.write_lost(next),
            Err(error) => {
                tracing::warn!(%error, limit = %self.key, code = "limit_unread", "a limit's row cannot be read or written; its calls wait");
                self.write_failed(next);
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }

    /// Those who asked learn what they have got; those in the line who got nothing wait on.
    fn answer(self: &Arc<Self>, next: Next<S>, granted: Granted) {
        let Next { asks, release_asks, block_asks, change, begun, .. } = next;
        if let Some((_, block)) = &change.block {
            self.state().leased(&granted, change.limit, block.until);
        }
        for released in release_asks {
            let _nobody_waits = released.send(());
        }
        drop(block_asks);
        let mut taken = asks.iter().zip(&granted.taken).filter(|(_, taken)| **taken).map(|(ask, _)| ask);
        let of_turns = taken.clone().any(Ask::is_in_turn);
        let of_line = taken.any(|ask| ask.in_line && !ask.is_in_turn());
        if of_turns || of_line {
            self.state().line_is_next = !of_line;
        }
        let mut in_line = Vec::new();
        for (ask, taken) in asks.into_iter().zip(granted.taken) {
            if !taken && ask.in_line {
                in_line.push(ask);
                continue;
            }
            match ask.reply {
                Reply::Kept(sender) => drop(sender.send(taken)),
                Reply::Replaces(sender) => drop(sender.send(())),
                Reply::Permit(wish, sender) => {
                    let book = Arc::clone(self);
                    let new = || Permit { book, wish, since: begun, under_way: false, of_block: false };
                    // Where nobody receives the permit, it is dropped and so released.
                    drop(sender.send(taken.then(new)));
                }
            }
        }
        self.back_in_line(in_line);
    }

    fn back_in_line(&self, asks: Vec<Ask<S>>) {
        let mut state = self.state();
        asks.into_iter().rev().for_each(|ask| state.line.push_front(ask));
    }

    /// Other workers were faster: nothing has changed.
    fn write_lost(&self, next: Next<S>) {
        let Next { asks, release_asks, block_asks, block_wish, change, .. } = next;
        let mut in_line = Vec::new();
        {
            let mut state = self.state();
            for ask in asks {
                let ask = Ask { lost: ask.lost.saturating_add(1), ..ask };
                let is_over = !ask.in_line && ask.lost >= MOST_LOST;
                match ask.reply {
                    Reply::Permit(_, sender) if is_over => drop(sender.send(None)),
                    Reply::Permit(..) if ask.in_line => in_line.push(ask),
                    Reply::Permit(..) | Reply::Kept(_) | Reply::Replaces(_) => state.again(ask),
                }
            }
            state.releases.extend(change.release);
            state.release_asks.extend(release_asks);
            state.held_ms.extend(change.held_ms);
            if let Some(wish) = block_wish {
                state.wish_block(wish);
            }
        }
        self.back_in_line(in_line);
        drop(block_asks);
    }

    /// The row may have changed, or not. What could not be released is released later, with what takes its place. The others learn that
    /// nothing is known, and a new entry, which may be stored, is released.
    fn write_failed(&self, next: Next<S>) {
        let Next { asks, release_asks, block_asks, change, .. } = next;
        let mut state = self.state();
        state.seen = None;
        for ask in asks {
            match ask.reply {
                Reply::Replaces(_) => state.again(ask),
                Reply::Permit(..) => state.releases.push(ask.take.name),
                Reply::Kept(_) => {}
            }
        }
        state.releases.extend(change.release);
        state.release_asks.extend(release_asks);
        drop(block_asks);
    }

    /// Nothing where other workers were faster, again and again. A refusal counts only by a row that was read or found now.
    async fn apply(&self, next: &Next<S>) -> Result<Option<Granted>, AwsError> {
        let rev = |row: &Option<Box<HolderRow>>| row.as_ref().map_or(0, |row| row.rev);
        let mut row = next.seen.clone().map(Box::new);
        let seen_rev = rev(&row);
        let (mut is_fresh, mut lost) = (next.reads_first, 0);
        if is_fresh {
            row = self.store.read().await?.map(Box::new);
        }
        let mut others_write = rev(&row) != seen_rev;
        let granted = loop {
            let (new, then) = match HolderTable::decide(row.as_deref(), &next.change) {
                Decision::Leave(refused) if is_fresh => break Some(refused),
                Decision::Leave(_) => {
                    (row, is_fresh) = (self.store.read().await?.map(Box::new), true);
                    continue;
                }
                Decision::Write { row, then } => (row, then),
            };
            let expected_rev = new.rev;
            match self.store(row.as_deref(), new, &next.change).await? {
                Stored::Row(stored) => {
                    others_write |= stored.rev != expected_rev;
                    row = Some(stored);
                    break Some(then);
                }
                Stored::Found(found) => (row, is_fresh, lost) = (found, true, lost + 1),
            }
            if lost >= ROUNDS {
                break None;
            }
        };
        let mut state = self.state();
        state.pace.written(next.begun, granted.is_none(), others_write || lost > 0);
        state.looked_at = Some(Instant::now());
        state.seen = row.map(|row| *row);
        Ok(granted)
    }

    /// Stores what was decided on a row: by an exchange of entries where it is one, else in the place of the row if that is unchanged.
    async fn store(
        &self,
        seen: Option<&HolderRow>,
        new: Box<HolderRow>,
        change: &Change,
    ) -> Result<Stored, AwsError> {
        if let Some(exchange) = seen.and_then(|seen| Exchange::between(seen, &new, change)) {
            return Ok(match self.store.exchange(&exchange).await? {
                Exchanged::Stored(row) => Stored::Row(row),
                Exchanged::Found(Some(row)) if exchange.is_done_in(&row) => Stored::Row(row),
                Exchanged::Found(row) => Stored::Found(row),
            });
        }
        Ok(match self.store.swap(seen, &new).await? {
            Swap::Stored => Stored::Row(new),
            // The reply to an earlier try of this very write was lost.
            Swap::Found(Some(row)) if row == new => Stored::Row(row),
            Swap::Found(row) => Stored::Found(row),
        })
    }

    fn next(&self) -> Step<S> {
        let mut state = self.state();
        state.line.retain(|ask| !ask.is_over());
        let (begun, now) = (Instant::now(), self.now());
        let gives_back_at = state.gives_back_at(begun);
        if state.asks.is_empty() && state.releases.is_empty() && state.block_wish.is_none() {
            let look_at = (!state.line.is_empty()).then(|| state.look_at().unwrap_or(begun));
            let Some(due) = look_at.into_iter().chain(gives_back_at).min() else {
                state.writing = false;
                return Step::End;
            };
            if due > begun {
                state.resting = state.line.is_empty();
                return Step::Pause(due);
            }
        }
        if let Some(due) = state.pace.due() {
            return Step::Pause(due);
        }
        let asks = state.next_asks();
        let take = asks.iter().map(|ask| ask.take_from(now)).collect();
        let block_asks = std::mem::take(&mut state.block_asks);
        let block_wish = state.block_wish.take();
        let limit = state.limit;
        let block = match block_wish {
            Some(wish) => Some(state.block.ask(limit, wish, block_asks.len())),
            None if gives_back_at.is_some_and(|at| at <= begun) => state.block.give_back(),
            None => None,
        };
        let block = block.map(|block| (self.worker.clone(), block));
        let held: Vec<u64> = std::mem::take(&mut state.held_ms);
        let held_ms = held.iter().sum::<u64>().checked_div(u64::try_from(held.len()).unwrap_or(u64::MAX));
        let release = std::mem::take(&mut state.releases);
        let release_asks = std::mem::take(&mut state.release_asks);
        let change =
            Change { now, limit, skew_ms: self.clock_check.skew_ms(), release, held_ms, take, block };
        // A release needs no fresh row.
        let reads_first = state.pace.reads_first() && change.release.is_empty();
        let seen = state.seen.clone();
        let next = Next { asks, release_asks, block_asks, block_wish, change, seen, reads_first, begun };
        Step::Write(Box::new(next))
    }
}

impl<S: PermitRows> BookState<S> {
    /// The calls that one write is for, in the order in which they are served. An entry that takes the place of a released one comes before
    /// all that wait for a free one. Of these, calls whose turn has come are before the line, which can wait, and the line is before those that have
    /// just asked.
    fn next_asks(&mut self) -> Vec<Ask<S>> {
        let (mut new, mut asks): (Vec<_>, Vec<_>) = self.asks.drain(..).partition(Ask::is_new);
        let line_is_next = self.line_is_next;
        let rank = |ask: &Ask<S>| match (ask.is_in_turn(), ask.in_line) {
            (false, true) if line_is_next => 0,
            (true, _) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        self.line.make_contiguous().sort_by_key(rank);
        let of_line = self.line.len().min(MOST_OF_LINE);
        let mut waiting: Vec<_> = self.line.drain(..of_line).collect();
        waiting.append(&mut new);
        waiting.sort_by_key(rank);
        asks.append(&mut waiting);
        asks
    }
}
