//! Decides whether a delivery executes its call without a claim (`Catalog::may_be_claimless`).

use toolfleet_core::call::unclaimed_row;

use super::admit::AdmittedCall;
use super::claim::ClaimedCall;
use super::inbound::InboundCall;
use super::prepare::ReadyCall;
use super::progress_buffer::ProgressBuffer;
use super::turn::Limits;
use crate::context::WorkerContext;

/// Whether this delivery executes the call without a claim.
pub(super) fn is_claimless(context: &WorkerContext, inbound: &InboundCall, call: &AdmittedCall) -> bool {
    inbound.is_first_receive()
        && call.repeatable
        && call.resumed.is_none()
        && inbound.catalog().may_be_claimless(&call.request)
        && Limits::of(context, inbound, call).is_none()
}

/// The call as one that this worker executes without a claim.
pub(super) fn begin(context: &WorkerContext, inbound: &InboundCall, ready: ReadyCall) -> Box<ClaimedCall> {
    let delivery = inbound.delivery_context(context, &ready.call.request, ready.call.repeatable);
    Box::new(ClaimedCall {
        row: unclaimed_row(&delivery),
        ready,
        claim: None,
        since: tokio::time::Instant::now(),
        attempts: 0,
        may_have_executed: false,
        task: None,
        progress_buffer: ProgressBuffer::after(None),
    })
}
