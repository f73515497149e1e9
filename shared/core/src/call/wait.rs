//! Calls that wait before they are claimed: for a server, a credential, a share of the worker, or a person.

use super::event::{Decision, DeliveryContext, Effect, Rejection};
use super::held::Held;
use super::row::{CallRow, State};
use super::transition::{
    adopt, cancelled, differs, ended, held_by_another, lost_attempt, new_row, remaining_ms, waiting, write,
};

/// Writes down why a call waits before its claim. What the wait finds is left to the claim to judge: whether a call is safe to repeat
/// may not be known yet.
pub(super) fn hold(seen: Option<&CallRow>, delivery: &DeliveryContext, why: &Held) -> Decision {
    let wait = |row: CallRow| write(waiting(row, Some(Box::new(why.clone()))), Effect::Waits);
    let Some(row) = seen else {
        return wait(new_row(delivery));
    };
    if differs(row, delivery) {
        return Decision::Leave(Rejection::Mismatch);
    }
    if let Some(rejection) = held_by_another(row, delivery, why.next_try_at.ms_since(delivery.now)) {
        return Decision::Leave(rejection);
    }
    let row = match row.state {
        State::Done => return Decision::Leave(Rejection::AlreadyRecorded),
        State::Claimed => match remaining_ms(row, delivery) {
            Some(retry_after_ms) => return Decision::Leave(Rejection::HeldElsewhere { retry_after_ms }),
            None => lost_attempt(row),
        },
        State::AwaitingApproval if row.cancel_requested_at.is_none() => {
            return Decision::Leave(Rejection::AwaitingApproval);
        }
        State::Pending | State::Released | State::WaitingTask | State::AwaitingApproval => {
            adopt(row, delivery)
        }
    };
    if row.cancel_requested_at.is_some() {
        return write(ended(row.clone(), cancelled(&row), delivery.now), Effect::Ended);
    }
    wait(row)
}

pub(super) fn await_approval(seen: Option<&CallRow>, delivery: &DeliveryContext) -> Decision {
    let wait = |row: CallRow| write(CallRow { state: State::AwaitingApproval, ..row }, Effect::Waits);
    match seen {
        None => wait(new_row(delivery)),
        Some(row) if differs(row, delivery) => Decision::Leave(Rejection::Mismatch),
        Some(row) => match row.state {
            State::Done => Decision::Leave(Rejection::AlreadyRecorded),
            State::AwaitingApproval => Decision::Leave(Rejection::AwaitingApproval),
            State::Claimed => {
                let retry_after_ms = remaining_ms(row, delivery).unwrap_or(0);
                Decision::Leave(Rejection::HeldElsewhere { retry_after_ms })
            }
            State::Pending | State::Released | State::WaitingTask => Decision::Leave(Rejection::Nothing),
        },
    }
}
