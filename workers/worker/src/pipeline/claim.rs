//! The step `claim`: the conditional write that gives this worker the right to send the call. Nothing of the call is sent to its tool before.

use tokio::time::{Instant, timeout_at};
use toolfleet_aws::AwsError;
use toolfleet_core::call::{CallRow, Claim, Effect, Event, Rejection};
use toolfleet_core::request::CallRequest;

use super::apply::{Applied, apply};
use super::inbound::InboundCall;
use super::prepare::ReadyCall;
use super::progress_buffer::ProgressBuffer;
use super::record::finished;
use super::record::persist::persist_after;
use super::task::Task;
use crate::context::WorkerContext;

pub(super) enum Claimed {
    Ours(Box<ClaimedCall>),
    Ended { request: Box<CallRequest>, row: Box<CallRow> },
    Mismatch { request: Box<CallRequest>, row: Option<Box<CallRow>> },
    Elsewhere { after_ms: u64 },
}

/// A call that this worker executes.
pub(super) struct ClaimedCall {
    pub(super) ready: ReadyCall,
    /// Its claim; none while it is executed without one and has no row.
    pub(super) claim: Option<Claim>,
    /// The row as last seen.
    pub(super) row: CallRow,
    /// When the claim was asked for: the lease is counted from here by a clock that never jumps.
    pub(super) since: Instant,
    /// Attempts made, earlier claims included.
    pub(super) attempts: u32,
    /// Whether an attempt may have had an effect.
    pub(super) may_have_executed: bool,
    /// The task that the server works on, as far as is known.
    pub(super) task: Option<Task>,
    /// The server's reports about it.
    pub(super) progress_buffer: ProgressBuffer,
}

pub(super) async fn claim(
    context: &WorkerContext,
    inbound: &InboundCall,
    ready: ReadyCall,
) -> Result<Claimed, AwsError> {
    let since = Instant::now();
    let event = Event::Claim {
        delivery: inbound.delivery_context(context, &ready.call.request, ready.call.repeatable),
        lease_ms: context.limits.lease_ms(),
        definition: ready.definition.clone(),
        answers: ready.call.resumed.as_ref().and_then(|earlier| earlier.task()).map(str::to_owned),
    };
    let applied = match apply(&context.calls, None, &event).await {
        Ok(applied) => applied,
        Err(error) => Box::pin(claim_again(context, inbound, &ready, &event, since, error)).await?,
    };
    Ok(match applied {
        Applied::Stored { row, then: Effect::Execute(claim) } => {
            // What another delivery may have executed without a claim is added by the state table.
            let (attempts, may_have_executed) = (row.attempts, row.was_sent());
            let task = Task::of(&row);
            let progress_buffer = ProgressBuffer::after(row.notes.as_deref());
            Claimed::Ours(Box::new(ClaimedCall {
                ready,
                claim: Some(claim),
                row: *row,
                since,
                attempts,
                may_have_executed,
                task,
                progress_buffer,
            }))
        }
        Applied::Stored {
            row,
            then: Effect::Ended | Effect::Extended { .. } | Effect::Waits | Effect::Noted,
        } => {
            finished::stored(context, inbound, &ready.call.request, &row).await;
            Claimed::Ended { request: ready.call.request, row }
        }
        Applied::Rejected { row: Some(row), rejection: Rejection::AlreadyRecorded } => {
            Claimed::Ended { request: ready.call.request, row }
        }
        Applied::Rejected { row, rejection: Rejection::Mismatch } => {
            Claimed::Mismatch { request: ready.call.request, row }
        }
        Applied::Rejected { rejection: Rejection::HeldElsewhere { retry_after_ms }, .. } => {
            Claimed::Elsewhere { after_ms: inbound.wait_for_holder_ms(retry_after_ms) }
        }
        Applied::Rejected {
            rejection:
                Rejection::AlreadyRecorded
                | Rejection::OfAnother
                | Rejection::AwaitingApproval
                | Rejection::Lost
                | Rejection::Nothing,
            ..
        } => Claimed::Elsewhere { after_ms: context.limits.lease_ms() },
    })
}

/// Asks for the claim again whose first request failed with `error`: it may be stored, and then would say after its lease that the call may
/// have been sent. A call that is safe to repeat goes back to its queue while there is time for another worker, and any other only once it is known whose
/// it is: a claim that comes late is given back unused ([`is_late`]).
async fn claim_again(
    context: &WorkerContext,
    inbound: &InboundCall,
    ready: &ReadyCall,
    event: &Event,
    since: Instant,
    error: AwsError,
) -> Result<Applied, AwsError> {
    if error.is_permanent() {
        return Err(error);
    }
    let first = error.clone();
    let again = persist_after(context, inbound, (None, event), error);
    match ready.call.repeatable {
        true => timeout_at(since + context.limits.lease / 2, again).await.unwrap_or(Err(first)),
        false => again.await,
    }
}

/// Whether a claim that was asked for at `since` is too old to be used: its lease might end before its first heartbeat.
pub(super) fn is_late(context: &WorkerContext, since: Instant) -> bool {
    since.elapsed() >= context.limits.lease / 2
}

/// The claim of a call that this delivery executes without one.
pub(super) fn late(context: &WorkerContext, inbound: &InboundCall, ready: &ReadyCall) -> Event {
    Event::Claim {
        delivery: inbound.delivery_context(context, &ready.call.request, ready.call.repeatable),
        lease_ms: context.limits.lease_ms(),
        definition: ready.definition.clone(),
        answers: None,
    }
}
