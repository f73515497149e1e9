//! Owns the end of conversations at their servers: once a session has ended, its MCP sessions are closed (`DELETE`) and forgotten.
//!
//! A worker says farewell for sessions that a refused call has shown to be over, and every ten minutes for those among its own that
//! ended silently. It never does so because the worker itself ends: another one continues the conversation.
//!
//! Right before each `DELETE` a consistent read says again that the session is over.
//!
//! **Invariant:** whether a call may run is decided elsewhere; a farewell that fails costs the server some memory and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use toolfleet_aws::Trouble;
use toolfleet_aws::mcp_sessions::McpSession;
use toolfleet_core::ids::{SessionId, Tenant};

use crate::conversations::{address, open};
use crate::fleet::Fleet;
use crate::path;

/// How often a worker looks which of its conversations have ended.
const LOOK_EVERY: Duration = Duration::from_secs(600);

/// The sessions to say farewell for.
#[derive(Debug, Default)]
pub struct Farewells {
    waiting: Mutex<BTreeSet<(Tenant, SessionId)>>,
    asked: Notify,
}

impl Farewells {
    /// A call was refused because its session has ended.
    pub(crate) fn ask(&self, tenant: Tenant, session: SessionId) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert((tenant, session));
        self.asked.notify_one();
    }

    fn take(&self) -> BTreeSet<(Tenant, SessionId)> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Says farewell until the worker drains.
pub async fn run(fleet: Arc<Fleet>) {
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.reset();
    loop {
        tokio::select! {
            () = fleet.shutdown.draining() => return,
            () = fleet.farewells.asked.notified() => {}
            _ = look.tick() => look_for_ended(&fleet).await,
        }
        for (tenant, session) in fleet.farewells.take() {
            if let Err(trouble) = close_session(&fleet, &tenant, &session).await {
                tracing::warn!(%trouble, %tenant, %session, code = "farewell_failed", "an ended session's MCP sessions could not be closed");
            }
        }
    }
}

/// Asks for those of the worker's own conversations that have ended.
pub async fn look_for_ended(fleet: &Fleet) {
    let name =
        |(tenant, conversation): (Tenant, String)| Some((tenant, SessionId::parse(conversation).ok()?));
    let ours: Vec<_> = fleet.mcp.conversations().into_iter().filter_map(name).collect();
    match fleet.sessions.ended_of(&ours, fleet.now()).await {
        Ok(ended) => ended.into_iter().for_each(|(tenant, session)| fleet.farewells.ask(tenant, session)),
        Err(trouble) => {
            tracing::warn!(%trouble, code = "farewell_failed", "cannot see which conversations have ended");
        }
    }
}

/// Closes the MCP sessions of a session that has ended and forgets them; does nothing if it has not.
pub async fn close_session(fleet: &Fleet, tenant: &Tenant, session: &SessionId) -> Result<(), Trouble> {
    for mcp in fleet.sessions.mcp_sessions(tenant, session).await? {
        // Between the refusal and now the session may have been prolonged, and so may it while the one before was closed.
        if !fleet.sessions.has_ended(tenant, session, fleet.now()).await? {
            return Ok(());
        }
        close(fleet, tenant, session, &mcp).await?;
        fleet.sessions.forget_mcp_session(tenant, session, &mcp).await?;
    }
    fleet.mcp.forget_conversation(tenant, session.as_str());
    Ok(())
}

async fn close(fleet: &Fleet, tenant: &Tenant, session: &SessionId, mcp: &McpSession) -> Result<(), Trouble> {
    let Some(server) = fleet.catalog.current().server(&mcp.server).cloned() else {
        return Ok(());
    };
    let endpoint = match path::endpoint(fleet, &server, tenant) {
        Ok(endpoint) if address(&endpoint) == mcp.address => endpoint,
        // Its credentials or its address are gone, and with them the way to say anything.
        Ok(_) | Err(_) => return Ok(()),
    };
    fleet.mcp.end_session(&endpoint, session.as_str(), &open(mcp.clone())).await;
    Ok(())
}
