//! The end of a call that is not executed: a refusal, a passed deadline, a dead letter.

use super::event::{Decision, DeliveryContext, Effect, Rejection};
use super::row::{CallRow, State};
use super::transition::{adopt, cancelled, differs, ended, lost_attempt, new_row, remaining_ms, write};
use crate::definition::ShortDefinitionDigest;
use crate::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};

pub(super) fn conclude(
    seen: Option<&CallRow>,
    delivery: &DeliveryContext,
    outcome: &Outcome,
    definition: Option<&ShortDefinitionDigest>,
) -> Decision {
    let Some(row) = seen else {
        let row = CallRow {
            nonce: Some(delivery.nonce.clone()),
            worker: Some(delivery.worker.clone()),
            definition: definition.cloned(),
            ..new_row(delivery)
        };
        let outcome = after_possible_execution(outcome, &row);
        return write(ended(row, outcome, delivery.now), Effect::Ended);
    };
    if differs(row, delivery) {
        return Decision::Leave(Rejection::Mismatch);
    }
    if row.caller.as_ref().is_some_and(|caller| caller.may_not_be_ended_by(&delivery.caller)) {
        return Decision::Leave(Rejection::OfAnother);
    }
    // A newer call replaces one that was not started, and no other.
    let superseded = outcome.error.as_ref().is_some_and(|why| why.code == Code::Superseded);
    if superseded && row.state != State::Done && row.started_at.is_some() {
        return Decision::Leave(Rejection::Nothing);
    }
    let row = match row.state {
        State::Done => return Decision::Leave(Rejection::AlreadyRecorded),
        State::Claimed => match remaining_ms(row, delivery) {
            Some(retry_after_ms) => return Decision::Leave(Rejection::HeldElsewhere { retry_after_ms }),
            None => lost_attempt(row),
        },
        State::Pending | State::Released | State::WaitingTask | State::AwaitingApproval => {
            adopt(row, delivery)
        }
    };
    // The definition that the call was sent with counts, not today's.
    let row = CallRow { definition: row.definition.clone().or_else(|| definition.cloned()), ..row };
    let outcome = if row.cancel_requested_at.is_some() {
        cancelled(&row)
    } else {
        after_possible_execution(outcome, &row)
    };
    let outcome = match &row.held {
        Some(held) => held.with_reason_of_wait(outcome),
        None => outcome,
    };
    write(ended(row, outcome, delivery.now), Effect::Ended)
}

/// The outcome for a call that may have reached its tool earlier. What is refused and was not sent stays refused, also where another
/// delivery may have executed it without a claim: such a call is safe to repeat.
fn after_possible_execution(outcome: &Outcome, row: &CallRow) -> Outcome {
    let given_up = outcome.error.as_ref().is_some_and(|why| why.code == Code::DeadLettered);
    let is_unknown = row.was_sent() || (given_up && row.may_have_executed);
    if !is_unknown {
        return outcome.clone();
    }
    let kind = match outcome.kind {
        OutcomeKind::Failed if given_up => OutcomeKind::OutcomeUnknown,
        OutcomeKind::Expired => OutcomeKind::TimedOut,
        OutcomeKind::Refused => OutcomeKind::OutcomeUnknown,
        OutcomeKind::Failed
        | OutcomeKind::TimedOut
        | OutcomeKind::Cancelled
        | OutcomeKind::OutcomeUnknown
        | OutcomeKind::Succeeded
        | OutcomeKind::ToolError
        | OutcomeKind::InputRequired => outcome.kind,
    };
    let error = outcome.error.clone().filter(|_| row.was_sent()).map(|why| CallError {
        may_have_run: MayHaveRun::Unknown,
        message: if outcome.kind == OutcomeKind::Expired {
            "The deadline passed after the call had been sent and before its end was known; whether the tool had an effect \
             is not known. Check before you send it again."
                .to_owned()
        } else {
            format!("{} The call had been sent before; whether the tool had an effect then is not known.", why.message)
        },
        ..why
    });
    Outcome { kind, error: error.or_else(|| outcome.error.clone()), ..outcome.clone() }
}
