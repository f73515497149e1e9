//! The compare-and-swap loop over a state table: decide, store if the row is unchanged, else decide again on the row that was found.
//!
//! Calls, cancellations, sessions and MCP sessions all change by this loop. The state table decides, the store checks the condition.

use std::future::Future;
use std::time::Duration;

use toolfleet_core::state_table::{Decision, StateTable};

use crate::error::AwsError;

/// A row has few writers at a time, so losing more rounds than this is a defect.
const MAX_ROUNDS: u32 = 24;
/// So many rounds follow each other at once; before each later one is a pause, so that many writers of one row do not meet again and again.
const ROUNDS_AT_ONCE: u32 = 3;

/// The result of a conditional write.
#[derive(Debug)]
pub enum Swap<Row> {
    /// The new row is stored.
    Stored,
    /// Another row is stored, or none.
    Found(Option<Box<Row>>),
}

/// Stores the rows of one state table.
pub trait Store {
    /// The rules of its rows.
    type Table: StateTable;

    /// Stores `new` if `seen` is still stored: the same row, or none.
    fn swap(
        &self,
        seen: Option<&RowOf<Self>>,
        new: &RowOf<Self>,
    ) -> impl Future<Output = Result<Swap<RowOf<Self>>, AwsError>> + Send;
}

/// A store whose row can be read without a change.
pub trait Read: Store {
    /// The row, by a consistent read.
    fn read(&self) -> impl Future<Output = Result<Option<RowOf<Self>>, AwsError>> + Send;
}

/// The row of a store.
pub type RowOf<S> = <<S as Store>::Table as StateTable>::Row;

/// The event of a store's state table.
pub type EventOf<S> = <<S as Store>::Table as StateTable>::Event;

/// What an event led to.
#[derive(Debug)]
pub enum Applied<T: StateTable> {
    /// `row` is stored now, and means `then`.
    Stored {
        /// The row.
        row: Box<T::Row>,
        /// What that means.
        then: T::Effect,
    },
    /// Nothing was changed.
    Rejected {
        /// The row that is stored, if any.
        row: Option<Box<T::Row>>,
        /// Why.
        rejection: T::Rejection,
    },
}

/// Applies `event` to the stored row; `seen` is the row as the caller knows it, and may be out of date.
///
/// # Errors
/// The store failed, or other writers were faster in every round.
pub async fn apply<S: Store + Sync>(
    store: &S,
    seen: Option<&RowOf<S>>,
    event: &EventOf<S>,
) -> Result<Applied<S::Table>, AwsError> {
    let (applied, _lost) = apply_in_rounds(store, seen, event, MAX_ROUNDS).await?;
    applied.ok_or_else(|| AwsError::passing("the row changed in every round of compare-and-swap; try again"))
}

/// The same in at most so many rounds. Returns also how many rounds other writers won; nothing is applied if they won all.
///
/// # Errors
/// The store failed.
pub async fn apply_in_rounds<S: Store + Sync>(
    store: &S,
    seen: Option<&RowOf<S>>,
    event: &EventOf<S>,
    rounds: u32,
) -> Result<(Option<Applied<S::Table>>, u32), AwsError> {
    let mut found: Option<Option<Box<RowOf<S>>>> = None;
    for round in 0..rounds {
        if round >= ROUNDS_AT_ONCE {
            tokio::time::sleep(pause(round)).await;
        }
        let current = match &found {
            Some(found) => found.as_deref(),
            None => seen,
        };
        let (row, then) = match S::Table::decide(current, event) {
            Decision::Write { row, then } => (row, then),
            Decision::Leave(rejection) => {
                let row = found.unwrap_or_else(|| seen.cloned().map(Box::new));
                return Ok((Some(Applied::Rejected { row, rejection }), round));
            }
        };
        match store.swap(current, &row).await? {
            Swap::Stored => return Ok((Some(Applied::Stored { row, then }), round)),
            // The reply to an earlier try of this very write was lost: the row is ours.
            Swap::Found(Some(other)) if other == row => {
                return Ok((Some(Applied::Stored { row, then }), round));
            }
            Swap::Found(other) => found = Some(other),
        }
    }
    Ok((None, rounds))
}

/// A pause of random length, longer with each round, and 50 ms at most.
fn pause(round: u32) -> Duration {
    Duration::from_millis(fastrand::u64(0..=u64::from(round * 4).min(50)))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A counter with a limit, and a store in memory that other writers change first.
    #[derive(Debug)]
    struct Counter;

    impl StateTable for Counter {
        type Row = u32;
        type Event = u32;
        type Effect = ();
        type Rejection = &'static str;

        fn decide(seen: Option<&u32>, limit: &u32) -> Decision<u32, (), &'static str> {
            match seen.copied().unwrap_or(0) {
                count if count < *limit => Decision::Write { row: Box::new(count + 1), then: () },
                _ => Decision::Leave("full"),
            }
        }
    }

    #[derive(Default)]
    struct Memory {
        row: Mutex<Option<u32>>,
        rivals: Mutex<Vec<u32>>,
        lose_reply: Mutex<bool>,
    }

    impl Store for Memory {
        type Table = Counter;

        async fn swap(&self, seen: Option<&u32>, new: &u32) -> Result<Swap<u32>, AwsError> {
            let mut row = self.row.lock().unwrap();
            if let Some(rival) = self.rivals.lock().unwrap().pop() {
                *row = Some(rival);
            }
            if row.as_ref() == seen {
                *row = Some(*new);
                if !std::mem::take(&mut *self.lose_reply.lock().unwrap()) {
                    return Ok(Swap::Stored);
                }
            }
            Ok(Swap::Found(row.map(Box::new)))
        }
    }

    #[tokio::test]
    async fn whoever_loses_a_round_decides_on_the_row_that_was_found() {
        let store = Memory { rivals: Mutex::new(vec![5, 2]), ..Memory::default() };
        let applied = apply(&store, None, &9).await.unwrap();
        assert!(matches!(applied, Applied::Stored { row, then: () } if *row == 6));
        let rejected = apply(&store, None, &6).await.unwrap();
        assert!(matches!(rejected, Applied::Rejected { row: Some(row), rejection: "full" } if *row == 6));
        let rejected = apply(&store, Some(&6), &6).await.unwrap();
        assert!(matches!(rejected, Applied::Rejected { row: Some(row), .. } if *row == 6), "as seen");
    }

    #[tokio::test]
    async fn a_write_whose_reply_was_lost_counts_as_stored() {
        let store = Memory { lose_reply: Mutex::new(true), ..Memory::default() };
        assert!(matches!(apply(&store, None, &9).await.unwrap(), Applied::Stored { row, .. } if *row == 1));
    }

    #[tokio::test]
    async fn rounds_that_others_won_are_counted() {
        let store = Memory { rivals: Mutex::new(vec![8, 5, 2]), ..Memory::default() };
        let (applied, lost) = apply_in_rounds(&store, None, &9, 2).await.unwrap();
        assert!(applied.is_none() && lost == 2, "nothing is stored: {applied:?}");
        assert_eq!(*store.row.lock().unwrap(), Some(5));
        let (applied, lost) = apply_in_rounds(&store, Some(&5), &9, 2).await.unwrap();
        assert!(matches!(applied, Some(Applied::Stored { row, .. }) if *row == 9) && lost == 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_changes_in_every_round_is_a_passing_error() {
        let store =
            Memory { rivals: Mutex::new((1..=40).rev().map(|n| n * 2).collect()), ..Memory::default() };
        let error = apply(&store, None, &99).await.unwrap_err();
        assert!(!error.is_permanent(), "{error}");
        assert_eq!(*store.row.lock().unwrap(), Some(48));
    }
}
