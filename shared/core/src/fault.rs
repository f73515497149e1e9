//! Owns the failed attempt: what a try to execute a call met, and what that means for retry, blame and effect.
//!
//! "It did not run" is an allow-list of proofs: no connection; a JSON-RPC error that refuses the request itself and carries the
//! request's id; an HTTP status that a server gives before it runs anything. Whatever else a server answers leaves it open.
//!
//! **Invariant:** the three questions (`retry_class`, `blame`, `may_have_run`) are answered for every fault by name,
//! without wildcard arms, so that a new fault cannot be classified by accident.

pub use crate::failure::{Blame, RetryClass};
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
    /// What has to come before the call failed, so that the call was not sent: the server's version, its session, its program.
    #[error("the call was not sent: {detail}")]
    NotSent {
        /// What was tried, and what it met.
        detail: String,
        /// What was in the way.
        cause: NotSentCause,
    },
    /// HTTP 429, or the server's own word to slow down. Nothing was executed.
    #[error("the server asks to slow down")]
    RateLimited {
        /// How long it asks to wait, in milliseconds (capped where it was read).
        retry_after_ms: Option<u64>,
    },
    /// The fleet's own register of sessions could not be asked. Nothing was sent.
    #[error("the conversation's session cannot be looked up: {detail}")]
    SessionStoreUnavailable {
        /// What went wrong.
        detail: String,
    },
    /// HTTP 401 that one fresh credential did not cure. Nothing was executed.
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
    /// The server refuses a POST and answers a GET as the transport of 2024-11-05 does, which is not spoken here. Nothing was executed.
    #[error(
        "the server speaks the old HTTP+SSE transport of MCP 2024-11-05 at this address, which is not spoken here; register its streamable \
         HTTP address (often the same host with the path `/mcp`), or a bridge to it as a program (such as `npx mcp-remote URL`)"
    )]
    OldTransport,
    /// The server is asked in a session-bound version, which has nothing to resume. Nothing was sent.
    #[error("the server speaks {version} now, in which nothing can be resumed; it asked in a later version")]
    NotResumable {
        /// The version it speaks.
        version: String,
    },
    /// A JSON-RPC error with the request's id that refuses the request itself: see [`refuses_request`]. Nothing was executed.
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
    /// An HTTP status that leaves open whether the tool ran: every 5xx, and each 4xx that [`refuses_by_status`] does not name.
    #[error("the server answered HTTP {status}{}", if detail.is_empty() { String::new() } else { format!(": {detail}") })]
    ServerStatus {
        /// The HTTP status.
        status: u16,
        /// The start of the body, shortened.
        detail: String,
        /// `Retry-After`, in milliseconds (capped where it was read).
        retry_after_ms: Option<u64>,
    },
    /// An HTTP status that a server gives before it runs anything: see [`refuses_by_status`]. Nothing was executed.
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

/// A server's reason as the end of a sentence.
fn reason(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

/// What kept a call from being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotSentCause {
    /// The server was reached and failed, or its program did.
    Answer,
    /// The attempt's time was over.
    Time,
    /// All places of this worker for the server's programs are in use.
    Place,
    /// The program that the catalog names cannot be started here as it is named: no such file, not executable, no such folder.
    Command,
}

/// Whether this JSON-RPC error code, in an answer with the request's id, proves that the tool did not run: parse error, invalid
/// request, unknown method, invalid params (JSON-RPC 2.0, section 5.1), and the header, capability and version errors of MCP
/// 2026-07-28.
pub const fn refuses_request(code: i64) -> bool {
    matches!(code, -32_700 | -32_602..=-32_600 | -32_022..=-32_020)
}

/// Whether this HTTP status proves that the tool did not run, unless the body is a JSON-RPC answer that says otherwise.
pub const fn refuses_by_status(status: u16) -> bool {
    matches!(status, 400 | 401 | 403..=406 | 413 | 415 | 429)
}

/// Statuses and codes after which the same request may succeed: 5xx, request time-out, misdirected, too early; an internal error,
/// and the codes that MCP's SDKs use for a closed connection and a request time-out.
const fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 421 | 425 | 500..=599)
}

const fn code_may_pass(code: i64) -> bool {
    matches!(code, -32_603 | -32_000 | -32_001)
}

/// How long a call waits for our own register of sessions, in milliseconds.
const REGISTER_PAUSE_MS: u64 = 1_000;

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
            Self::RateLimited { .. }
            | Self::SessionLost
            | Self::OldTransport
            | Self::AnswerTooLarge { .. } => self,
        }
    }

    /// The fault without any word of the server: what other calls, other callers and other tenants may be told of it.
    pub fn summary(&self) -> String {
        match self {
            Self::NotSent { cause: NotSentCause::Answer, .. } => {
                "what has to come before a call failed at the server".to_owned()
            }
            Self::NotSent { cause: NotSentCause::Time, .. } => {
                "the attempt's time was over before the call could be sent".to_owned()
            }
            Self::AttemptTimeout { after_ms, .. } => format!("no answer within {after_ms} ms"),
            Self::Forbidden { .. } => "the server forbids the call (HTTP 403)".to_owned(),
            Self::Unauthorized { .. } => "the server did not accept the credentials (HTTP 401)".to_owned(),
            Self::Rpc { code, .. } | Self::RpcAmbiguous { code, .. } => {
                format!("the server answered with JSON-RPC error {code}")
            }
            Self::ServerStatus { status, .. } | Self::ClientStatus { status, .. } => {
                format!("the server answered HTTP {status}")
            }
            Self::VersionUnsupported { .. } => "the server supports none of our MCP versions".to_owned(),
            Self::InvalidAnswer { .. } => "the server's answer is not valid MCP".to_owned(),
            Self::Redirect { .. } => "the server redirects".to_owned(),
            Self::AnswerLost { .. } => "the answer was lost".to_owned(),
            // These hold words of our own: of the network, of the configuration, numbers.
            Self::Connect { .. }
            | Self::NotSent { .. }
            | Self::RateLimited { .. }
            | Self::SessionStoreUnavailable { .. }
            | Self::Credential { .. }
            | Self::CredentialPending { .. }
            | Self::SessionLost
            | Self::OldTransport
            | Self::NotResumable { .. }
            | Self::AnswerTooLarge { .. }
            | Self::AddressRefused { .. } => self.to_string(),
        }
    }

    /// What may follow.
    pub const fn retry_class(&self) -> RetryClass {
        match self {
            Self::NotSent { cause: NotSentCause::Command, .. } => RetryClass::Permanent,
            Self::Connect { .. }
            | Self::NotSent { .. }
            | Self::CredentialPending { .. }
            | Self::SessionLost => RetryClass::NotExecuted,
            Self::RateLimited { retry_after_ms } => RetryClass::Pause { after_ms: *retry_after_ms },
            Self::SessionStoreUnavailable { .. } => RetryClass::Pause { after_ms: Some(REGISTER_PAUSE_MS) },
            Self::ServerStatus { status: 429 | 503, retry_after_ms: Some(ms), .. } => {
                RetryClass::Pause { after_ms: Some(*ms) }
            }
            Self::ServerStatus { status: 429, retry_after_ms: None, .. } => {
                RetryClass::Pause { after_ms: None }
            }
            Self::ServerStatus { status, .. } if may_pass(*status) => RetryClass::Ambiguous,
            Self::RpcAmbiguous { code, .. } if code_may_pass(*code) => RetryClass::Ambiguous,
            Self::AnswerLost { .. } | Self::AttemptTimeout { .. } => RetryClass::Ambiguous,
            Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Credential { .. }
            | Self::VersionUnsupported { .. }
            | Self::OldTransport
            | Self::NotResumable { .. }
            | Self::Rpc { .. }
            | Self::RpcAmbiguous { .. }
            | Self::ServerStatus { .. }
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
            Self::NotSent { cause: NotSentCause::Command, .. } => Blame::Configuration,
            Self::Connect { .. }
            | Self::NotSent { .. }
            | Self::RateLimited { .. }
            | Self::SessionLost
            | Self::AnswerLost { .. }
            | Self::AttemptTimeout { .. }
            | Self::InvalidAnswer { .. } => Blame::Server,
            Self::ServerStatus { status, .. } if may_pass(*status) => Blame::Server,
            Self::RpcAmbiguous { code: -32_603, .. } => Blame::Server,
            Self::Rpc { .. }
            | Self::RpcAmbiguous { .. }
            | Self::ServerStatus { .. }
            | Self::ClientStatus { .. }
            | Self::AnswerTooLarge { .. } => Blame::Request,
            Self::Unauthorized { .. }
            | Self::SessionStoreUnavailable { .. }
            | Self::Forbidden { .. }
            | Self::Credential { .. }
            | Self::CredentialPending { .. }
            | Self::VersionUnsupported { .. }
            | Self::OldTransport
            | Self::NotResumable { .. }
            | Self::AddressRefused { .. }
            | Self::Redirect { .. } => Blame::Configuration,
        }
    }

    /// Whether the tool may have had an effect.
    pub const fn may_have_run(&self) -> MayHaveRun {
        match self {
            Self::Connect { .. }
            | Self::NotSent { .. }
            | Self::RateLimited { .. }
            | Self::SessionStoreUnavailable { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Credential { .. }
            | Self::CredentialPending { .. }
            | Self::SessionLost
            | Self::VersionUnsupported { .. }
            | Self::OldTransport
            | Self::NotResumable { .. }
            | Self::Rpc { .. }
            | Self::ClientStatus { .. }
            | Self::AddressRefused { .. } => MayHaveRun::No,
            Self::Redirect { may_have_run, .. } => *may_have_run,
            Self::RpcAmbiguous { .. }
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
            Self::Connect { .. } | Self::NotSent { .. } => Code::ServerUnreachable,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::SessionStoreUnavailable { .. } => Code::InternalError,
            Self::Unauthorized { .. } => Code::Unauthorized,
            Self::Forbidden { .. } => Code::Forbidden,
            Self::Credential { .. } | Self::CredentialPending { .. } => Code::CredentialUnavailable,
            Self::SessionLost | Self::ServerStatus { .. } | Self::ClientStatus { .. } => Code::ServerError,
            Self::VersionUnsupported { .. } => Code::VersionUnsupported,
            Self::OldTransport => Code::TransportUnsupported,
            Self::NotResumable { .. } => Code::NotResumable,
            Self::Rpc { .. } | Self::RpcAmbiguous { .. } => Code::RpcError,
            Self::AnswerLost { .. } => Code::AnswerLost,
            Self::AttemptTimeout { .. } => Code::AttemptTimedOut,
            Self::InvalidAnswer { .. } => Code::InvalidAnswer,
            Self::AnswerTooLarge { .. } => Code::AnswerTooLarge,
            Self::AddressRefused { .. } => Code::AddressRefused,
            Self::Redirect { .. } => Code::Redirected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_holds_no_word_of_the_server() {
        let words = || "Jane Doe".to_owned();
        let faults = [
            Fault::NotSent { detail: words(), cause: NotSentCause::Answer },
            Fault::NotSent { detail: words(), cause: NotSentCause::Time },
            Fault::AttemptTimeout { after_ms: 1, detail: words() },
            Fault::Forbidden { scope: Some(words()), detail: words() },
            Fault::Unauthorized { detail: words() },
            Fault::VersionUnsupported { supported: vec![words()] },
            Fault::Rpc { code: -32602, message: words() },
            Fault::RpcAmbiguous { code: 42, message: words() },
            Fault::ServerStatus { status: 500, detail: words(), retry_after_ms: None },
            Fault::ClientStatus { status: 400, detail: words() },
            Fault::AnswerLost { detail: words() },
            Fault::InvalidAnswer { detail: words() },
            Fault::Redirect { location: words(), may_have_run: MayHaveRun::No },
        ];
        for fault in faults {
            assert!(!fault.summary().contains("Jane"), "{fault:?}");
        }
    }
}
