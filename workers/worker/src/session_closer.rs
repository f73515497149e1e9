//! Owns the end of conversations at their servers: once a session has ended, its MCP sessions are closed (`DELETE`) and forgotten.
//!
//! A worker says session_closer for sessions that a refused call has shown to be over, and every ten minutes for those among its own that
//! ended silently. It never does so because the worker itself ends: another one continues the conversation.
//!
//! Right before each `DELETE` a consistent read says again that the session is over.
//!
//! **Invariant:** whether a call may run is decided elsewhere; a session_closer that fails costs the server some memory and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use toolfleet_aws::AwsError;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::mcp_session::McpSession;

use crate::context::WorkerContext;
use crate::mcp_session_store::{address, open};

/// How often a worker looks which of its conversations have ended.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The sessions to say session_closer for.
#[derive(Debug, Default)]
pub struct SessionCloser {
    waiting: Mutex<BTreeSet<(Tenant, SessionId)>>,
    asked: Notify,
}

impl SessionCloser {
    /// A call was refused because its session has ended.
    pub(crate) fn ask(&self, tenant: Tenant, session: SessionId) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert((tenant, session));
        self.asked.notify_one();
    }

    fn take(&self) -> BTreeSet<(Tenant, SessionId)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Says session_closer until the worker drains.
pub async fn run(context: Arc<WorkerContext>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.reset();
    loop {
        tokio::select! {
            () = context.shutdown.draining() => return,
            () = context.session_closer.asked.notified() => {}
            _ = look.tick() => look_for_ended(&context).await,
        }
        for (tenant, session) in context.session_closer.take() {
            if let Err(error) = close_session(&context, &tenant, &session).await {
                tracing::warn!(%error, %tenant, %session, code = "session_close_failed", "an ended session's MCP sessions could not be closed");
            }
        }
    }
}

/// Asks for those of the worker's own conversations that have ended.
pub async fn look_for_ended(context: &WorkerContext) {
    let name =
        |(tenant, conversation): (Tenant, String)| Some((tenant, SessionId::parse(conversation).ok()?));
    let ours: Vec<_> = context.mcp.conversations().into_iter().filter_map(name).collect();
    match context.sessions.ended_of(&ours, context.now()).await {
        Ok(ended) => {
            ended.into_iter().for_each(|(tenant, session)| context.session_closer.ask(tenant, session))
        }
        Err(error) => {
            tracing::warn!(%error, code = "session_close_failed", "cannot see which conversations have ended");
        }
    }
}

/// Closes the MCP sessions of a session that has ended and forgets them; does nothing if it has not.
pub async fn close_session(
    context: &WorkerContext,
    tenant: &Tenant,
    session: &SessionId,
) -> Result<(), AwsError> {
    for mcp in context.sessions.mcp_sessions(tenant, session).await? {
        // Between the refusal and now the session may have been prolonged, and so may it while the one before was closed.
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
    mcp: &McpSession,
) -> Result<(), AwsError> {
    let Some(server) = context.catalog.current().server(&mcp.server).cloned() else {
        return Ok(());
    };
    let endpoint = match context.executors.mcp().endpoint(&server, tenant) {
        Ok(endpoint) if address(&endpoint) == mcp.address => endpoint,
        // Its credentials or its address are gone, and with them the way to say anything.
        Ok(_) | Err(_) => return Ok(()),
    };
    context.mcp.end_session(&endpoint, session.as_str(), &open(mcp.clone())).await;
    Ok(())
}
