//! Which calls are executed without a claim, which saves the write of the claim: only calls that are safe to repeat.
//!
//! Such a call has no row until it ends, becomes a task, goes back to the queue, or its first heartbeat is due. If its worker stops before,
//! the next delivery executes it again, and a second delivery at the same time executes it too. So no end of such a call says that it did
//! not run: the state table sees to that (`DeliveryContext::may_be_claimless`).

use toolfleet_catalog::Catalog;
use toolfleet_core::request::{CallRequest, Operation, Target};

/// Whether deliveries of the call may execute it without a claim. What limits it is not asked: limits change while it runs.
pub(super) fn may_be_claimless(catalog: &Catalog, request: &CallRequest) -> bool {
    let safe =
        request.idempotent || request.operation != Operation::ToolsCall || is_registered(catalog, request);
    let has_own_row = request.resume.is_some()
        // Its row tells of the updates.
        || request.operation == Operation::ResourcesSubscribe
        || request.supersede.is_some()
        || request.not_before.is_some()
        || is_grouped(request);
    safe && !has_own_row
}

/// Whether the call is a member of a group, which counts its members by their claims.
fn is_grouped(request: &CallRequest) -> bool {
    request.group.is_some()
}

/// Whether its tool is registered with `claimless`.
fn is_registered(catalog: &Catalog, request: &CallRequest) -> bool {
    match &request.target {
        Target::Tool { id, .. } => catalog.tool(id).is_some_and(|tool| tool.claimless),
        Target::OnServer { .. } | Target::Server { .. } => false,
    }
}
