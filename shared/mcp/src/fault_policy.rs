//! What each [`Fault`] means for retry, blame and effect.
//!
//! "It did not run" is an allow-list of proofs: no connection; a JSON-RPC error that refuses the request itself and carries the
//! request's id; an HTTP status that a server gives before it runs anything. Whatever else a server answers leaves it open.
//!
//! **Invariant:** `retry_class`, `blame` and `may_have_run` name every fault, without wildcard arms, so that a new fault cannot be
//! classified by accident.

use toolfleet_core::failure::{Blame, RetryClass};
use toolfleet_core::outcome::{Code, MayHaveRun};

use crate::fault::{Fault, NotSentCause};

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

/// How long a call waits for our own session store, in milliseconds.
const SESSION_STORE_PAUSE_MS: u64 = 1_000;

impl Fault {
    /// The fault without any text of the server: other calls, other callers and other tenants may see it.
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
            Self::WrongTransport { .. } => {
                "the address does not speak the transport it is registered with".to_owned()
            }
            Self::AnswerLost { .. } => "the answer was lost".to_owned(),
            // These hold no text of the server.
            Self::Connect { .. }
            | Self::NotSent { .. }
            | Self::RateLimited { .. }
            | Self::SessionStoreUnavailable { .. }
            | Self::Credential { .. }
            | Self::CredentialPending { .. }
            | Self::SessionLost
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
            Self::SessionStoreUnavailable { .. } => {
                RetryClass::Pause { after_ms: Some(SESSION_STORE_PAUSE_MS) }
            }
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
            | Self::WrongTransport { .. }
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
            | Self::WrongTransport { .. }
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
            | Self::WrongTransport { .. }
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
            Self::ClientStatus { status: 413, .. } => Code::RequestTooLarge,
            Self::SessionLost | Self::ServerStatus { .. } | Self::ClientStatus { .. } => Code::ServerError,
            Self::VersionUnsupported { .. } => Code::VersionUnsupported,
            Self::WrongTransport { .. } => Code::TransportUnsupported,
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
    fn a_summary_holds_no_text_of_the_server() {
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
            Fault::WrongTransport { detail: words() },
            Fault::Redirect { location: words(), may_have_run: MayHaveRun::No },
        ];
        for fault in faults {
            assert!(!fault.summary().contains("Jane"), "{fault:?}");
        }
    }
}
