//! Owns the sixth step: the result into the call's row, then the audit record, and the proof that both stand.
//!
//! Result first, audit second, message last: whoever meets the row in between writes the missing record, which is built
//! from the row and the request alone and is the same whoever builds it.
//!
//! **Invariant:** [`Recorded`] is made here alone, after the last write; without it no message can be acknowledged.

use toolfleet_aws::AwsError;
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::{CallRow, Event, Held, Rejection};
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::notice::Notice;
use toolfleet_core::outcome::{Code, Outcome, OutcomeKind};
use toolfleet_core::request::{CallRequest, Reply};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::time::Timestamp;

use super::apply::{Applied, apply};
use super::audit;
use super::claim::ClaimedCall;
use super::disposition::{Disposition, RequeueReason};
use super::inbound::InboundCall;
use super::poll_task::Task;
use crate::backoff;
use crate::context::{Step, WorkerContext};
use crate::telemetry::trace;

pub(super) mod recorded;
mod without_call;

use recorded::{OpenTask, Recorded};
use without_call::answer_message;
pub(super) use without_call::{malformed, tenant_not_allowed, unreadable};

/// Stores the outcome of a call that was executed, which [`keep`](super::large_result::keep) has made fit.
pub(super) async fn finish(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: ClaimedCall,
    outcome: Outcome,
) -> Result<Disposition, AwsError> {
    let ClaimedCall { ready, claim, row, attempts, may_have_executed, task, progress_buffer, .. } = call;
    let request = ready.call.request;
    let now = context.now();
    let notes = progress_buffer.since(0).map(|(notes, _)| notes);
    // A task that was certainly not answered waits for another call.
    let task = task.filter(|task| !task.input_pending || may_have_executed).map(|task| task.handle);
    let (late, outcome) = (outcome.kind, audit::without_secrets(outcome, &request));
    let event = Event::Finish { claim: claim.clone(), outcome, attempts, task, now, notes };
    match persist(context, &row, &event).await? {
        Applied::Stored { row, .. } => {
            stored(context, inbound, &row).await;
            Ok(Disposition::completed(record_finished(context, inbound, *request, *row).await?))
        }
        Applied::Rejected { .. } => {
            let own = inbound.caller(&request);
            let caller = row.caller.as_deref().unwrap_or(&own);
            let record = AuditRecord {
                outcome: late,
                attempts,
                fence: claim.fence(),
                worker: Some(context.worker.clone()),
                ..audit::of(AuditKind::LateAnswer, request.key.clone(), inbound, now, caller, Some(&request))
            };
            context.history.insert(&record, now.plus_ms(RETENTION_MS)).await?;
            context.meters.late_answer();
            tracing::warn!(call = %request.key, fence = claim.fence(), code = "late_answer", "an answer came after the claim was lost");
            Ok(Disposition::TakenOver)
        }
    }
}

/// Tries for as long as a lease to store what only this worker knows: giving up would lose an answer that was paid for.
/// If another worker takes the call over meanwhile, the fence says so.
async fn persist(context: &WorkerContext, row: &CallRow, event: &Event) -> Result<Applied, AwsError> {
    let give_up = tokio::time::Instant::now() + context.limits.lease;
    let mut tries = 0;
    loop {
        match apply(&context.calls, Some(row), event).await {
            Err(error) if tokio::time::Instant::now() < give_up => {
                tries += 1;
                tracing::warn!(%error, tries, code = "aws_error", "an outcome could not be stored yet; trying again");
                tokio::time::sleep(std::time::Duration::from_millis(backoff::after_tries(tries).min(2_000)))
                    .await;
            }
            answer => return answer,
        }
    }
}

/// Gives a claim back, its attempts counted; the message follows it to the queue. `held` is what the call waits for.
pub(super) async fn release(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: ClaimedCall,
    after_ms: u64,
    reason: RequeueReason,
    held: Option<Box<Held>>,
) -> Result<Disposition, AwsError> {
    let ClaimedCall { ready, claim, row, attempts, may_have_executed, .. } = call;
    let event = Event::Release { claim, attempts, may_have_executed, held, now: context.now() };
    match apply(&context.calls, Some(&row), &event).await? {
        Applied::Stored { row, .. } if row.finished.is_some() => {
            stored(context, inbound, &row).await;
            Ok(Disposition::completed(record_finished(context, inbound, *ready.call.request, *row).await?))
        }
        Applied::Stored { .. } => Ok(Disposition::Requeued { after_ms, reason }),
        Applied::Rejected { .. } => Ok(Disposition::TakenOver),
    }
}

/// Leaves a call with its server as a task; the message comes again to ask after it.
pub(super) async fn park(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: ClaimedCall,
    task: Task,
    after_ms: u64,
    poll_failed: bool,
) -> Result<Disposition, AwsError> {
    let ClaimedCall { ready, claim, row, attempts, may_have_executed, progress_buffer, .. } = call;
    let Task { handle: task, input_pending } = task;
    let now = context.now();
    let notes = progress_buffer.since(0).map(|(notes, _)| notes);
    // At the deadline it comes back even if the server wants to be left alone for longer.
    let after_ms = after_ms.min(ready.call.deadline.ms_since(now));
    let poll_at = now.plus_ms(after_ms);
    let event = Event::Park { claim, task, input_pending, may_have_executed, attempts, poll_at, notes, now };
    match persist(context, &row, &event).await? {
        Applied::Stored { row, .. } if row.finished.is_some() => {
            stored(context, inbound, &row).await;
            Ok(Disposition::completed(record_finished(context, inbound, *ready.call.request, *row).await?))
        }
        Applied::Stored { .. } => Ok(Disposition::Parked { after_ms, poll_failed }),
        Applied::Rejected { .. } => Ok(Disposition::TakenOver),
    }
}

/// Ends a call that was not executed: a refusal, a passed deadline, a server that cannot be reached.
pub(super) async fn record_unexecuted(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    outcome: Outcome,
) -> Result<Disposition, AwsError> {
    let visit = inbound.visit(context, &request, false);
    let definition = inbound.catalog().definition(&request.target);
    let outcome = audit::without_secrets(outcome, &request);
    let event = Event::Conclude { visit, outcome: outcome.clone(), definition };
    match apply(&context.calls, None, &event).await? {
        Applied::Stored { row, .. } => {
            stored(context, inbound, &row).await;
            Ok(Disposition::completed(record_finished(context, inbound, request, *row).await?))
        }
        Applied::Rejected { row: Some(row), rejection: Rejection::AlreadyRecorded } => {
            Ok(Disposition::completed(record_finished(context, inbound, request, *row).await?))
        }
        Applied::Rejected { rejection: Rejection::Mismatch, .. } => {
            Ok(Disposition::completed(mismatch(context, inbound, request).await?))
        }
        Applied::Rejected { rejection: Rejection::OfAnother, .. } => {
            Ok(Disposition::completed(second(context, inbound, request, &outcome).await?))
        }
        Applied::Rejected { rejection: Rejection::HeldElsewhere { retry_after_ms }, .. } => {
            let after_ms = inbound.wait_for_holder_ms(retry_after_ms);
            Ok(Disposition::Requeued { after_ms, reason: RequeueReason::HeldElsewhere })
        }
        Applied::Rejected {
            rejection:
                Rejection::AlreadyRecorded | Rejection::AwaitingApproval | Rejection::Lost | Rejection::Nothing,
            ..
        } => Ok(Disposition::Requeued {
            after_ms: context.limits.lease_ms(),
            reason: RequeueReason::WaitsForOther,
        }),
    }
}

/// The end of a call was stored by this worker.
pub(super) async fn stored(context: &WorkerContext, inbound: &InboundCall, row: &CallRow) {
    if let Some(finished) = &row.finished {
        let outcome = &finished.outcome;
        context.meters.ended(outcome.kind, outcome.error.as_ref().map(|why| why.code));
        trace::outcome(inbound.span(), outcome);
    }
    context.passed(Step::ResultStored).await;
}

/// The account of a call that has ended, by whoever: its audit record is inserted unless it stands. It names who asked first;
/// another message with the same question has a record of its own.
pub(super) async fn record_finished(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    row: CallRow,
) -> Result<Recorded, AwsError> {
    let Some(finished) = &row.finished else {
        return Err(AwsError::passing("the call's row has ended without an outcome"));
    };
    let own = inbound.caller(&request);
    let caller = row.caller.as_deref().unwrap_or(&own);
    let record = audit::of_call(&row, finished, inbound, caller, &request);
    context.history.insert(&record, row.expires_at).await?;
    if caller.came_again(&own) {
        let outcome = Outcome { payload: None, ..finished.outcome.clone() };
        audit_message(context, inbound, AuditKind::Duplicate, &request, &outcome).await?;
    }
    // The task lives in the conversation of who asked first.
    let session = caller.session.clone();
    let open_task = row.task.clone().map(|handle| OpenTask {
        tenant: row.key.tenant.clone(),
        target: request.target.clone(),
        session,
        handle,
    });
    let code = finished.outcome.error.as_ref().map(|t| t.code);
    let notice = notice_of(inbound, request, finished.outcome.kind, code, finished.at);
    Ok(Recorded::new(notice, open_task))
}

/// A known id came with another question: the original stays untouched, the event is audited.
pub(super) async fn mismatch(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
) -> Result<Recorded, AwsError> {
    let text = "The id was used before for another question; the first call stands. Send this one under an id of its own.";
    let outcome = Outcome::refused(Code::IdempotencyMismatch, text);
    audit_message(context, inbound, AuditKind::IdempotencyMismatch, &request, &outcome).await?;
    of_message_alone(context, inbound, request, &outcome).await
}

/// Somebody else asked the same under a known id and may not have it: its message ends by itself, the call stays untouched and
/// nothing is told of it.
async fn second(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    outcome: &Outcome,
) -> Result<Recorded, AwsError> {
    audit_message(context, inbound, AuditKind::Duplicate, &request, outcome).await?;
    of_message_alone(context, inbound, request, outcome).await
}

/// The answer to a message that ended without its call.
async fn of_message_alone(
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

/// A record of one message of several under an id. Its time is that of the first sending, so that each delivery writes the same.
async fn audit_message(
    context: &WorkerContext,
    inbound: &InboundCall,
    kind: AuditKind,
    request: &CallRequest,
    outcome: &Outcome,
) -> Result<(), AwsError> {
    let (at, caller) = (inbound.enqueued_at, inbound.caller(request));
    let record = audit::of(kind, request.key.clone(), inbound, at, &caller, Some(request));
    let record = audit::described(record, outcome, inbound, Some(request));
    context.history.insert(&record, at.plus_ms(RETENTION_MS)).await
}

/// What the sender of this message is told, where it wants to be: the names are its own.
fn notice_of(
    inbound: &InboundCall,
    request: CallRequest,
    outcome: OutcomeKind,
    code: Option<Code>,
    finished_at: Timestamp,
) -> Option<(Notice, String)> {
    let reply = request.reply.filter(|_| code != Some(Code::ReplyNotAllowed));
    let queue = reply_queue(inbound, &request.key.tenant, reply)?;
    let (session, group) = (request.session, request.group.map(|group| group.id));
    Some((Notice { session, group, ..notice(&request.key, outcome, code, finished_at) }, queue))
}

fn notice(key: &CallKey, outcome: OutcomeKind, code: Option<Code>, finished_at: Timestamp) -> Notice {
    Notice {
        v: 1,
        event: "call_ended".into(),
        tenant: key.tenant.clone(),
        call_id: key.call_id.clone(),
        outcome,
        code,
        session: None,
        group: None,
        finished_at,
    }
}

fn reply_queue(inbound: &InboundCall, tenant: &Tenant, reply: Option<Reply>) -> Option<String> {
    match reply? {
        Reply::SqsQueueUrl(url) => Some(url).filter(|url| inbound.catalog().allows_reply_queue(tenant, url)),
        Reply::SnsTopicArn(_) | Reply::EventBridgeBus(_) | Reply::WebhookId(_) => None,
    }
}
