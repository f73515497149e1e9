//! Decides whether a delivery executes its call without a claim (`claimless`), and what that means for a call that ends without a row.

use toolfleet_core::call::unclaimed_row;
use toolfleet_core::outcome::{Outcome, OutcomeKind};
use toolfleet_core::request::CallRequest;

use super::admit::AdmittedCall;
use super::claim::ClaimedCall;
use super::claimless::may_be_claimless;
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
        && may_be_claimless(inbound.catalog(), &call.request)
        && Limits::of(context, inbound, call).is_none()
}

/// Whether another delivery may have executed the call without a claim when this one ends it so. What refuses a call at the first receive of
/// its message is in the request and the catalog, and refuses every copy of it. A deadline or a cancellation may come while a copy runs.
pub(super) fn may_have_run(inbound: &InboundCall, request: &CallRequest, outcome: &Outcome) -> bool {
    let by_time = matches!(outcome.kind, OutcomeKind::Expired | OutcomeKind::Cancelled);
    (by_time || !inbound.is_first_receive()) && may_be_claimless(inbound.catalog(), request)
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
