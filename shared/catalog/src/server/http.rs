//! A server at an address: the address and its credentials.

use std::collections::BTreeMap;

use serde::Serialize;
use toolfleet_core::credential::{ClientCertificate, Credential, Sensitive};
use url::Url;

/// A server to which connections are kept, one for each conversation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamTransport {
    /// What is spoken there.
    #[serde(rename = "transport")]
    pub kind: StreamKind,
    /// Its address and credentials. The address of a WebSocket has the scheme `ws` or `wss`.
    #[serde(flatten)]
    pub http: HttpTransport,
    /// Whether it keeps nothing of a conversation: then the conversations of one tenant share a few connections.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stateless: bool,
}

/// What is spoken over a connection that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// The HTTP+SSE transport of MCP 2024-11-05.
    Sse,
    /// WebSocket, which MCP does not define.
    WebSocket,
}

impl StreamKind {
    /// The word for it in a catalog.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
        }
    }
}

/// A server at an address.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HttpTransport {
    /// Its endpoint, without user or password.
    pub url: Url,
    /// Headers sent with every request. A value may end in `secret://name` or `secret://name#key`.
    pub headers: BTreeMap<String, Sensitive>,
    /// How workers prove who they are.
    pub auth: Credential,
    /// The certificate that workers show.
    pub client_certificate: Option<ClientCertificate>,
}
