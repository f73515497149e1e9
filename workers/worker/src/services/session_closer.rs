//! Closes the MCP sessions of sessions that have ended: a `DELETE` at the server, then the row is deleted.
//!
//! A session is closed when a refused call has shown that it is over, and every ten minutes for this worker's own sessions that ended
//! without such a call. A worker that drains closes none: another worker continues the session. A consistent read right before each
//! `DELETE` checks that the session is over.

use std::sync::Arc;
use std::time::Duration;

use toolfleet_aws::AwsError;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::server_session::ServerSession;

use super::Service;
use crate::context::WorkerContext;
use crate::mcp_session_store::{address, open};
use crate::shutdown::Shutdown;

/// How often a worker checks which of its sessions have ended.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(600);

/// The service that closes the MCP sessions of ended sessions.
pub struct SessionCloser {
    context: Arc<WorkerContext>,
}

impl SessionCloser {
    /// The session closer of that worker.
    pub const fn new(context: Arc<WorkerContext>) -> Self {
        Self { context }
    }
}

impl Service for SessionCloser {
    fn name(&self) -> &'static str {
        "session closer"
    }

    async fn run(&self, shutdown: &Shutdown) {
        let context = &self.context;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.reset();
        loop {
            tokio::select! {
                () = shutdown.draining() => return,
                () = context.ended_sessions.added() => {}
                _ = look.tick() => look_for_ended(context).await,
            }
            close_ended(context).await;
        }
    }
}

/// Closes the MCP sessions of the sessions that are known to have ended.
pub(super) async fn close_ended(context: &WorkerContext) {
    for (tenant, session) in context.ended_sessions.take() {
        if let Err(error) = close_session(context, &tenant, &session).await {
            tracing::warn!(%error, %tenant, %session, code = "session_close_failed", "an ended session's MCP sessions could not be closed");
        }
    }
}

/// Finds those of the worker's own sessions that have ended.
pub async fn look_for_ended(context: &WorkerContext) {
    let name =
        |(tenant, conversation): (Tenant, String)| Some((tenant, SessionId::parse(conversation).ok()?));
    let ours: Vec<_> = context.mcp.conversations().into_iter().filter_map(name).collect();
    match context.sessions.ended_of(&ours, context.now()).await {
        Ok(ended) => {
            ended.into_iter().for_each(|(tenant, session)| context.ended_sessions.add(tenant, session))
        }
        Err(error) => {
            tracing::warn!(%error, code = "session_close_failed", "cannot read which sessions have ended");
        }
    }
}

/// Closes the MCP sessions of a session that has ended and deletes their rows; does nothing if it has not ended.
pub async fn close_session(
    context: &WorkerContext,
    tenant: &Tenant,
    session: &SessionId,
) -> Result<(), AwsError> {
    for mcp in context.sessions.mcp_sessions(tenant, session).await? {
        // The session may have been prolonged since the refusal, or while the one before was closed.
        if !context.sessions.has_ended(tenant, session, context.now()).await? {
            return Ok(());
        }
        close(context, tenant, session, &mcp).await?;
        context.sessions.forget_mcp_session(tenant, session, &mcp).await?;
    }
    context.mcp.forget_conversation(tenant, session.as_str());
    Ok(())
}

async fn close(
    context: &WorkerContext,
    tenant: &Tenant,
    session: &SessionId,
    mcp: &ServerSession,
) -> Result<(), AwsError> {
    let Some(server) = context.catalog.current().server(&mcp.server).cloned() else {
        return Ok(());
    };
    if !server.is_mcp_endpoint() {
        return Ok(());
    }
    let endpoint = match context.executors.mcp().endpoint(&server, tenant) {
        Ok(endpoint) if address(&endpoint) == mcp.address => endpoint,
        // Its credentials or its address have changed: there is no way to close it.
        Ok(_) | Err(_) => return Ok(()),
    };
    context.mcp.end_session(&endpoint, session.as_str(), &open(mcp.clone())).await;
    Ok(())
}
