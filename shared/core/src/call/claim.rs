//! What a claim finds: the right to execute the call, or why not.

use super::event::{Claim, Decision, DeliveryContext, Effect, Rejection};
use super::row::{CallRow, State};
use super::transition::{
    adopt, cancelled, differs, ended, held_by_another, lost_attempt, new_row, perhaps_executed, remaining_ms,
    worker_lost, write,
};
use crate::definition::ShortDefinitionDigest;

pub(super) fn claim(
    seen: Option<&CallRow>,
    delivery: &DeliveryContext,
    lease_ms: u64,
    definition: Option<&ShortDefinitionDigest>,
    answers: Option<&String>,
) -> Decision {
    let Some(row) = seen else {
        let row = with_task_to_answer(new_row(delivery), definition, answers);
        return proceed(row, delivery, lease_ms, definition);
    };
    if differs(row, delivery) {
        return Decision::Leave(Rejection::Mismatch);
    }
    if let Some(rejection) = held_by_another(row, delivery, lease_ms) {
        return Decision::Leave(rejection);
    }
    match row.state {
        State::Done => Decision::Leave(Rejection::AlreadyRecorded),
        State::AwaitingApproval if row.cancel_requested_at.is_none() => {
            Decision::Leave(Rejection::AwaitingApproval)
        }
        // Our own claim, whose answer was lost, and a cancellation that came between: nothing was sent.
        State::Claimed
            if row.nonce.as_ref() == Some(&delivery.nonce) && row.cancel_requested_at.is_some() =>
        {
            write(ended(row.clone(), cancelled(row), delivery.now), Effect::Ended)
        }
        // The same without a cancellation: this delivery claims it late, and has not seen the answer to an earlier try.
        State::Claimed if row.nonce.as_ref() == Some(&delivery.nonce) => {
            proceed(row.clone(), delivery, lease_ms, definition)
        }
        State::Claimed => match remaining_ms(row, delivery) {
            Some(retry_after_ms) => Decision::Leave(Rejection::HeldElsewhere { retry_after_ms }),
            None => proceed(lost_attempt(row), delivery, lease_ms, definition),
        },
        State::WaitingTask if row.cancel_requested_at.is_none() && too_early_ms(row, delivery) > 0 => {
            Decision::Leave(Rejection::HeldElsewhere { retry_after_ms: too_early_ms(row, delivery) })
        }
        State::Pending | State::Released | State::WaitingTask | State::AwaitingApproval => {
            let row = with_task_to_answer(adopt(row, delivery), definition, answers);
            proceed(row, delivery, lease_ms, definition)
        }
    }
}

/// The row of a call that brings answers to a task: it has the task's handle from the start.
fn with_task_to_answer(
    row: CallRow,
    definition: Option<&ShortDefinitionDigest>,
    answers: Option<&String>,
) -> CallRow {
    match answers {
        Some(task) if row.task.is_none() => {
            CallRow { task: Some(task.clone()), input_pending: true, definition: definition.cloned(), ..row }
        }
        Some(_) | None => row,
    }
}

/// How much too early a poll of the task comes, allowing for clock skew: it is a duplicate message's.
fn too_early_ms(row: &CallRow, delivery: &DeliveryContext) -> u64 {
    row.poll_at.map_or(0, |at| at.ms_since(delivery.now.plus_ms(delivery.skew_ms)))
}

/// Grants the claim of a row that no worker holds, unless the call was cancelled or may not be sent again.
/// Polling a task is always safe: the handle is sent, not the call.
fn proceed(
    row: CallRow,
    delivery: &DeliveryContext,
    lease_ms: u64,
    definition: Option<&ShortDefinitionDigest>,
) -> Decision {
    if row.cancel_requested_at.is_some() {
        return write(ended(row.clone(), cancelled(&row), delivery.now), Effect::Ended);
    }
    if row.may_have_executed && row.task.is_none() && !delivery.repeatable {
        let outcome = if row.was_sent() { worker_lost() } else { perhaps_executed() };
        return write(ended(row, outcome, delivery.now), Effect::Ended);
    }
    grant(row, delivery, lease_ms, definition)
}

fn grant(
    row: CallRow,
    delivery: &DeliveryContext,
    lease_ms: u64,
    definition: Option<&ShortDefinitionDigest>,
) -> Decision {
    let definition = match row.task {
        // A poll is no execution: the row keeps the definition that the call was sent with.
        Some(_) => row.definition.clone(),
        None => definition.cloned(),
    };
    let row = CallRow {
        state: State::Claimed,
        fence: row.fence + 1,
        nonce: Some(delivery.nonce.clone()),
        worker: Some(delivery.worker.clone()),
        lease_until: Some(delivery.now.plus_ms(lease_ms)),
        poll_at: None,
        started_at: row.started_at.or(Some(delivery.now)),
        definition,
        ..row
    };
    let claim = Claim::of(&row, delivery.nonce.clone());
    write(row, Effect::Execute(claim))
}
