//! Owns the session_closer to a task: a call that ended while its server still worked on it asks the server to stop.
//!
//! It goes out after the record and before the message is deleted, so a worker that dies here leaves it to the next delivery.
//!
//! **Invariant:** nothing depends on the server's answer: the call has ended before it is asked.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use toolfleet_catalog::{Catalog, Executor, Server};
use toolfleet_core::call::HeldReason;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::message::Target;
use toolfleet_mcp::TaskQuestion;

use super::inbound::InboundCall;
use super::prepare::endpoint;
use super::record::Recorded;
use crate::breakers::Refusal;
use crate::context::WorkerContext;

/// How long a server may take to hear of it.
const WITHDRAWAL: Duration = Duration::from_secs(5);

/// A task that nobody waits for any longer.
pub(super) struct OpenTask {
    pub(super) tenant: Tenant,
    pub(super) target: Target,
    pub(super) session: Option<SessionId>,
    pub(super) handle: String,
}

pub(super) async fn withdraw(context: &WorkerContext, inbound: &InboundCall, recorded: &Recorded) {
    let Some(task) = recorded.open_task() else {
        return;
    };
    let Some(server) = server_of(inbound.catalog(), &task.target) else {
        return;
    };
    // A server that wants a pause is relieved by a task that it may stop.
    let away = |refusal: Refusal| refusal.reason == HeldReason::ServerUnreachable;
    if context.breakers.peek(&server.id, &task.tenant, context.now()).is_err_and(away) {
        return;
    }
    let asked = async {
        let endpoint = endpoint(context, server, &task.tenant)?;
        let onward = inbound.trace_context();
        let question = TaskQuestion {
            endpoint: &endpoint,
            conversation: task.session.as_ref().map(|s| s.as_str()),
            task: &task.handle,
            traceparent: onward.traceparent.as_deref(),
            tracestate: onward.tracestate.as_deref(),
            deadline: Instant::now() + WITHDRAWAL,
        };
        context.mcp.cancel_task(question).await
    };
    if let Err(fault) = asked.await {
        tracing::info!(message_id = inbound.message_id(), server = %server.id, fault = fault.summary(), "a task could not be cancelled");
    }
}

fn server_of<'a>(catalog: &'a Catalog, target: &Target) -> Option<&'a Arc<Server>> {
    match target {
        Target::Tool { id, .. } => match &catalog.tool(id)?.executor {
            Executor::Mcp(server) => Some(server),
            Executor::Lambda(_) => None,
        },
        Target::OnServer { server, .. } | Target::Server { server } => catalog.server(server),
    }
}
