//! The tables: conditional writes of rows, inserted records, and the compare-and-swap loop of `toolfleet_aws::apply`.

use toolfleet_core::call::{CallRow, Decision, Effect, Event, Rejection, decide};
use toolfleet_core::ids::Nonce;

use super::planted::Planted;
use super::truth;
use super::world::{AwsFailed, Record, World};

/// Rounds of compare-and-swap, as in `toolfleet_aws`.
const MAX_ROUNDS: u32 = 16;

/// What an event led to.
pub(crate) enum Applied {
    Stored { row: Box<CallRow>, then: Effect },
    Rejected { row: Option<Box<CallRow>>, rejection: Rejection },
}

enum Swap {
    Stored,
    Found(Option<Box<CallRow>>),
}

impl World {
    /// Stores `new` if `seen` is still stored.
    fn swap(&self, by: Option<&Nonce>, call: usize, seen: Option<&CallRow>, new: &CallRow) -> Swap {
        let stored = self.rows.borrow().get(&call).cloned();
        let unchanged = stored.as_ref().map(|row| row.rev) == seen.map(|row| row.rev);
        if !unchanged && !self.is_planted(Planted::UnconditionalWrite) {
            return Swap::Found(stored.map(Box::new));
        }
        self.overwrite(by, call, new);
        Swap::Stored
    }

    /// Stores a row whatever is stored.
    pub(crate) fn overwrite(&self, by: Option<&Nonce>, call: usize, new: &CallRow) {
        let before = self.rows.borrow_mut().insert(call, new.clone());
        truth::row_stored(self, by, call, before.as_ref(), new);
    }

    /// Applies the event that the delivery `by` brings, or a caller, to the stored row. `seen` is the row as the caller knows it.
    pub(crate) async fn apply(
        &self,
        by: Option<&Nonce>,
        call: usize,
        seen: Option<&CallRow>,
        event: &Event,
    ) -> Result<Applied, AwsFailed> {
        let mut found: Option<Option<Box<CallRow>>> = None;
        for _ in 0..MAX_ROUNDS {
            let current = found.as_ref().map_or(seen, |found| found.as_deref());
            let (row, then) = match decide(current, event) {
                Decision::Write { row, then } => (row, then),
                Decision::Leave(rejection) => {
                    let row = found.unwrap_or_else(|| seen.cloned().map(Box::new));
                    return Ok(Applied::Rejected { row, rejection });
                }
            };
            match self.aws(|| self.swap(by, call, current, &row)).await? {
                Swap::Stored => return Ok(Applied::Stored { row, then }),
                // The reply to an earlier try of this very write was lost: the row is ours.
                Swap::Found(Some(other)) if other == row => return Ok(Applied::Stored { row, then }),
                Swap::Found(other) => found = Some(other),
            }
        }
        Err(AwsFailed)
    }

    /// Inserts an audit record, unless it exists.
    pub(crate) async fn insert(&self, call: usize, record: Record) -> Result<(), AwsFailed> {
        self.aws(|| {
            self.note(Some(call), || format!("history: {record:?}"));
            self.history.borrow_mut().insert(record);
        })
        .await
    }
}
