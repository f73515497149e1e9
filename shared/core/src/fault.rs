//! Owns the failed attempt: what a try to execute a call met, and what that means for retry, blame and effect.
//!
//! **Invariant:** the three questions (`retry_class`, `blame`, `may_have_run`) are answered for every fault by name,
//! without wildcard arms, so that a new fault cannot be classified by accident.

use crate::outcome::{Code, MayHaveRun};

/// What one attempt met instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection: refused, DNS, TLS, or a refused HTTP/2 stream. Nothing was executed.
    #[error("cannot connect to the server: {detail}")]
    Connect {
        /// What the network said.
        detail: String,
    },
    /// HTTP 429, or the server's own word to slow down. Nothing was executed.
    #[error("the server asks to slow down")]
    RateLimited {
        /// How long it asks to wait, in milliseconds (capped where it was read).
        retry_after_ms: Option<u64>,
    },
    /// The fleet's own register of sessions could not be asked. Nothing was sent.
    #[error("the conversation's session cannot be looked up: {detail}")]
    RegisterAway {
        /// What went wrong.
        detail: String,
    },
    /// HTTP 401 that one fresh credential did not cure. Nothing was executed.
    #[error("the server did not accept the credentials (HTTP 401)")]
    Unauthorized,
    /// HTTP 403. Nothing was executed.
    #[error("the server forbids this call (HTTP 403){}", scope.as_ref().map(|s| format!("; it wants the scope `{s}`")).unwrap_or_default())]
    Forbidden {
        /// The scope the server asked for, where it named one.
        scope: Option<String>,
    },
    /// A secret named by the server's configuration could not be had. Nothing was sent.
    #[error("the credential is not available: {detail}")]
    Credential {
        /// Which secret and why; never its value.
        detail: String,
    },
    /// A secret or token cannot be had at the moment; that may pass. Nothing was executed.
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
    /// The server is asked in a session-bound version, which has nothing to resume. Nothing was sent.
    #[error("the server speaks {version} now, in which nothing can be resumed; it asked in a later version")]
    NotResumable {
        /// The version it speaks.
        version: String,
    },
    /// A JSON-RPC error that says the request itself is wrong (-32700, -32600, -32601, -32602, -32020, -32021 or its own).
    #[error("the server answered with JSON-RPC error {code}: {message}")]
    Rpc {
        /// The JSON-RPC error code.
        code: i64,
        /// The server's message, shortened.
        message: String,
    },
    /// JSON-RPC -32603: the server failed, and may have run the tool.
    #[error("the server met an internal error (-32603): {message}")]
    RpcInternal {
        /// The server's message, shortened.
        message: String,
    },
    /// HTTP 500, 502, 503 or 504: ambiguous, the tool may have run.
    #[error("the server answered HTTP {status}{}", if detail.is_empty() { String::new() } else { format!(": {detail}") })]
    ServerStatus {
        /// The HTTP status.
        status: u16,
        /// The start of the body, shortened.
        detail: String,
    },
    /// Any other HTTP status that is not an answer (4xx): the server took the request for wrong.
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
    #[error("no answer within {after_ms} ms")]
    AttemptTimeout {
        /// How long was waited.
        after_ms: u64,
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
    },
}

/// How long a call waits for our own register of sessions, in milliseconds.
const REGISTER_PAUSE_MS: u64 = 1_000;

/// What may follow a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryClass {
    /// The tool was not executed: any call may try again.
    NotExecuted,
    /// The tool was not executed and the server wants a pause: give the call back for that long.
    Pause {
        /// How long, in milliseconds, where the server said.
        after_ms: Option<u64>,
    },
    /// The tool may have run: only what is safe to repeat may try again.
    Ambiguous,
    /// Trying again will not help.
    Permanent,
}

/// Whose fault it was. Only the server's moves its breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The server is broken or away.
    Server,
    /// The request is wrong; the server is fine.
    Request,
    /// Our configuration or credentials are wrong; the server is fine.
    Configuration,
}

impl Fault {
    /// The same fault, with `change` made to every text that came from outside.
    #[must_use]
    pub fn map_text(self, change: impl Fn(String) -> String) -> Self {
        match self {
            Self::Connect { detail } => Self::Connect { detail: change(detail) },
            Self::RegisterAway { detail } => Self::RegisterAway { detail: change(detail) },
            Self::Forbidden { scope } => Self::Forbidden { scope: scope.map(change) },
            Self::Credential { detail } => Self::Credential { detail: change(detail) },
            Self::CredentialPending { detail } => Self::CredentialPending { detail: change(detail) },
            Self::VersionUnsupported { supported } => {
                Self::VersionUnsupported { supported: supported.into_iter().map(change).collect() }
            }
            Self::NotResumable { version } => Self::NotResumable { version: change(version) },
            Self::Rpc { code, message } => Self::Rpc { code, message: change(message) },
            Self::RpcInternal { message } => Self::RpcInternal { message: change(message) },
            Self::ServerStatus { status, detail } => Self::ServerStatus { status, detail: change(detail) },
            Self::ClientStatus { status, detail } => Self::ClientStatus { status, detail: change(detail) },
            Self::AnswerLost { detail } => Self::AnswerLost { detail: change(detail) },
            Self::InvalidAnswer { detail } => Self::InvalidAnswer { detail: change(detail) },
            Self::AddressRefused { detail } => Self::AddressRefused { detail: change(detail) },
            Self::Redirect { location } => Self::Redirect { location: change(location) },
            Self::RateLimited { .. }
            | Self::Unauthorized
            | Self::SessionLost
            | Self::AttemptTimeout { .. }
            | Self::AnswerTooLarge { .. } => self,
        }
    }

    /// What may follow.
    pub const fn retry_class(&self) -> RetryClass {
        match self {
            Self::Connect { .. } | Self::CredentialPending { .. } | Self::SessionLost => {
                RetryClass::NotExecuted
            }
            Self::RateLimited { retry_after_ms } => RetryClass::Pause { after_ms: *retry_after_ms },
            Self::RegisterAway { .. } => RetryClass::Pause { after_ms: Some(REGISTER_PAUSE_MS) },
            Self::RpcInternal { .. }
            | Self::ServerStatus { .. }
            | Self::AnswerLost { .. }
            | Self::AttemptTimeout { .. } => RetryClass::Ambiguous,
            Self::Unauthorized
            | Self::Forbidden { .. }
            | Self::Credential { .. }
            | Self::VersionUnsupported { .. }
            | Self::NotResumable { .. }
            | Self::Rpc { .. }
            | Self::ClientStatus { .. }
            | Self::InvalidAnswer { .. }
            | Self::AnswerTooLarge { .. }
            | Self::AddressRefused { .. }
            | Self::Redirect { .. } => RetryClass::Permanent,
        }
    }

    /// Whose fault it was.
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Connect { .. }
            | Self::RateLimited { .. }
            | Self::SessionLost
            | Self::RpcInternal { .. }
            | Self::ServerStatus { .. }
            | Self::AnswerLost { .. }
            | Self::AttemptTimeout { .. }
            | Self::InvalidAnswer { .. } => Blame::Server,
            Self::Rpc { .. } | Self::ClientStatus { .. } | Self::AnswerTooLarge { .. } => Blame::Request,
            Self::Unauthorized
            | Self::RegisterAway { .. }
            | Self::Forbidden { .. }
            | Self::Credential { .. }
            | Self::CredentialPending { .. }
            | Self::VersionUnsupported { .. }
            | Self::NotResumable { .. }
            | Self::AddressRefused { .. }
            | Self::Redirect { .. } => Blame::Configuration,
        }
    }

    /// Whether the tool may have had an effect.
    pub const fn may_have_run(&self) -> MayHaveRun {
        match self {
            Self::Connect { .. }
            | Self::RateLimited { .. }
            | Self::RegisterAway { .. }
            | Self::Unauthorized
            | Self::Forbidden { .. }
            | Self::Credential { .. }
            | Self::CredentialPending { .. }
            | Self::SessionLost
            | Self::VersionUnsupported { .. }
            | Self::NotResumable { .. }
            | Self::Rpc { .. }
            | Self::ClientStatus { .. }
            | Self::AddressRefused { .. }
            | Self::Redirect { .. } => MayHaveRun::No,
            Self::RpcInternal { .. }
            | Self::ServerStatus { .. }
            | Self::AnswerLost { .. }
            | Self::AttemptTimeout { .. }
            | Self::InvalidAnswer { .. }
            | Self::AnswerTooLarge { .. } => MayHaveRun::Unknown,
        }
    }

    /// The code a caller sees when this fault ends the call.
    pub const fn code(&self) -> Code {
        match self {
            Self::Connect { .. } => Code::ServerUnreachable,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::RegisterAway { .. } => Code::InternalError,
            Self::Unauthorized => Code::Unauthorized,
            Self::Forbidden { .. } => Code::Forbidden,
            Self::Credential { .. } | Self::CredentialPending { .. } => Code::CredentialUnavailable,
            Self::SessionLost | Self::ServerStatus { .. } | Self::ClientStatus { .. } => Code::ServerError,
            Self::VersionUnsupported { .. } => Code::VersionUnsupported,
            Self::NotResumable { .. } => Code::NotResumable,
            Self::Rpc { .. } | Self::RpcInternal { .. } => Code::RpcError,
            Self::AnswerLost { .. } => Code::AnswerLost,
            Self::AttemptTimeout { .. } => Code::AttemptTimedOut,
            Self::InvalidAnswer { .. } => Code::InvalidAnswer,
            Self::AnswerTooLarge { .. } => Code::AnswerTooLarge,
            Self::AddressRefused { .. } => Code::AddressRefused,
            Self::Redirect { .. } => Code::Redirected,
        }
    }
}
