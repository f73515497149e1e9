//! A caller's cancellation: it is stored, and the next event of the call acts on it.

use super::event::{Decision, Effect, Rejection};
use super::row::{CallRow, State};
use super::transition::{empty_row, write};
use crate::ids::CallKey;
use crate::time::Timestamp;

pub(super) fn cancel(
    seen: Option<&CallRow>,
    key: &CallKey,
    now: Timestamp,
    expires_at: Timestamp,
) -> Decision {
    match seen {
        // The cancellation may arrive before the message; a row of its own keeps it.
        None => {
            let row = CallRow { cancel_requested_at: Some(now), ..empty_row(key.clone(), now, expires_at) };
            write(row, Effect::Noted)
        }
        Some(row) if row.state == State::Done => Decision::Leave(Rejection::AlreadyRecorded),
        Some(row) if row.cancel_requested_at.is_some() => Decision::Leave(Rejection::Nothing),
        Some(row) => write(CallRow { cancel_requested_at: Some(now), ..row.clone() }, Effect::Noted),
    }
}
