//! A caller's cancellation. A call that no worker holds ends by it at once; that of a claimed call is stored, and the next heartbeat sees it.
//!
//! The message of a call that ended so is still in its queue: whoever receives it writes the audit record and the notice, and cancels a task
//! that is still open.

use super::event::{Decision, Effect, Rejection};
use super::row::{CallRow, State};
use super::transition::{cancelled, empty_row, ended, write};
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
        Some(row) => {
            // What a cancellation alone is known of has no question yet: its message ends it.
            let ends_now = match row.state {
                State::Pending => row.digest.is_some(),
                State::Released | State::WaitingTask | State::AwaitingApproval => true,
                State::Claimed | State::Done => false,
            };
            if row.cancel_requested_at.is_some() && !ends_now {
                return Decision::Leave(Rejection::Nothing);
            }
            let row = CallRow { cancel_requested_at: row.cancel_requested_at.or(Some(now)), ..row.clone() };
            match ends_now {
                true => write(ended(row.clone(), cancelled(&row), now), Effect::Ended),
                false => write(row, Effect::Noted),
            }
        }
    }
}
