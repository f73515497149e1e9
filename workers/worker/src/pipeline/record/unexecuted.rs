//! Stores the end of a call that was not executed.

use toolfleet_aws::AwsError;
use toolfleet_core::call::{DeliveryContext, Event, Rejection};
use toolfleet_core::definition::ShortDefinitionDigest;
use toolfleet_core::outcome::Outcome;
use toolfleet_core::request::CallRequest;

use super::finished::{mismatch, record_ended_before, record_finished, second, stored};
use crate::context::WorkerContext;
use crate::pipeline::apply::{Applied, apply};
use crate::pipeline::disposition::{Disposition, RequeueReason};
use crate::pipeline::inbound::InboundCall;
use crate::pipeline::redaction;

/// Ends a call that was not executed: a refusal, a passed deadline, a server that cannot be reached.
pub(in crate::pipeline) async fn record_unexecuted(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    outcome: Outcome,
) -> Result<Disposition, AwsError> {
    let delivery = inbound.delivery_context(context, &request, false);
    let definition = inbound.catalog().definition(&request.target);
    conclude(context, inbound, (request, delivery), outcome, definition).await
}

/// Ends a call with the stored answer of an equal one, with the definition that it was checked against.
pub(in crate::pipeline) async fn record_cached(
    context: &WorkerContext,
    inbound: &InboundCall,
    request: CallRequest,
    outcome: Outcome,
    definition: Option<ShortDefinitionDigest>,
) -> Result<Disposition, AwsError> {
    let delivery = inbound.delivery_context(context, &request, false);
    conclude(context, inbound, (request, delivery), outcome, definition).await
}

async fn conclude(
    context: &WorkerContext,
    inbound: &InboundCall,
    (request, delivery): (CallRequest, DeliveryContext),
    outcome: Outcome,
    definition: Option<ShortDefinitionDigest>,
) -> Result<Disposition, AwsError> {
    let outcome = redaction::without_secrets(outcome, &request);
    let event = Event::Conclude { delivery, outcome: outcome.clone(), definition };
    match apply(&context.calls, None, &event).await? {
        Applied::Stored { row, .. } => {
            stored(context, inbound, &request, &row).await;
            Ok(Disposition::completed(record_finished(context, inbound, request, *row).await?))
        }
        Applied::Rejected { row: Some(row), rejection: Rejection::AlreadyRecorded } => {
            Ok(Disposition::completed(record_ended_before(context, inbound, request, *row).await?))
        }
        Applied::Rejected { row, rejection: Rejection::Mismatch } => {
            Ok(Disposition::completed(mismatch(context, inbound, request, row.as_deref()).await?))
        }
        Applied::Rejected { row, rejection: Rejection::OfAnother } => {
            Ok(Disposition::completed(second(context, inbound, request, row.as_deref(), outcome).await?))
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
