//! What only the holder of a claim may do. For anybody else the claim is lost.

use super::event::{Claim, Decision, Effect, Rejection};
use super::row::CallRow;
use super::transition::write;
use crate::progress::CallProgress;

/// The change, if `claim` still holds the row.
pub(super) fn held(
    seen: Option<&CallRow>,
    claim: &Claim,
    change: impl FnOnce(CallRow) -> (CallRow, Effect),
) -> Decision {
    match seen {
        Some(row) if claim.holds(row) => {
            let (row, then) = change(row.clone());
            write(row, then)
        }
        Some(_) | None => Decision::Leave(Rejection::Lost),
    }
}

/// The row with the server's latest reports, or with those it has.
pub(super) fn with_reports(row: CallRow, notes: Option<Box<CallProgress>>) -> CallRow {
    CallRow { notes: notes.or(row.notes), ..row }
}
