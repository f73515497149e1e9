//! The changes of a row that several events share, and the comparisons of a row with a delivery.

use super::event::{Decision, DeliveryContext, Effect, Rejection};
use super::held::Held;
use super::row::{CallRow, Finished, State};
use crate::digest::Digest;
use crate::execution::never_denied;
use crate::ids::CallKey;
use crate::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use crate::time::Timestamp;

pub(super) fn write(row: CallRow, then: Effect) -> Decision {
    Decision::Write { row: Box::new(CallRow { rev: row.rev + 1, ..row }), then }
}

pub(super) fn ended(row: CallRow, outcome: Outcome, at: Timestamp) -> CallRow {
    // An end without a holder has a fence of its own, so that a late holder cannot match it.
    let fence = if row.state == State::Claimed { row.fence } else { row.fence + 1 };
    // A task that was certainly not answered waits for another call, and is not cancelled.
    let task = row.task.filter(|_| !row.input_pending || row.may_have_executed);
    let outcome = if row.may_have_executed { never_denied(outcome) } else { outcome };
    let finished = Some(Finished { outcome, at });
    let over = CallRow { state: State::Done, fence, task, finished, ..row };
    CallRow { lease_until: None, input_pending: false, poll_at: None, held: None, ..over }
}

/// The row with what it waits for now; a wait that continues keeps its beginning.
pub(super) fn waiting(row: CallRow, why: Option<Box<Held>>) -> CallRow {
    let held = why.map(|why| Box::new(why.after(row.held.as_deref())));
    CallRow { held, ..row }
}

pub(super) fn empty_row(key: CallKey, enqueued_at: Timestamp, expires_at: Timestamp) -> CallRow {
    CallRow {
        key,
        state: State::Pending,
        rev: 0,
        fence: 0,
        nonce: None,
        worker: None,
        lease_until: None,
        attempts: 0,
        may_have_executed: false,
        digest: None,
        caller: None,
        enqueued_at,
        deadline: None,
        started_at: None,
        cancel_requested_at: None,
        task: None,
        input_pending: false,
        poll_at: None,
        held: None,
        definition: None,
        notes: None,
        finished: None,
        expires_at: expires_at.whole_s(),
    }
}

pub(super) fn new_row(delivery: &DeliveryContext) -> CallRow {
    CallRow {
        digest: Some(delivery.digest.clone()),
        caller: Some(delivery.caller.clone()),
        deadline: delivery.deadline,
        may_have_executed: delivery.may_be_claimless,
        ..empty_row(delivery.key.clone(), delivery.enqueued_at, delivery.expires_at)
    }
}

/// A row that a cancellation made before the message came gets question, caller and time from the message.
pub(super) fn adopt(row: &CallRow, delivery: &DeliveryContext) -> CallRow {
    let mut row = row.clone();
    if row.digest.is_none() {
        row.digest = Some(delivery.digest.clone());
        row.caller = Some(delivery.caller.clone());
        row.enqueued_at = delivery.enqueued_at;
    }
    row.may_have_executed |= delivery.may_be_claimless;
    row.deadline = row.deadline.or(delivery.deadline);
    row.expires_at = row.expires_at.max(delivery.expires_at.whole_s());
    row
}

/// The row after its holder's lease expired, with one more attempt. A lost poll of a task is no attempt.
pub(super) fn lost_attempt(row: &CallRow) -> CallRow {
    CallRow {
        state: State::Released,
        attempts: row.attempts + u32::from(row.task.is_none()),
        may_have_executed: true,
        lease_until: None,
        ..row.clone()
    }
}

pub(super) fn differs(row: &CallRow, delivery: &DeliveryContext) -> bool {
    // Workers of earlier versions wrote no caller; only their rows hold the digest that they knew.
    let earlier = delivery.earlier_digest.as_ref().filter(|_| row.caller.is_none());
    let same = |digest: &Digest| *digest == delivery.digest || earlier == Some(digest);
    row.digest.as_ref().is_some_and(|digest| !same(digest))
}

/// Another caller's call that has not ended: this delivery waits for its end.
pub(super) fn held_by_another(
    row: &CallRow,
    delivery: &DeliveryContext,
    otherwise_ms: u64,
) -> Option<Rejection> {
    let held = row.state != State::Done && is_of_another(row, delivery);
    held.then(|| Rejection::HeldElsewhere {
        retry_after_ms: remaining_ms(row, delivery).unwrap_or(otherwise_ms),
    })
}

fn is_of_another(row: &CallRow, delivery: &DeliveryContext) -> bool {
    row.caller.as_ref().is_some_and(|caller| caller.is_another(&delivery.caller))
}

/// How long a claim still holds, the allowance for clock skew included; `None` once it may be taken over.
pub(super) fn remaining_ms(row: &CallRow, delivery: &DeliveryContext) -> Option<u64> {
    let until = row.lease_until?.plus_ms(delivery.skew_ms);
    (delivery.now <= until).then(|| until.ms_since(delivery.now).max(1))
}

pub(super) fn cancelled(row: &CallRow) -> Outcome {
    let (ran, sentence) = if row.was_sent() {
        (
            MayHaveRun::Unknown,
            "The caller cancelled this call after it had been sent; whether the tool ran is not known.",
        )
    } else {
        (MayHaveRun::No, "The caller cancelled this call before it was sent to the tool.")
    };
    Outcome::ended(OutcomeKind::Cancelled, CallError::new(Code::CancelledByCaller, sentence, ran))
}

/// The end of a call that nobody is known to have sent, and that another delivery may have executed without a claim.
pub(super) fn perhaps_executed() -> Outcome {
    let sentence = "Another delivery of this call may have executed it, and its tool is not safe to repeat (any more). Check its effect before \
                    you send the call again under a new id.";
    Outcome::ended(
        OutcomeKind::OutcomeUnknown,
        CallError::new(Code::WorkerLost, sentence, MayHaveRun::Unknown),
    )
}

pub(super) fn worker_lost() -> Outcome {
    let sentence = "The worker that ran this call stopped without a word after the call may have reached the tool. \
                    The tool is not safe to repeat, so check its effect before you send the call again under a new id.";
    Outcome::ended(
        OutcomeKind::OutcomeUnknown,
        CallError::new(Code::WorkerLost, sentence, MayHaveRun::Unknown),
    )
}
