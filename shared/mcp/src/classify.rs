//! Owns what an HTTP answer without a result means.
//!
//! **Invariant:** a status or code that does not prove that nothing ran is never turned into a fault that says so.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use reqwest::Response;
use toolfleet_core::fault::Fault;

use crate::auth::Challenge;
use crate::stream::read_body;
use crate::wire::{INTERNAL_ERROR, METHOD_NOT_FOUND, RpcError, VERSION_UNSUPPORTED, error_in};
use crate::words::{shorten, shorten_bytes};

/// The bound on the body of an error status.
const MAX_ERROR_BODY_BYTES: u64 = 64 * 1024;
/// No server makes a call wait longer than this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A request that got no result: the fault, and the server's refusal where it gave one.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) fault: Fault,
    pub(crate) refusal: Option<Refusal>,
}

/// What a server said when it refused a request, for those who may know a remedy.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: Option<i64>,
    /// Shortened, in lower case.
    pub(crate) text: String,
    pub(crate) supported: Vec<String>,
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self { fault, refusal: None }
    }
}

impl Trouble {
    /// A JSON-RPC error that came with this status.
    pub(crate) fn of_rpc(status: u16, error: RpcError) -> Self {
        let RpcError { code, message, supported } = error;
        let text = message.to_lowercase();
        let fault = match code {
            INTERNAL_ERROR => Fault::RpcInternal { message },
            VERSION_UNSUPPORTED => Fault::VersionUnsupported { supported: supported.clone() },
            _ => Fault::Rpc { code, message },
        };
        Self { fault, refusal: Some(Refusal { status, code: Some(code), text, supported }) }
    }

    /// A response whose status is no success.
    pub(crate) async fn of_response(response: Response) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        // A body that breaks off takes nothing from what the status says.
        let body = read_body(response, MAX_ERROR_BODY_BYTES).await.unwrap_or_default();
        Self::of_status(status, &headers, &body)
    }

    fn of_status(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        let error = error_in(body);
        let detail = error.as_ref().map_or_else(|| shorten_bytes(body), |error| error.message.clone());
        let text = detail.to_lowercase();
        let fault = match (status, error) {
            (401, _) => return Fault::Unauthorized.into(),
            (403, _) => {
                let scope = Challenge::of(headers).scope.map(|scope| shorten(&scope));
                return Fault::Forbidden { scope }.into();
            }
            (429, _) => {
                return Fault::RateLimited { retry_after_ms: retry_after_ms(headers) }.into();
            }
            (500..=599, _) => Fault::ServerStatus { status, detail },
            (_, Some(error)) => return Self::of_rpc(status, error),
            (_, None) => Fault::ClientStatus { status, detail },
        };
        Self { fault, refusal: Some(Refusal { status, code: None, text, supported: Vec::new() }) }
    }
}

impl Refusal {
    /// The server does not know the session (any more): 404, or 400 that names it.
    pub(crate) fn is_session_lost(&self, had_session: bool) -> bool {
        match self.status {
            404 => had_session && self.code != Some(METHOD_NOT_FOUND),
            400 => matches!(self.code, None | Some(-32000 | -32600)) && self.text.contains("session"),
            _ => false,
        }
    }

    /// What a server that does not know 2026-07-28 says to it. It is no proof, only a reason to ask again.
    pub(crate) fn may_be_legacy(&self) -> bool {
        matches!(self.status, 400 | 404 | 405 | 406 | 415)
            && matches!(self.code, None | Some(-32000 | -32001 | -32600))
    }
}

/// A fault met before the tool call was sent, as a fault that says so.
///
/// What is ambiguous for a tool is not so here: whatever `initialize` did, the tool did not run.
pub(crate) fn before_call(fault: Fault, doing: &str) -> Fault {
    match fault {
        Fault::Connect { .. }
        | Fault::RateLimited { .. }
        | Fault::RegisterAway { .. }
        | Fault::Unauthorized
        | Fault::Forbidden { .. }
        | Fault::Credential { .. }
        | Fault::CredentialPending { .. }
        | Fault::AddressRefused { .. }
        | Fault::SessionLost
        | Fault::VersionUnsupported { .. }
        | Fault::NotResumable { .. }
        | Fault::Rpc { .. }
        | Fault::ClientStatus { .. }
        | Fault::Redirect { .. } => fault,
        Fault::RpcInternal { .. }
        | Fault::ServerStatus { .. }
        | Fault::AnswerLost { .. }
        | Fault::AttemptTimeout { .. }
        | Fault::InvalidAnswer { .. }
        | Fault::AnswerTooLarge { .. } => {
            Fault::Connect { detail: format!("while {doing}: {fault}; no tool call was sent") }
        }
    }
}

/// RFC 9110, section 10.2.3: seconds, or a date, which is measured against the response's own `Date`.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse().map(Duration::from_secs) {
        Ok(wait) => wait,
        Err(_) => {
            let until = httpdate::parse_http_date(text).ok()?;
            let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
            until.duration_since(now).unwrap_or_default()
        }
    };
    u64::try_from(wait.min(MAX_RETRY_AFTER).as_millis()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect()
    }

    fn fault(status: u16, pairs: &[(&'static str, &'static str)], body: &str) -> Fault {
        Trouble::of_status(status, &headers(pairs), body.as_bytes()).fault
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_against_the_servers_own_date_and_capped() {
        let limited = |pairs: &[_]| fault(429, pairs, "");
        let wait = |ms| Fault::RateLimited { retry_after_ms: ms };
        assert_eq!(limited(&[("retry-after", "7")]), wait(Some(7000)));
        assert_eq!(limited(&[("retry-after", "999999")]), wait(Some(3_600_000)));
        let date = ("date", "Sat, 21 Nov 2026 09:00:00 GMT");
        assert_eq!(limited(&[date, ("retry-after", "Sat, 21 Nov 2026 09:00:30 GMT")]), wait(Some(30_000)));
        assert_eq!(limited(&[date, ("retry-after", "Sat, 21 Nov 2026 08:00:30 GMT")]), wait(Some(0)));
        assert_eq!(limited(&[("retry-after", "Sat, 21 Nov 2026 09:00:30 GMT")]), wait(None));
        assert_eq!(limited(&[("retry-after", "soon")]), wait(None));
    }

    #[test]
    fn a_forbidden_call_names_the_scope_the_server_wants() {
        let challenge = ("www-authenticate", "Bearer error=\"insufficient_scope\", scope=\"files:write\"");
        assert_eq!(fault(403, &[challenge], ""), Fault::Forbidden { scope: Some("files:write".to_owned()) });
        assert_eq!(fault(403, &[], ""), Fault::Forbidden { scope: None });
    }

    #[test]
    fn every_status_of_the_500s_is_ambiguous_even_with_a_retry_after() {
        for status in [500, 501, 502, 503, 504, 507, 599] {
            let found = fault(status, &[("retry-after", "5")], "oh\nno");
            assert_eq!(found, Fault::ServerStatus { status, detail: "oh no".to_owned() });
        }
    }

    #[test]
    fn an_internal_error_in_a_400_stays_ambiguous() {
        let body = r#"{"id":1,"error":{"code":-32603,"message":"boom"}}"#;
        assert_eq!(fault(400, &[], body), Fault::RpcInternal { message: "boom".to_owned() });
    }

    #[test]
    fn a_lost_session_is_told_in_both_shapes_and_an_unknown_method_is_none() {
        let lost = |status, body: &str| {
            let trouble = Trouble::of_status(status, &HeaderMap::new(), body.as_bytes());
            trouble.refusal.is_some_and(|refusal| refusal.is_session_lost(true))
        };
        assert!(lost(404, ""));
        assert!(lost(404, r#"{"error":{"code":-32001,"message":"Session not found"}}"#));
        assert!(lost(
            400,
            r#"{"error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}"#
        ));
        assert!(!lost(404, r#"{"error":{"code":-32601,"message":"Method not found"}}"#));
        assert!(!lost(400, r#"{"error":{"code":-32602,"message":"the session argument is wrong"}}"#));
    }
}
