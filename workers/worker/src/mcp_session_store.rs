//! Shares the MCP sessions of a conversation between workers: the sessions table holds their ids.
//!
//! Whichever worker runs a conversation's next call continues the same MCP session, also after a redelivery or a deployment.
//!
//! **Invariant:** a session's id is sent to the address it was opened at, for the tenant and conversation it was opened for, and
//! nowhere else.

use toolfleet_aws::sessions::Sessions;
use toolfleet_aws::{AwsError, Clock};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::server_session::ServerSession;
use toolfleet_mcp::{Asked, Endpoint, OpenSession, SessionStore, SessionStoreUnavailable};

/// The register of a fleet.
#[derive(Debug)]
pub struct McpSessionStore {
    sessions: Sessions,
    clock: Clock,
}

impl McpSessionStore {
    /// The register in that table.
    pub const fn new(sessions: Sessions, clock: Clock) -> Self {
        Self { sessions, clock }
    }
}

impl SessionStore for McpSessionStore {
    fn find<'a>(&'a self, endpoint: &'a Endpoint, conversation: &'a str) -> Asked<'a, Option<OpenSession>> {
        Box::pin(async move {
            let (tenant, session) = names(endpoint, conversation)?;
            let found = self.sessions.mcp_session(&tenant, &session, &endpoint.server).await.map_err(away)?;
            Ok(found.filter(|found| found.address == address(endpoint)).map(open))
        })
    }

    fn register<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        conversation: &'a str,
        opened: OpenSession,
        lost: Option<&'a str>,
    ) -> Asked<'a, OpenSession> {
        Box::pin(async move {
            let (tenant, session) = names(endpoint, conversation)?;
            let opened = ServerSession {
                server: endpoint.server.clone(),
                id: opened.id,
                version: opened.version,
                address: address(endpoint),
                cookies: opened.cookies,
                opened_at: self.clock.now(),
            };
            let stands = self.sessions.register_mcp_session(&tenant, &session, &opened, lost).await;
            stands.map(open).map_err(away)
        })
    }
}

/// A session of the register, as the client takes it up.
pub(crate) fn open(found: ServerSession) -> OpenSession {
    OpenSession { id: found.id, version: found.version, cookies: found.cookies }
}

/// The digest of a server's address: the address itself may carry a key.
pub(crate) fn address(endpoint: &Endpoint) -> String {
    Digest::of_text(endpoint.url.as_str()).short(16).to_owned()
}

fn names(endpoint: &Endpoint, conversation: &str) -> Result<(Tenant, SessionId), SessionStoreUnavailable> {
    let tenant =
        endpoint.tenant.clone().ok_or_else(|| SessionStoreUnavailable("the call has no tenant".into()))?;
    let session = SessionId::parse(conversation).map_err(|e| SessionStoreUnavailable(e.to_string()))?;
    Ok((tenant, session))
}

fn away(error: AwsError) -> SessionStoreUnavailable {
    SessionStoreUnavailable(error.to_string())
}
