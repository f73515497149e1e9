//! The first write of a call that a delivery executed without a claim: its end, or the task that its server works on.
//!
//! Such a call has no row while it runs, and may be executed again by another delivery. So only a row that no delivery has claimed may be
//! written here, and whoever comes second stores nothing.

use super::event::{Decision, DeliveryContext, Effect, Rejection, Unclaimed};
use super::row::{CallRow, State};
use super::transition::{adopt, cancelled, differs, ended, held_by_another, new_row, write};
use crate::outcome::Outcome;
use crate::time::Timestamp;

/// The row that a call which is executed without a claim does not have yet: what its execution needs to know of it.
pub fn unclaimed_row(delivery: &DeliveryContext) -> CallRow {
    CallRow { started_at: Some(delivery.now), ..new_row(delivery) }
}

/// The execution has the outcome. A cancellation that came meanwhile was too late.
pub(super) fn finish_unclaimed(seen: Option<&CallRow>, execution: &Unclaimed, outcome: &Outcome) -> Decision {
    match open_row(seen, execution) {
        Ok(row) => write(ended(row, outcome.clone(), execution.delivery.now), Effect::Ended),
        Err(rejection) => Decision::Leave(rejection),
    }
}

/// The server has made the call a task.
pub(super) fn park_unclaimed(seen: Option<&CallRow>, execution: &Unclaimed, poll_at: Timestamp) -> Decision {
    let row = match open_row(seen, execution) {
        Ok(row) => CallRow { may_have_executed: true, ..row },
        Err(rejection) => return Decision::Leave(rejection),
    };
    if row.cancel_requested_at.is_some() {
        return write(ended(row.clone(), cancelled(&row), execution.delivery.now), Effect::Ended);
    }
    // A task is polled by a later claim than the one that sent the call.
    let (state, fence, poll_at) = (State::WaitingTask, row.fence.max(1), Some(poll_at));
    write(CallRow { state, fence, poll_at, lease_until: None, ..row }, Effect::Waits)
}

/// The row with what the execution knows, if no other delivery has claimed or ended it.
fn open_row(seen: Option<&CallRow>, execution: &Unclaimed) -> Result<CallRow, Rejection> {
    let delivery = &execution.delivery;
    let row = match seen {
        None => new_row(delivery),
        Some(row) => unclaimed(row, delivery, execution.task.as_ref())?,
    };
    Ok(CallRow {
        nonce: Some(delivery.nonce.clone()),
        worker: Some(delivery.worker.clone()),
        attempts: execution.attempts,
        started_at: Some(execution.started_at),
        definition: execution.definition.clone(),
        notes: execution.notes.clone(),
        task: execution.task.clone(),
        held: None,
        ..row
    })
}

fn unclaimed(row: &CallRow, delivery: &DeliveryContext, task: Option<&String>) -> Result<CallRow, Rejection> {
    let is_own = row.nonce.as_ref() == Some(&delivery.nonce);
    if differs(row, delivery) {
        return Err(Rejection::Mismatch);
    }
    if let Some(rejection) = held_by_another(row, delivery, 0) {
        return Err(rejection);
    }
    match row.state {
        State::Done => Err(Rejection::AlreadyRecorded),
        State::Pending if row.fence == 0 => Ok(adopt(row, delivery)),
        // The late claim of this very delivery, whose answer it has not seen.
        State::Claimed if is_own => Ok(row.clone()),
        // This very write, whose answer it has not seen.
        State::WaitingTask if is_own && task.is_some() && row.task.as_ref() == task => Ok(row.clone()),
        State::Pending | State::Claimed | State::Released | State::WaitingTask | State::AwaitingApproval => {
            Err(Rejection::Lost)
        }
    }
}
