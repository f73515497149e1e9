//! The trait through which several clients share the MCP session of a conversation.
//!
//! **Invariant:** the id and the cookies of an open session are never printed: they give access to it.

use std::fmt;
use std::pin::Pin;

use crate::endpoint::Endpoint;

/// A session as another client may take it up.
#[derive(Clone, PartialEq, Eq)]
pub struct OpenSession {
    /// `Mcp-Session-Id`.
    pub id: String,
    /// The version the server chose.
    pub version: String,
    /// The cookies that lead to the server behind a sticky load balancer, as a `Cookie` header carries them; empty where there
    /// are none.
    pub cookies: String,
}

impl fmt::Debug for OpenSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSession").field("version", &self.version).finish_non_exhaustive()
    }
}

/// The register cannot be asked just now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SessionStoreUnavailable(pub String);

/// What the register answers, in time.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = Result<T, SessionStoreUnavailable>> + Send + 'a>>;

/// Where the clients of a fleet keep the sessions of their conversations. Servers without sessions never come here.
pub trait SessionStore: fmt::Debug + Send + Sync {
    /// The conversation's session with that server.
    fn find<'a>(&'a self, endpoint: &'a Endpoint, conversation: &'a str) -> Asked<'a, Option<OpenSession>>;

    /// Registers `opened`, in the place of `lost` where that one stands. Gives the one that stands then: `opened`, or what another
    /// client has registered meanwhile.
    fn register<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        conversation: &'a str,
        opened: OpenSession,
        lost: Option<&'a str>,
    ) -> Asked<'a, OpenSession>;
}
