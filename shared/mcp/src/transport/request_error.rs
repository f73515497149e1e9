//! Maps an HTTP or JSON-RPC error to a [`Fault`], and keeps what a remedy needs to know of the refusal.
//!
//! **Invariant:** a status or code that does not prove that nothing ran never becomes a fault that says so.

use std::time::Duration;

use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use reqwest::Response;
use toolfleet_core::failure::RetryClass;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_credentials::Challenge;
use toolfleet_egress::{ResponseBody, sanitize_text};

use crate::fault::{Fault, NotSentCause};
use crate::fault_policy::{refuses_by_status, refuses_request};
use crate::protocol::frame::{InBody, RpcError, error_in};
use crate::protocol::wire::{HEADER_MISMATCH, METHOD_NOT_FOUND, VERSION_UNSUPPORTED};
use crate::transport::http::error_body::reason_in;

/// The bound on the body of an error status.
pub(crate) const MAX_ERROR_BODY_BYTES: u64 = 64 * 1024;
/// No server makes a call wait longer than this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A request that got no result: the fault, and the server's refusal where it gave one.
#[derive(Debug)]
pub(crate) struct RequestError {
    pub(crate) fault: Fault,
    pub(crate) refusal: Option<Refusal>,
}

/// What a server said when it refused a request, for those who may know a remedy.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// The code of a JSON-RPC error, where the answer is one.
    pub(crate) code: Option<i64>,
    /// Whether that error carries the request's id.
    pub(crate) with_our_id: bool,
    /// Whether the body may have been an answer to the request: it is cut off, or a result.
    pub(crate) may_be_answer: bool,
    pub(crate) supported: Vec<String>,
}

impl From<Fault> for RequestError {
    fn from(fault: Fault) -> Self {
        Self { fault, refusal: None }
    }
}

impl RequestError {
    /// A JSON-RPC error that came with a success status, or as a message of a stream or a program.
    pub(crate) fn of_rpc(error: RpcError) -> Self {
        let RpcError { code, with_our_id, .. } = error;
        let refusal = Refusal {
            status: 200,
            code: Some(code),
            with_our_id,
            may_be_answer: false,
            supported: error.supported.clone(),
        };
        let proves = with_our_id && refuses_request(code);
        Self { fault: of_code(error, proves), refusal: Some(refusal) }
    }

    /// A response whose status is no success, to the request of this id.
    pub(crate) async fn of_response(response: Response, id: u64) -> Self {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        match ResponseBody::read(response, MAX_ERROR_BODY_BYTES).await {
            Ok(body) => Self::of_status(status, &headers, &body, id),
            Err(_) => Self::of_cut(status, &headers),
        }
    }

    /// A response whose status is no success, and whose body did not come whole: it may have been an answer to the request.
    pub(crate) fn of_cut(status: u16, headers: &HeaderMap) -> Self {
        let fault = ambiguous(status, headers, "its body did not come whole".to_owned());
        let refusal =
            Refusal { status, code: None, with_our_id: false, may_be_answer: true, supported: Vec::new() };
        Self { fault, refusal: Some(refusal) }
    }

    pub(crate) fn of_status(status: u16, headers: &HeaderMap, body: &[u8], id: u64) -> Self {
        let found = error_in(body, id);
        let is_open = matches!(found, InBody::Result | InBody::Cut);
        let error = match found {
            InBody::Error(error) => Some(error),
            InBody::Nothing | InBody::Result | InBody::Cut => None,
        };
        let proves = match &error {
            Some(error) if error.with_our_id => refuses_request(error.code) && !may_pass(status),
            Some(_) | None => refuses_by_status(status) && !is_open,
        };
        // A body such as OAuth's `{"error": "access_denied", "error_description": ".."}` only looks like a JSON-RPC error.
        let rpc = error.as_ref().filter(|error| error.with_our_id || error.code != 0);
        let detail = rpc.map(|error| error.message.clone()).filter(|message| !message.is_empty());
        let detail = detail.unwrap_or_else(|| reason_in(body, headers));
        let refusal = Refusal {
            status,
            code: error.as_ref().map(|error| error.code),
            with_our_id: error.as_ref().is_some_and(|error| error.with_our_id),
            may_be_answer: is_open,
            supported: error.as_ref().map(|error| error.supported.clone()).unwrap_or_default(),
        };
        let fault = match (status, error) {
            (401, _) if proves => Fault::Unauthorized { detail },
            (403, _) if proves => Fault::Forbidden {
                scope: Challenge::of(headers).scope.map(|scope| sanitize_text(&scope)),
                detail,
            },
            (429, _) if proves => Fault::RateLimited { retry_after_ms: retry_after_ms(headers) },
            (_, Some(error)) if proves => of_code(error, true),
            (_, None) if proves => Fault::ClientStatus { status, detail },
            (_, Some(error)) if error.with_our_id && status != 429 && !may_pass(status) => {
                of_code(error, false)
            }
            (_, Some(_) | None) => ambiguous(status, headers, detail),
        };
        Self { fault, refusal: Some(refusal) }
    }

    /// What a refusal that denies the session proves of the call: that it did not run, where the session existed before the call.
    /// A server that denies a session which it opened a moment ago proves nothing.
    pub(crate) fn within_session(&mut self, existed_before: bool) {
        let Some(refusal) = self.refusal.as_ref().filter(|refusal| refusal.denies_session()) else { return };
        let (status, detail) = (refusal.status, self.fault.to_string());
        self.fault = if existed_before {
            Fault::ClientStatus { status, detail: format!("the server does not know the session: {detail}") }
        } else {
            let detail =
                format!("the server does not know the session that it opened a moment ago: {detail}");
            Fault::ServerStatus { status, detail, retry_after_ms: None }
        };
    }

    /// Whether the server answered our request with "method not found": it has nothing of that kind.
    pub(crate) fn is_no_such_method(&self) -> bool {
        let refusal = self.refusal.as_ref();
        refusal.is_some_and(|refusal| refusal.with_our_id && refusal.code == Some(METHOD_NOT_FOUND))
    }

    /// Whether another try of the same request cannot run the tool twice.
    pub(crate) fn proves_nothing_ran(&self) -> bool {
        self.fault.may_have_run() == MayHaveRun::No
    }
}

/// The fault of a JSON-RPC error that proves that nothing ran, or does not.
fn of_code(error: RpcError, proves: bool) -> Fault {
    let RpcError { code, message, supported, .. } = error;
    match (proves, code) {
        (false, _) => Fault::RpcAmbiguous { code, message },
        (true, VERSION_UNSUPPORTED) => Fault::VersionUnsupported { supported },
        (true, _) => Fault::Rpc { code, message },
    }
}

/// Statuses that a server gives when it fails or wants the same request again, whatever stands in the body.
pub(crate) const fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 421 | 425 | 500..=599)
}

fn ambiguous(status: u16, headers: &HeaderMap, detail: String) -> Fault {
    Fault::ServerStatus { status, detail, retry_after_ms: retry_after_ms(headers) }
}

impl Refusal {
    /// How servers say that they do not know the session: HTTP 404 with anything but a JSON-RPC error to our request (or one with
    /// the codes that SDKs use for it), HTTP 400 with a JSON-RPC error that carries no id of ours. No text is looked at.
    ///
    /// It proves that the session is lost only where the session existed before the request.
    pub(crate) fn denies_session(&self) -> bool {
        match (self.status, self.code) {
            (404, None) => !self.may_be_answer,
            (404, Some(-32_001 | -32_600)) => true,
            (404 | 400, Some(code)) => {
                !self.with_our_id
                    && !matches!(
                        code,
                        METHOD_NOT_FOUND | -32_700 | HEADER_MISMATCH..=-32_020 | VERSION_UNSUPPORTED
                    )
            }
            _ => false,
        }
    }

    /// How servers refuse a message of the HTTP+SSE transport whose stream they do not know any more.
    pub(crate) fn denies_posting(&self) -> bool {
        matches!(self.status, 400 | 404 | 410 | 503) && !self.with_our_id && !self.may_be_answer
    }

    /// Whether a session that has died could be the cause. It is no proof, only a reason to ask the server.
    pub(crate) fn may_mean_a_dead_session(&self) -> bool {
        match (self.status, self.code) {
            (_, Some(HEADER_MISMATCH | -32_021 | VERSION_UNSUPPORTED)) => false,
            (_, Some(-32_600 | -32_603 | -32_099..=-32_000)) => true,
            (_, Some(_)) => !self.with_our_id,
            // These speak of the request's form, or of a moment.
            (405 | 406 | 408 | 413 | 415 | 421 | 425 | 429 | 431, None) => false,
            (400..=500, None) => true,
            (_, None) => false,
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
/// What is ambiguous for a tool is not so here: whatever `initialize` did, the tool did not run. What may pass counts as a
/// connection that was not made; an error that the server gave on purpose stays what it is.
pub(crate) fn before_call(fault: Fault, doing: &str) -> Fault {
    let is_final = fault.retry_class() == RetryClass::Permanent;
    match fault {
        Fault::Connect { .. }
        | Fault::NotSent { .. }
        | Fault::RateLimited { .. }
        | Fault::SessionStoreUnavailable { .. }
        | Fault::Unauthorized { .. }
        | Fault::Forbidden { .. }
        | Fault::Credential { .. }
        | Fault::CredentialPending { .. }
        | Fault::AddressRefused { .. }
        | Fault::SessionLost
        | Fault::VersionUnsupported { .. }
        | Fault::WrongTransport { .. }
        | Fault::NotResumable { .. }
        | Fault::Rpc { .. }
        | Fault::ClientStatus { .. } => fault,
        Fault::Redirect { location, .. } => Fault::Redirect { location, may_have_run: MayHaveRun::No },
        Fault::ServerStatus { status: 429 | 503, retry_after_ms: Some(ms), .. } => {
            Fault::RateLimited { retry_after_ms: Some(ms) }
        }
        Fault::RpcAmbiguous { code, message } if is_final => Fault::Rpc { code, message },
        Fault::ServerStatus { status, detail, .. } if is_final => Fault::ClientStatus { status, detail },
        Fault::AttemptTimeout { .. } => {
            Fault::NotSent { detail: format!("while {doing}: {fault}"), cause: NotSentCause::Time }
        }
        Fault::RpcAmbiguous { .. }
        | Fault::ServerStatus { .. }
        | Fault::AnswerLost { .. }
        | Fault::InvalidAnswer { .. }
        | Fault::AnswerTooLarge { .. } => {
            Fault::NotSent { detail: format!("while {doing}: {fault}"), cause: NotSentCause::Answer }
        }
    }
}

/// RFC 9110, section 10.2.3: seconds, or a date, which is measured against the response's own `Date`. Fractions of seconds, which
/// some servers send, are taken too.
pub(crate) fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_nan() || seconds < 0.0 => return None,
        Ok(seconds) => Duration::try_from_secs_f64(seconds).unwrap_or(MAX_RETRY_AFTER),
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

    const ID: u64 = 7;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap())).collect()
    }

    fn fault(status: u16, pairs: &[(&'static str, &'static str)], body: &str) -> Fault {
        RequestError::of_status(status, &headers(pairs), body.as_bytes(), ID).fault
    }

    #[test]
    fn retry_after_is_seconds_a_fraction_or_a_date_and_capped() {
        let limited = |pairs: &[_]| fault(429, pairs, "");
        let wait = |ms| Fault::RateLimited { retry_after_ms: ms };
        assert_eq!(limited(&[("retry-after", "7")]), wait(Some(7000)));
        assert_eq!(limited(&[("retry-after", "1.5")]), wait(Some(1500)));
        for long in ["999999", "1e300", "inf"] {
            assert_eq!(limited(&[("retry-after", long)]), wait(Some(3_600_000)), "{long}");
        }
        let date = ("date", "Sat, 21 Nov 2026 09:00:00 GMT");
        assert_eq!(limited(&[date, ("retry-after", "Sat, 21 Nov 2026 09:00:30 GMT")]), wait(Some(30_000)));
        assert_eq!(limited(&[date, ("retry-after", "Sat, 21 Nov 2026 08:00:30 GMT")]), wait(Some(0)));
        for none in ["Sat, 21 Nov 2026 09:00:30 GMT", "soon", "-3", "NaN", ""] {
            assert_eq!(limited(&[("retry-after", none)]), wait(None), "{none}");
        }
    }

    #[test]
    fn a_forbidden_call_names_the_scope_the_server_wants() {
        let challenge = ("www-authenticate", "Bearer error=\"insufficient_scope\", scope=\"files:write\"");
        assert_eq!(
            fault(403, &[challenge], ""),
            Fault::Forbidden {
                scope: Some("files:write".to_owned()),
                detail: "insufficient_scope".to_owned()
            }
        );
        assert_eq!(fault(403, &[], ""), Fault::Forbidden { scope: None, detail: String::new() });
        let body = r#"{"error":"access_denied","error_description":"not in your plan"}"#;
        assert_eq!(
            fault(403, &[], body),
            Fault::Forbidden { scope: None, detail: "access_denied: not in your plan".to_owned() }
        );
    }

    #[test]
    fn every_status_of_the_500s_is_ambiguous_and_keeps_its_retry_after() {
        for status in [500, 501, 502, 503, 504, 507, 599] {
            let found = fault(status, &[("retry-after", "5")], "oh\nno");
            let expected =
                Fault::ServerStatus { status, detail: "oh no".to_owned(), retry_after_ms: Some(5000) };
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn only_the_listed_proofs_say_that_the_tool_did_not_run() {
        let error = |id: &str, code: i64| {
            format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"session"}}}}"#)
        };
        let codes =
            [-32700, -32600, -32601, -32602, -32020, -32021, -32022, -32603, -32000, -32001, -32002, 42, 0];
        for status in 400..600 {
            let proves = [400, 401, 403, 404, 405, 406, 413, 415, 429].contains(&status);
            let ran = |body: &str| fault(status, &[], body).may_have_run() == MayHaveRun::Unknown;
            for body in ["", "no session", "<html>", &error("null", -32000), &error("8", -32602)] {
                assert_eq!(ran(body), !proves, "{status} {body}");
            }
            for code in codes {
                // With our id the error is the answer, whatever the status, but a failing server's word proves nothing.
                let refused = refuses_request(code) && !may_pass(status);
                assert_eq!(ran(&error("7", code)), !refused, "{status} {code}");
            }
            for answer in [r#"{"id":7,"result":{}}"#, r#"{"jsonrpc":"2.0","id":7,"err"#, r#"[{"id":7,"#] {
                assert!(ran(answer), "{status} {answer}");
            }
        }
        for code in codes {
            let of = |with_our_id| {
                let error = RpcError { code, message: String::new(), supported: Vec::new(), with_our_id };
                RequestError::of_rpc(error).proves_nothing_ran()
            };
            assert_eq!(of(true), refuses_request(code), "{code}");
            assert!(!of(false), "{code}");
        }
    }

    #[test]
    fn a_session_is_denied_by_status_code_and_shape_and_by_no_word() {
        let denied = |status, body: &str| {
            let trouble = RequestError::of_status(status, &HeaderMap::new(), body.as_bytes(), ID);
            trouble.refusal.is_some_and(|refusal| refusal.denies_session())
        };
        assert!(denied(404, ""));
        assert!(denied(404, "Not Found: Session not found"));
        assert!(denied(404, r#"{"error":{"code":-32001,"message":"Session not found"},"id":null}"#));
        assert!(denied(404, r#"{"error":{"code":-32001,"message":"Session not found"},"id":7}"#));
        assert!(denied(
            404,
            r#"{"error":{"code":-32600,"message":"Session not found"},"id":"server-error"}"#
        ));
        assert!(denied(400, r#"{"error":{"code":-32000,"message":"Bad Request: x"}}"#));
        assert!(!denied(404, r#"{"error":{"code":-32601,"message":"Method not found"},"id":null}"#));
        assert!(!denied(404, r#"{"error":{"code":-32002,"message":"your session is over"},"id":7}"#));
        assert!(!denied(400, r#"{"error":{"code":-32000,"message":"payment session was declined"},"id":7}"#));
        assert!(!denied(400, "no session"));
        assert!(!denied(500, r#"{"error":{"code":-32000,"message":"no session"}}"#));
    }
}
