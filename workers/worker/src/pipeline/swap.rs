//! Owns the loop between the state table and the store: decide, try to store, and if someone was faster decide again.
//!
//! **Invariant:** the store executes conditions and the table decides; this loop does neither.

use toolfleet_aws::AwsError;
use toolfleet_aws::calls::{Calls, Swap};
use toolfleet_core::call::{CallRow, Decision, Effect, Event, Rejection, decide};

/// Other writers of one row are few (a worker, a late worker, a caller who cancels), so losing more often is a defect.
const MOST_ROUNDS: u32 = 16;

/// What became of an event.
pub(super) enum Applied {
    /// The row stands as `row`, and means `then`.
    Stored { row: Box<CallRow>, then: Effect },
    /// Nothing was stored; `row` is what stands.
    Rejected { row: Option<Box<CallRow>>, rejection: Rejection },
}

/// Brings `event` to the row, of which `seen` is what the caller knows.
pub(super) async fn apply(calls: &Calls, seen: Option<&CallRow>, event: &Event) -> Result<Applied, AwsError> {
    let mut seen = seen.cloned().map(Box::new);
    for _ in 0..MOST_ROUNDS {
        let (row, then) = match decide(seen.as_deref(), event) {
            Decision::Leave(rejection) => return Ok(Applied::Rejected { row: seen, rejection }),
            Decision::Write { row, then } => (row, then),
        };
        match calls.swap(seen.as_deref(), &row).await? {
            Swap::Stored => return Ok(Applied::Stored { row, then }),
            // The answer to an earlier send of this very write was lost: the row is ours.
            Swap::Found(Some(found)) if found == row => return Ok(Applied::Stored { row, then }),
            Swap::Found(found) => seen = found,
        }
    }
    Err(AwsError::passing("the call's row changed under every attempt to write it"))
}
