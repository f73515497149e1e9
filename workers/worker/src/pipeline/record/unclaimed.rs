//! Stores what became of a call that was executed without a claim: the first write of its row.
//!
//! If another delivery has claimed or ended the call meanwhile, nothing is stored, and there is no record of a late answer: the call is safe
//! to repeat, so what the other delivery stores is as good.

use toolfleet_aws::AwsError;
use toolfleet_core::call::{CallRow, Claim, Effect, Event, Rejection, Unclaimed};
use toolfleet_core::outcome::Outcome;

use super::finished::{mismatch_after_execution, record_finished, stored};
use super::persist::persist;
use super::recorded::OpenTask;
use crate::context::WorkerContext;
use crate::pipeline::apply::Applied;
use crate::pipeline::cancel_task::cancel_open_task;
use crate::pipeline::claim::{self, ClaimedCall};
use crate::pipeline::disposition::Disposition;
use crate::pipeline::inbound::InboundCall;
use crate::pipeline::redaction;
use crate::pipeline::task::Task;

/// Stores the outcome.
pub(super) async fn finish(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: Box<ClaimedCall>,
    outcome: Outcome,
) -> Result<Disposition, AwsError> {
    let outcome = redaction::without_secrets(outcome, &call.ready.call.request);
    let execution = execution(context, inbound, &call, None);
    let event = Event::FinishUnclaimed { execution, outcome };
    let applied = persist(context, inbound, None, &event).await?;
    after_write(context, inbound, call, applied, Disposition::TakenOver).await
}

/// Leaves the call with its server as a task; a delayed message will poll it. A task that another delivery's execution makes useless is
/// cancelled.
pub(super) async fn park(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: Box<ClaimedCall>,
    task: Task,
    after_ms: u64,
) -> Result<Disposition, AwsError> {
    let now = context.now();
    // It is tried again at the deadline, even if the server asked for a longer pause.
    let after_ms = inbound.away_ms(after_ms.min(call.ready.call.deadline.ms_since(now)));
    let execution = execution(context, inbound, &call, Some(task.handle.clone()));
    let event = Event::ParkUnclaimed { execution, poll_at: now.plus_ms(after_ms) };
    let applied = persist(context, inbound, None, &event).await?;
    if matches!(applied, Applied::Rejected { .. }) {
        let request = &call.ready.call.request;
        let open = OpenTask {
            call: request.key.clone(),
            target: request.target.clone(),
            session: request.session.clone(),
            handle: task.handle,
        };
        Box::pin(cancel_open_task(context, inbound, &open)).await;
    }
    let waits = Disposition::Parked { after_ms, poll_failed: false, counted: true };
    after_write(context, inbound, call, applied, waits).await
}

/// The claim of a call that goes back to the queue, with its row: one without a claim claims it now. `None` if another delivery has it.
pub(super) async fn claim_of(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: &ClaimedCall,
) -> Result<Option<(Claim, CallRow)>, AwsError> {
    if let Some(claim) = &call.claim {
        return Ok(Some((claim.clone(), call.row.clone())));
    }
    let event = claim::late(context, inbound, &call.ready);
    Ok(match persist(context, inbound, None, &event).await? {
        Applied::Stored { row, then: Effect::Execute(claim) } => Some((claim, *row)),
        // Its caller has cancelled it: the next delivery of its message completes its record.
        Applied::Stored { .. } | Applied::Rejected { .. } => None,
    })
}

/// What the execution came to, for the state table.
fn execution(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: &ClaimedCall,
    task: Option<String>,
) -> Box<Unclaimed> {
    let ClaimedCall { ready, row, attempts, progress_buffer, .. } = call;
    let now = context.now();
    Box::new(Unclaimed {
        delivery: inbound.delivery_context(context, &ready.call.request, ready.call.repeatable),
        attempts: *attempts,
        started_at: row.started_at.unwrap_or(now),
        definition: ready.definition.clone(),
        task,
        notes: progress_buffer.since(0).map(|(notes, _)| notes),
    })
}

/// What follows the write. `waits` is the disposition of a call that has not ended.
async fn after_write(
    context: &WorkerContext,
    inbound: &InboundCall,
    mut call: Box<ClaimedCall>,
    applied: Applied,
    waits: Disposition,
) -> Result<Disposition, AwsError> {
    let (reuse, rule) = call.ready.take_reuse();
    let request = call.ready.call.request;
    Ok(match applied {
        Applied::Stored { row, .. } if row.finished.is_some() => {
            reuse.settle((&context.answers, inbound.began()), rule.as_ref(), &row, context.now());
            stored(context, inbound, &request, &row).await;
            Disposition::completed(record_finished(context, inbound, *request, *row).await?)
        }
        Applied::Stored { .. } => waits,
        Applied::Rejected { row: Some(row), rejection: Rejection::AlreadyRecorded } => {
            Disposition::completed(record_finished(context, inbound, *request, *row).await?)
        }
        Applied::Rejected { rejection: Rejection::Mismatch, .. } => {
            Disposition::completed(Box::pin(mismatch_after_execution(context, inbound, *request)).await?)
        }
        Applied::Rejected {
            rejection:
                Rejection::AlreadyRecorded
                | Rejection::HeldElsewhere { .. }
                | Rejection::OfAnother
                | Rejection::AwaitingApproval
                | Rejection::Lost
                | Rejection::Nothing,
            ..
        } => Disposition::TakenOver,
    })
}
