//! Cancels the task of a call that ended while its server still worked on it.
//!
//! The request is sent after the record is stored and before the message is deleted: if the worker dies here, the next delivery sends
//! it. Nothing depends on the server's answer, because the call has ended before.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_catalog::{Catalog, Server};
use toolfleet_core::call::HeldReason;
use toolfleet_core::control::Subject;
use toolfleet_core::failure::Refusal;
use toolfleet_core::request::Target;
use toolfleet_executors::{Attempt, Executor as _};

use super::inbound::InboundCall;
use super::record::recorded::{OpenTask, Recorded};
use crate::context::WorkerContext;

/// How long the server may take to answer.
const CANCEL_TASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the server to stop the task of a call that has ended.
pub(super) async fn cancel_task(context: &WorkerContext, inbound: &InboundCall, recorded: &Recorded) {
    if let Some(task) = recorded.open_task() {
        cancel_open_task(context, inbound, task).await;
    }
}

/// Asks the server to stop a task that nobody waits for.
pub(super) async fn cancel_open_task(context: &WorkerContext, inbound: &InboundCall, task: &OpenTask) {
    let Some(server) = server_of(inbound.catalog(), &task.target) else {
        return;
    };
    // A server that asked for a pause has less to do once it stops a task; one that cannot be reached is not asked.
    let unreachable = |refusal: Refusal| refusal.reason == HeldReason::ServerUnreachable;
    let subject = Subject { server: &server.id, tenant: &task.tenant, tool: None, digest: None };
    if context.gate.check(subject, context.now()).is_err_and(unreachable) {
        return;
    }
    let trace = inbound.trace_context();
    let attempt = Attempt {
        deadline: Instant::now() + CANCEL_TASK_TIMEOUT,
        traceparent: trace.traceparent.as_deref(),
        tracestate: trace.tracestate.as_deref(),
        on_progress: None,
    };
    let session = task.session.as_ref();
    let cancelled = context.executors.cancel(server, &task.tenant, session, &task.handle, attempt).await;
    if let Err(failure) = cancelled {
        tracing::info!(message_id = inbound.message_id(), server = %server.id, fault = failure.summary, "a task could not be cancelled");
    }
}

fn server_of<'a>(catalog: &'a Catalog, target: &Target) -> Option<&'a Arc<Server>> {
    match target {
        Target::Tool { id, .. } => Some(&catalog.tool(id)?.server),
        Target::OnServer { server, .. } | Target::Server { server } => catalog.server(server),
    }
}
