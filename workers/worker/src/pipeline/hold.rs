//! Stores in a call's row, before its claim, what the call waits for and when it is tried next.

use toolfleet_aws::AwsError;
use toolfleet_core::call::{Event, Rejection};
use toolfleet_core::request::CallRequest;

use super::apply::{Applied, apply};
use super::disposition::{Disposition, RequeueReason};
use super::inbound::InboundCall;
use super::record::finished;
use super::wait::Wait;
use crate::context::WorkerContext;

/// Holds the call. A wait too short to be read writes nothing.
pub(super) async fn hold(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    wait: Wait,
) -> Result<Disposition, AwsError> {
    let deadline = request.deadline(inbound.enqueued_at, context.limits.default_deadline_ms());
    let wait = wait.until_visible(inbound, deadline, context.now());
    let (after_ms, reason) = (wait.after_ms, wait.requeue_reason());
    if !wait.is_stored(inbound.enqueued_at, context.now()) {
        return Ok(Disposition::Requeued { after_ms, reason });
    }
    wait.log(&request);
    let event =
        Event::Hold { delivery: inbound.delivery_context(context, &request, false), held: *wait.held };
    match apply(&context.calls, None, &event).await? {
        Applied::Stored { row, .. } if row.finished.is_some() => {
            finished::stored(context, inbound, &request, &row).await;
            let recorded = finished::record_finished(context, inbound, request, *row).await?;
            Ok(Disposition::completed(recorded))
        }
        Applied::Rejected { row: Some(row), rejection: Rejection::AlreadyRecorded } => {
            let recorded = finished::record_ended_before(context, inbound, request, *row).await?;
            Ok(Disposition::completed(recorded))
        }
        Applied::Rejected { row, rejection: Rejection::Mismatch } => {
            let recorded = finished::mismatch(context, inbound, request, row.as_deref());
            Ok(Disposition::completed(Box::pin(recorded).await?))
        }
        Applied::Rejected { rejection: Rejection::HeldElsewhere { retry_after_ms }, .. } => {
            let after_ms = inbound.wait_for_holder_ms(retry_after_ms);
            Ok(Disposition::Requeued { after_ms, reason: RequeueReason::HeldElsewhere })
        }
        Applied::Stored { .. }
        | Applied::Rejected {
            rejection:
                Rejection::AlreadyRecorded
                | Rejection::OfAnother
                | Rejection::AwaitingApproval
                | Rejection::Lost
                | Rejection::Nothing,
            ..
        } => Ok(Disposition::Requeued { after_ms, reason }),
    }
}
