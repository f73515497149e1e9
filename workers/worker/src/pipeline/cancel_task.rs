//! Cancels the task of a call that ended while its server still worked on it.
//!
//! The request is sent after the record is stored and before the message is deleted: if the worker dies here, the next delivery sends
//! it. The call has ended before; the server's answer frees the permits that the task keeps of limits that count tasks.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_catalog::{Catalog, Server, Tool};
use toolfleet_core::call::HeldReason;
use toolfleet_core::control::{Subject, ToolNames};
use toolfleet_core::failure::Refusal;
use toolfleet_core::limits::LimitKey;
use toolfleet_core::request::Target;
use toolfleet_executors::{Attempt, Executor as _};

use super::inbound::InboundCall;
use super::passes::written;
use super::permit::task_entry;
use super::record::recorded::{OpenTask, Recorded};
use crate::context::WorkerContext;
use crate::gate::{ActiveLimit, Limited, Live, limits_of};

/// How long the server may take to answer.
const CANCEL_TASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks the server to stop the task of a call that has ended.
pub(super) async fn cancel_task(context: &WorkerContext, inbound: &InboundCall, recorded: &Recorded) {
    if let Some(task) = recorded.open_task() {
        Box::pin(cancel_open_task(context, inbound, task)).await;
    }
}

/// Asks the server to stop a task that nobody waits for.
pub(super) async fn cancel_open_task(context: &WorkerContext, inbound: &InboundCall, task: &OpenTask) {
    let Some((server, tool)) = found(inbound.catalog(), &task.target) else {
        return;
    };
    let tenant = &task.call.tenant;
    // A server that asked for a pause has less to do once it stops a task; one that cannot be reached is not asked.
    let unreachable = |refusal: Refusal| refusal.reason == HeldReason::ServerUnreachable;
    let subject = Subject { server: &server.id, tenant, tool: None, digest: None };
    if context.gate.check(subject, context.now()).is_err_and(unreachable) {
        return;
    }
    let trace = inbound.trace_context();
    let attempt = Attempt {
        deadline: Instant::now() + CANCEL_TASK_TIMEOUT,
        traceparent: trace.traceparent.as_deref(),
        tracestate: trace.tracestate.as_deref(),
        on_progress: None,
        admit: None,
    };
    let session = task.session.as_ref();
    match context.executors.cancel(server, tenant, session, &task.handle, attempt).await {
        Ok(()) => {
            let (permits, entry) = (&context.limiter.permits, task_entry(tenant, &server.id, &task.handle));
            let limits = limits_of_task(context, inbound.catalog(), task, server, tool);
            let _in_time = written(limits.iter().map(|limit| permits.release(limit, entry.clone()))).await;
        }
        // Its permits end at the call's deadline: the server may go on.
        Err(failure) => {
            tracing::info!(message_id = inbound.message_id(), server = %server.id, fault = failure.summary, "a task could not be cancelled");
        }
    }
}

/// The limits whose permit the task may keep.
fn limits_of_task(
    context: &WorkerContext,
    catalog: &Catalog,
    task: &OpenTask,
    server: &Arc<Server>,
    tool: Option<&Arc<Tool>>,
) -> Vec<LimitKey> {
    let (registered, name) = match (&task.target, tool) {
        (_, Some(tool)) => (Some(tool.id.as_str()), tool.id.to_string()),
        (Target::OnServer { server, name }, None) => (None, format!("{server}/{name}")),
        (Target::Tool { .. } | Target::Server { .. }, None) => return Vec::new(),
    };
    let own_name = match &task.target {
        Target::OnServer { name, .. } | Target::Tool { function: Some(name), .. } => name.as_str(),
        Target::Tool { function: None, .. } | Target::Server { .. } => {
            let only = tool.and_then(|tool| tool.function(None));
            only.map_or(name.as_str(), |function| function.name.as_str())
        }
    };
    let names = ToolNames { registered, server: server.id.as_str(), name: own_name };
    let tool = tool.map(Arc::as_ref);
    let limited = Limited { server, tool, names: Some(names), tenant: &task.call.tenant };
    let control = context.gate.control().current();
    let live = Live::new(control.as_deref(), context.gate.control().version(), context.now());
    let limits = limits_of(catalog, live, limited);
    // Whether a limit counts tasks may have changed since the task began.
    let of_open = |limit: &ActiveLimit| limit.concurrency.is_some();
    limits.into_iter().filter(of_open).map(|limit| limit.key).collect()
}

/// The server of the target, and its registered tool.
fn found<'a>(catalog: &'a Catalog, target: &Target) -> Option<(&'a Arc<Server>, Option<&'a Arc<Tool>>)> {
    match target {
        Target::Tool { id, .. } => catalog.tool(id).map(|tool| (&tool.server, Some(tool))),
        Target::OnServer { server, name } => Some((catalog.server(server)?, catalog.tool_on(server, name))),
        Target::Server { server } => Some((catalog.server(server)?, None)),
    }
}
