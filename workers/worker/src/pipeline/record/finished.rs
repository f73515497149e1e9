//! Completes the record of a call that has ended: the audit record, the notice to send, the task that is still open.

use toolfleet_aws::AwsError;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::CallRow;
use toolfleet_core::execution::never_denied;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::request::CallRequest;

use super::message_alone::{answer_message, audit_message};
use super::notices::notice_of;
use super::recorded::{OpenTask, Recorded, ResultStored, Uncounted};
use crate::context::WorkerContext;
use crate::pipeline::audit;
use crate::pipeline::ended_member::EndedMember;
use crate::pipeline::inbound::InboundCall;
use crate::pipeline::steps::Step;
use crate::telemetry::trace;

/// The end of a call was stored by this worker.
pub(in crate::pipeline) async fn stored(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: &CallRequest,
    row: &CallRow,
) {
    context.activity.ended(inbound.catalog(), &request.target, (row, request.cache), context.now());
    if let Some(finished) = &row.finished {
        let outcome = &finished.outcome;
        context.meters.ended(outcome.kind, outcome.error.as_ref().map(|why| why.code));
        trace::outcome(inbound.span(), outcome);
    }
    context.steps.passed(Step::ResultStored).await;
}

/// Completes the record of a call that has ended before this delivery. One whose end its caller has stored, by a cancellation, is counted by
/// the worker that inserts its record: no worker has counted it before.
pub(in crate::pipeline) async fn record_ended_before(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    row: CallRow,
) -> Result<ResultStored, AwsError> {
    let uncounted = ended_by_caller(&row).then(|| Uncounted::new(&request, row.clone()));
    record_of(context, inbound, request, row, uncounted).await
}

/// Whether the cancellation itself has ended the call: a worker that ends it does so after the cancellation.
fn ended_by_caller(row: &CallRow) -> bool {
    row.finished.as_ref().is_some_and(|finished| {
        let code = finished.outcome.error.as_ref().map(|why| why.code);
        code == Some(Code::CancelledByCaller) && row.cancel_requested_at == Some(finished.at)
    })
}

/// Completes the record of a call that has ended: builds its audit record, which is inserted unless it exists. The record names the first
/// caller; another message with the same question has a record of its own, which is inserted after it.
pub(in crate::pipeline) async fn record_finished(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    row: CallRow,
) -> Result<ResultStored, AwsError> {
    record_of(context, inbound, request, row, None).await
}

async fn record_of(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    row: CallRow,
    uncounted: Option<Uncounted>,
) -> Result<ResultStored, AwsError> {
    let Some(finished) = &row.finished else {
        return Err(AwsError::passing("the call's row has ended without an outcome"));
    };
    let own = inbound.caller(&request);
    let caller = row.caller.as_deref().unwrap_or(&own);
    let record = audit::of_call(&row, finished, inbound, caller, &request);
    let came_again = caller.came_again(&own);
    if came_again {
        let is_new = Box::pin(context.history.insert(&record, row.expires_at)).await?;
        if let Some(uncounted) = uncounted.as_ref().filter(|_| is_new) {
            uncounted.count(context, inbound);
        }
        let outcome = Outcome { payload: None, ..finished.outcome.clone() };
        Box::pin(audit_message(context, inbound, AuditKind::Duplicate, &request, &outcome)).await?;
    }
    // The task belongs to the first caller's conversation.
    let session = caller.session.clone();
    let open_task = row.task.clone().map(|handle| OpenTask {
        call: row.key.clone(),
        target: request.target.clone(),
        session,
        handle,
    });
    let code = finished.outcome.error.as_ref().map(|t| t.code);
    let member = EndedMember::of(context, inbound, &request, finished.outcome.kind, code);
    let notice = notice_of(inbound, request, finished.outcome.kind, code, finished.at);
    let recorded = Recorded::new(notice, open_task).of_member(member);
    if came_again {
        return Ok(recorded.into());
    }
    Ok(ResultStored::new(record, row.expires_at, recorded).counting(uncounted))
}

/// A known id came with another question: the original stays untouched, the event is audited. `first` is the row of the original.
pub(in crate::pipeline) async fn mismatch(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    first: Option<&CallRow>,
) -> Result<Recorded, AwsError> {
    let text = "The id was used before for another question; the first call stands. Send this one under an id of its own.";
    let outcome = of_message(inbound, &request, Outcome::refused(Code::IdempotencyMismatch, text));
    audit_message(context, inbound, AuditKind::IdempotencyMismatch, &request, &outcome).await?;
    let member = first.and_then(|first| EndedMember::beside(context, inbound, &request, first));
    Ok(of_message_alone(context, inbound, request, &outcome).await?.of_member(member))
}

/// The same for a question that was executed without a claim: its id was compared only after it had been sent.
pub(in crate::pipeline) async fn mismatch_after_execution(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
) -> Result<Recorded, AwsError> {
    let text = "The id was used before for another question; the first call stands. This one was sent to its tool before that was found, \
                and its result is not kept. Send it under an id of its own.";
    let why = CallError::new(Code::IdempotencyMismatch, text, MayHaveRun::Unknown);
    let outcome = Outcome::ended(OutcomeKind::OutcomeUnknown, why);
    audit_message(context, inbound, AuditKind::IdempotencyMismatch, &request, &outcome).await?;
    of_message_alone(context, inbound, request, &outcome).await
}

/// Another caller sent the same question under a known id, and may not read its result: only its message ends, and the answer
/// says nothing about the call.
pub(in crate::pipeline) async fn second(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    first: Option<&CallRow>,
    outcome: Outcome,
) -> Result<Recorded, AwsError> {
    let outcome = of_message(inbound, &request, outcome);
    audit_message(context, inbound, AuditKind::Duplicate, &request, &outcome).await?;
    let member = first.and_then(|first| EndedMember::beside(context, inbound, &request, first));
    Ok(of_message_alone(context, inbound, request, &outcome).await?.of_member(member))
}

/// The outcome of a message that ends without its call: another delivery of it may have executed it without a claim.
fn of_message(inbound: &InboundCall, request: &CallRequest, outcome: Outcome) -> Outcome {
    if inbound.catalog().may_be_claimless(request) { never_denied(outcome) } else { outcome }
}

/// The answer to a message that ended without its call.
pub(in crate::pipeline) async fn of_message_alone(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    outcome: &Outcome,
) -> Result<Recorded, AwsError> {
    answer_message(context, inbound, request.digest.clone(), outcome).await?;
    let code = outcome.error.as_ref().map(|why| why.code);
    let notice = notice_of(inbound, request, outcome.kind, code, inbound.sent_at());
    Ok(Recorded::new(notice, None))
}
