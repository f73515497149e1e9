//! Stores what became of a claimed call: its outcome, its release, or the task that its server works on.

use toolfleet_aws::AwsError;
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::{Event, Held};
use toolfleet_core::outcome::Outcome;

use super::finished::{record_finished, stored};
use super::persist::persist;
use super::unclaimed;
use crate::context::WorkerContext;
use crate::pipeline::apply::Applied;
use crate::pipeline::claim::ClaimedCall;
use crate::pipeline::disposition::{Disposition, RequeueReason};
use crate::pipeline::inbound::InboundCall;
use crate::pipeline::steps::Step;
use crate::pipeline::task::Task;
use crate::pipeline::turn::Limits;
use crate::pipeline::{audit, redaction};
use toolfleet_core::retention::RETENTION_MS;

/// Stores the outcome of a call that was executed, which [`store`](super::super::large_result::store) has made fit.
pub(in crate::pipeline) async fn finish(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: Box<ClaimedCall>,
    outcome: Outcome,
) -> Result<Disposition, AwsError> {
    let Some(claim) = call.claim.clone() else {
        return Box::pin(unclaimed::finish(context, inbound, call, outcome)).await;
    };
    let ClaimedCall { mut ready, row, attempts, may_have_executed, task, progress_buffer, .. } = *call;
    let (reuse, rule) = ready.take_reuse();
    let request = ready.call.request;
    let now = context.now();
    let notes = progress_buffer.since(0).map(|(notes, _)| notes);
    // A task that was certainly not answered waits for another call.
    let task = task.filter(|task| !task.input_pending || may_have_executed).map(|task| task.handle);
    let (late, outcome) = (outcome.kind, redaction::without_secrets(outcome, &request));
    let event = Event::Finish { claim: claim.clone(), outcome, attempts, task, now, notes };
    match persist(context, inbound, Some(&row), &event).await? {
        Applied::Stored { row, .. } => {
            reuse.settle((&context.answers, inbound.began()), rule.as_ref(), &row, context.now());
            stored(context, inbound, &request, &row).await;
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
            Box::pin(context.history.insert(&record, now.plus_ms(RETENTION_MS))).await?;
            context.meters.late_answer();
            tracing::warn!(call = %request.key, fence = claim.fence(), code = "late_answer", "an answer came after the claim was lost");
            Ok(Disposition::TakenOver)
        }
    }
}

/// Gives a claim back, its attempts counted; the message follows it to the queue. `held` is what the call waits for. A claim that is not given
/// back says after its lease that the call may have been sent.
pub(in crate::pipeline) async fn release(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: ClaimedCall,
    after_ms: u64,
    reason: RequeueReason,
    held: Option<Box<Held>>,
) -> Result<Disposition, AwsError> {
    let Some((claim, row)) = unclaimed::claim_of(context, inbound, &call).await? else {
        return Ok(Disposition::TakenOver);
    };
    let ClaimedCall { ready, attempts, may_have_executed, .. } = call;
    let event = Event::Release { claim, attempts, may_have_executed, held, now: context.now() };
    match persist(context, inbound, Some(&row), &event).await? {
        Applied::Stored { row, .. } if row.finished.is_some() => {
            stored(context, inbound, &ready.call.request, &row).await;
            Ok(Disposition::completed(record_finished(context, inbound, *ready.call.request, *row).await?))
        }
        Applied::Stored { .. } => Ok(Disposition::Requeued { after_ms, reason }),
        Applied::Rejected { .. } => Ok(Disposition::TakenOver),
    }
}

/// Leaves a call with its server as a task; a delayed message will poll it.
pub(in crate::pipeline) async fn park(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: ClaimedCall,
    task: Task,
    after_ms: u64,
    poll_failed: bool,
) -> Result<Disposition, AwsError> {
    let Some(claim) = call.claim.clone() else {
        return unclaimed::park(context, inbound, Box::new(call), task, after_ms).await;
    };
    let is_new = call.task.is_none();
    let ClaimedCall { ready, row, attempts, may_have_executed, progress_buffer, .. } = call;
    let Task { handle: task, input_pending } = task;
    let now = context.now();
    let notes = progress_buffer.since(0).map(|(notes, _)| notes);
    // It is tried again at the deadline, even if the server asked for a longer pause.
    let after_ms = inbound.away_ms(after_ms.min(ready.call.deadline.ms_since(now)));
    let poll_at = now.plus_ms(after_ms);
    let event = Event::Park { claim, task, input_pending, may_have_executed, attempts, poll_at, notes, now };
    let Applied::Stored { row, .. } = persist(context, inbound, Some(&row), &event).await? else {
        return Ok(Disposition::TakenOver);
    };
    context.steps.passed(Step::TaskStored).await;
    let limits = Limits::of(context, inbound, &ready.call).filter(|_| is_new);
    let kept = limits.zip(row.task.as_ref()).map(|(limits, handle)| limits.task_is_stored(handle));
    if row.finished.is_some() {
        stored(context, inbound, &ready.call.request, &row).await;
        return Ok(Disposition::completed(
            record_finished(context, inbound, *ready.call.request, *row).await?,
        ));
    }
    let counted = match kept {
        Some(kept) => kept.await,
        None => true,
    };
    Ok(Disposition::Parked { after_ms, poll_failed, counted })
}
