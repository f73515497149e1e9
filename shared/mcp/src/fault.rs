//! [`Fault`]: the error of one attempt to call an MCP server.

use toolfleet_core::outcome::MayHaveRun;
use toolfleet_credentials::CredentialError;
use toolfleet_egress::{EgressError, sanitize_text};

/// The error of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection: refused, DNS, TLS, or a refused HTTP/2 stream. Nothing was executed.
    #[error("cannot connect to the server: {detail}")]
    Connect {
        /// The innermost cause.
        detail: String,
    },
    /// A step before the call failed, so the call was not sent: version discovery, session, program start.
    #[error("the call was not sent: {detail}")]
    NotSent {
        /// What was tried, and its error.
        detail: String,
        /// What prevented it.
        cause: NotSentCause,
    },
    /// HTTP 429, or another request of the server to slow down. Nothing was executed.
    #[error("the server asks to slow down")]
    RateLimited {
        /// How long it asks to wait, in milliseconds (capped where it was read).
        retry_after_ms: Option<u64>,
    },
    /// The store of sessions could not be read. Nothing was sent.
    #[error("the conversation's session cannot be looked up: {detail}")]
    SessionStoreUnavailable {
        /// What went wrong.
        detail: String,
    },
    /// HTTP 401, also with a renewed credential. Nothing was executed.
    #[error("the server did not accept the credentials (HTTP 401){}", reason(detail))]
    Unauthorized {
        /// The server's reason, shortened.
        detail: String,
    },
    /// HTTP 403. Nothing was executed.
    #[error("the server forbids this call (HTTP 403){}{}", reason(detail), scope.as_ref().map(|s| format!("; it wants the scope `{s}`")).unwrap_or_default())]
    Forbidden {
        /// The server's reason, shortened.
        detail: String,
        /// The scope the server asked for, where it named one.
        scope: Option<String>,
    },
    /// A secret that the server's configuration names is not available. Nothing was sent.
    #[error("the credential is not available: {detail}")]
    Credential {
        /// Which secret and why; never its value.
        detail: String,
    },
    /// A secret or token is not available at the moment; a retry may succeed. Nothing was executed.
    #[error("the credential cannot be had at the moment: {detail}")]
    CredentialPending {
        /// Which, and why; never its value.
        detail: String,
    },
    /// The server lost the MCP session twice in a row. Nothing was executed.
    #[error("the server loses its MCP sessions: a fresh one was gone at once")]
    SessionLost,
    /// The server speaks none of our protocol versions. Nothing was executed.
    #[error("the server supports none of our MCP versions; it names {}", supported.join(", "))]
    VersionUnsupported {
        /// What the server says it supports.
        supported: Vec<String>,
    },
    /// The address does not speak the transport that it is registered with. Nothing was executed.
    #[error("the address does not speak the transport it is registered with: {detail}")]
    WrongTransport {
        /// What was expected, what was found, and the remedy.
        detail: String,
    },
    /// The server is asked in a session-bound version, which has nothing to resume. Nothing was sent.
    #[error("the server speaks {version} now, in which nothing can be resumed; it asked in a later version")]
    NotResumable {
        /// The version it speaks.
        version: String,
    },
    /// A JSON-RPC error with the request's id that refuses the request itself: see `refuses_request`. Nothing was executed.
    #[error("the server answered with JSON-RPC error {code}: {message}")]
    Rpc {
        /// The JSON-RPC error code.
        code: i64,
        /// The server's message, shortened.
        message: String,
    },
    /// Any other JSON-RPC error, or one without the request's id: the tool may have run before it.
    #[error(
        "the server answered with JSON-RPC error {code}, which leaves open whether the tool ran: {message}"
    )]
    RpcAmbiguous {
        /// The JSON-RPC error code.
        code: i64,
        /// The server's message, shortened.
        message: String,
    },
    /// An HTTP status that leaves open whether the tool ran: every 5xx, and each 4xx that `refuses_by_status` does not name.
    #[error("the server answered HTTP {status}{}", if detail.is_empty() { String::new() } else { format!(": {detail}") })]
    ServerStatus {
        /// The HTTP status.
        status: u16,
        /// The start of the body, shortened.
        detail: String,
        /// `Retry-After`, in milliseconds (capped where it was read).
        retry_after_ms: Option<u64>,
    },
    /// An HTTP status that a server gives before it runs anything: see `refuses_by_status`. Nothing was executed.
    #[error("the server refused the request with HTTP {status}{}", if detail.is_empty() { String::new() } else { format!(": {detail}") })]
    ClientStatus {
        /// The HTTP status.
        status: u16,
        /// The start of the body, shortened.
        detail: String,
    },
    /// The connection broke, or the stream ended, after the request was sent.
    #[error("the answer was lost: {detail}")]
    AnswerLost {
        /// What was seen.
        detail: String,
    },
    /// The attempt's own time was over after the request was sent.
    #[error("no answer within {after_ms} ms{}", if detail.is_empty() { String::new() } else { format!("; {detail}") })]
    AttemptTimeout {
        /// How long was waited.
        after_ms: u64,
        /// What is known of the server meanwhile: the last lines that a program wrote on stderr. Empty where nothing is.
        detail: String,
    },
    /// The answer is not MCP: not JSON, wrong content type, wrong or no id.
    #[error("the server's answer is not valid MCP: {detail}")]
    InvalidAnswer {
        /// What was expected and what was found.
        detail: String,
    },
    /// The answer is larger than the bound and was dropped.
    #[error("the server's answer is larger than {limit_bytes} bytes")]
    AnswerTooLarge {
        /// The bound.
        limit_bytes: u64,
    },
    /// The server's address may not be called: it is not public, or without TLS. Nothing was sent.
    #[error("the server's address may not be called: {detail}")]
    AddressRefused {
        /// The host, its address, and the remedy.
        detail: String,
    },
    /// The server redirects to another origin, which is not followed.
    #[error("the server redirects to {location}, which is not followed")]
    Redirect {
        /// Where to, without query.
        location: String,
        /// 307 and 308 send the request elsewhere before it is processed; the others may come after the tool ran.
        may_have_run: MayHaveRun,
    },
}

/// A server's reason as the end of a sentence; nothing where it is empty.
fn reason(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

/// What prevented a call from being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSentCause {
    /// The server was reached and failed, or its program did.
    Answer,
    /// The attempt's time was over.
    Time,
    /// The worker already runs as many programs of the server as it may.
    Place,
    /// The program that the catalog names cannot be started here as it is named: no such file, not executable, no such folder.
    Command,
}

impl Fault {
    /// The same fault, with `change` made to every text that came from outside.
    #[must_use]
    pub fn map_text(self, change: impl Fn(String) -> String) -> Self {
        match self {
            Self::Connect { detail } => Self::Connect { detail: change(detail) },
            Self::NotSent { detail, cause } => Self::NotSent { detail: change(detail), cause },
            Self::SessionStoreUnavailable { detail } => {
                Self::SessionStoreUnavailable { detail: change(detail) }
            }
            Self::Unauthorized { detail } => Self::Unauthorized { detail: change(detail) },
            Self::Forbidden { scope, detail } => {
                Self::Forbidden { scope: scope.map(&change), detail: change(detail) }
            }
            Self::Credential { detail } => Self::Credential { detail: change(detail) },
            Self::CredentialPending { detail } => Self::CredentialPending { detail: change(detail) },
            Self::VersionUnsupported { supported } => {
                Self::VersionUnsupported { supported: supported.into_iter().map(change).collect() }
            }
            Self::WrongTransport { detail } => Self::WrongTransport { detail: change(detail) },
            Self::NotResumable { version } => Self::NotResumable { version: change(version) },
            Self::Rpc { code, message } => Self::Rpc { code, message: change(message) },
            Self::RpcAmbiguous { code, message } => Self::RpcAmbiguous { code, message: change(message) },
            Self::ServerStatus { status, detail, retry_after_ms } => {
                Self::ServerStatus { status, detail: change(detail), retry_after_ms }
            }
            Self::ClientStatus { status, detail } => Self::ClientStatus { status, detail: change(detail) },
            Self::AnswerLost { detail } => Self::AnswerLost { detail: change(detail) },
            Self::AttemptTimeout { after_ms, detail } => {
                Self::AttemptTimeout { after_ms, detail: change(detail) }
            }
            Self::InvalidAnswer { detail } => Self::InvalidAnswer { detail: change(detail) },
            Self::AddressRefused { detail } => Self::AddressRefused { detail: change(detail) },
            Self::Redirect { location, may_have_run } => {
                Self::Redirect { location: change(location), may_have_run }
            }
            Self::RateLimited { .. } | Self::SessionLost | Self::AnswerTooLarge { .. } => self,
        }
    }
}

impl From<EgressError> for Fault {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::AddressRefused { detail } => Self::AddressRefused { detail },
            EgressError::Connect { detail } => Self::Connect { detail },
            EgressError::Interrupted { detail } => Self::AnswerLost { detail },
            EgressError::Encoding { detail } => Self::InvalidAnswer { detail },
            EgressError::BodyTooLarge { limit_bytes } => Self::AnswerTooLarge { limit_bytes },
        }
    }
}

impl From<CredentialError> for Fault {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Unavailable { detail } => Self::Credential { detail },
            CredentialError::Pending { detail } => Self::CredentialPending { detail },
            CredentialError::AddressRefused { detail } => Self::AddressRefused { detail },
        }
    }
}

/// The error of an answer with an invalid member.
pub(crate) fn invalid(what: &str, found: &str) -> Fault {
    Fault::InvalidAnswer { detail: format!("{what}: {}", sanitize_text(found)) }
}
