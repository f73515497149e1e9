//! HTTP requests to authorization servers: under the egress policy, bounded in time and size, without redirects.
//!
//! **Invariant:** an error holds only the error members of a response, sanitised.

use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use reqwest::Response;
use serde_json::Value;
use toolfleet_egress::{
    EgressError, EgressPolicy, HttpClients, ResponseBody, request_error, sanitize_text, sanitize_text_to,
    url_without_secrets,
};
use url::Url;

use crate::error::CredentialError;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The bound on an answer.
const MAX_BODY_BYTES: u64 = 256 * 1024;
/// The lifetime of a token whose response names none.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(300);
/// The bounds on a lifetime.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const MIN_LIFETIME: Duration = Duration::from_secs(1);

/// The client for authorization servers.
#[derive(Debug, Clone)]
pub struct TokenHttpClient {
    /// A client that enforces the policy on resolved addresses.
    pub http: reqwest::Client,
    /// The policy that each URL is checked against.
    pub policy: Arc<EgressPolicy>,
}

/// The status of a response, and its body where that is JSON or a form.
#[derive(Debug)]
pub struct TokenResponse {
    /// The status: neither a server error nor a redirect.
    pub status: StatusCode,
    /// The body; `null` where it is neither.
    pub body: Value,
}

impl From<&HttpClients> for TokenHttpClient {
    fn from(clients: &HttpClients) -> Self {
        Self { http: clients.plain().clone(), policy: Arc::clone(clients.policy()) }
    }
}

impl TokenHttpClient {
    /// Gets a JSON document.
    ///
    /// # Errors
    /// The address may not be called, or nothing came that can be read.
    pub async fn document(&self, url: &Url) -> Result<TokenResponse, CredentialError> {
        self.policy.check(url)?;
        let request = self.http.get(url.clone()).header(ACCEPT, "application/json").timeout(REQUEST_TIMEOUT);
        self.read(url, request.send().await).await
    }

    /// The headers of a response whose body is not read.
    pub(crate) async fn headers(
        &self,
        url: &Url,
        accept: &'static str,
    ) -> Result<HeaderMap, CredentialError> {
        self.policy.check(url)?;
        let request = self.http.get(url.clone()).header(ACCEPT, accept).timeout(REQUEST_TIMEOUT);
        let response = request.send().await.map_err(|error| not_answered(url, error))?;
        // Other errors may mean that the server does not support the request.
        match response.status().as_u16() {
            status @ (429 | 502..=504) => Err(pending(url, &format!("HTTP {status}"))),
            _ => Ok(response.headers().clone()),
        }
    }

    /// Posts a body.
    ///
    /// # Errors
    /// As for [`Self::document`].
    pub async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: String,
    ) -> Result<TokenResponse, CredentialError> {
        self.policy.check(url)?;
        let request = self.http.post(url.clone()).headers(headers).body(body).timeout(REQUEST_TIMEOUT);
        self.read(url, request.send().await).await
    }

    async fn read(
        &self,
        url: &Url,
        sent: reqwest::Result<Response>,
    ) -> Result<TokenResponse, CredentialError> {
        let response = sent.map_err(|error| not_answered(url, error))?;
        let status = response.status();
        if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
            return Err(pending(url, &format!("HTTP {}", status.as_u16())));
        }
        if status.is_redirection() {
            let detail = format!("{} redirects, which is not followed", url_without_secrets(url));
            return Err(CredentialError::Unavailable { detail });
        }
        let failed = |error: EgressError| pending(url, &error.to_string());
        let body = ResponseBody::read(response, MAX_BODY_BYTES).await.map_err(failed)?;
        Ok(TokenResponse { status, body: members(&body) })
    }
}

/// The members of a JSON body, or of a form, which some token endpoints return whatever `Accept` says.
fn members(body: &[u8]) -> Value {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Ok(value) = serde_json::from_slice(body) {
        return value;
    }
    let is_form = [&b"access_token="[..], b"token_type=", b"error=", b"expires_in="]
        .iter()
        .any(|start| body.starts_with(start));
    let pairs = url::form_urlencoded::parse(if is_form { body } else { b"" });
    let pairs: serde_json::Map<_, _> =
        pairs.map(|(name, value)| (name.into_owned(), Value::from(value.into_owned()))).collect();
    if pairs.is_empty() { Value::Null } else { Value::Object(pairs) }
}

fn not_answered(url: &Url, error: reqwest::Error) -> CredentialError {
    match request_error(error, false) {
        EgressError::AddressRefused { detail } => CredentialError::AddressRefused { detail },
        EgressError::Connect { detail } | EgressError::Interrupted { detail } => pending(url, &detail),
        error @ (EgressError::Encoding { .. } | EgressError::BodyTooLarge { .. }) => {
            pending(url, &error.to_string())
        }
    }
}

fn pending(url: &Url, why: &str) -> CredentialError {
    CredentialError::Pending { detail: format!("{}: {why}", url_without_secrets(url)) }
}

impl TokenResponse {
    /// A text member of the body.
    pub fn text(&self, member: &str) -> Option<&str> {
        self.body.get(member).and_then(Value::as_str)
    }

    /// The status with the error code and its description.
    pub(crate) fn describe_error(&self, code: &str, description: &str) -> String {
        let mut text = format!("HTTP {}", self.status.as_u16());
        for member in [code, description] {
            if let Some(value) = self.text(member) {
                text.push(' ');
                text.push_str(&sanitize_text_to(value, 200));
            }
        }
        sanitize_text(&text)
    }
}

/// The lifetime that `expires_in` names, within the bounds.
pub(crate) fn lifetime(seconds: Option<&Value>) -> Duration {
    let named = seconds.and_then(|value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok()));
    match named.filter(|seconds| *seconds >= 0.0) {
        Some(seconds) => Duration::from_secs_f64(seconds.min(MAX_LIFETIME.as_secs_f64())).max(MIN_LIFETIME),
        None => DEFAULT_LIFETIME,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_read_as_json_or_as_a_form() {
        let token = |body: &str| members(body.as_bytes()).get("access_token").cloned();
        for body in [
            "{\"access_token\": \"t 1\"}",
            "\u{feff}{\"access_token\":\"t 1\"}",
            "access_token=t+1&scope=&token_type=bearer",
        ] {
            assert_eq!(token(body), Some(json!("t 1")), "{body}");
        }
        for body in ["<html>", "", "oops=1"] {
            assert_eq!(members(body.as_bytes()), Value::Null, "{body}");
        }
    }

    #[test]
    fn a_life_that_is_invalid_or_absurd_is_bounded() {
        let seconds = |value: Value| lifetime(Some(&value)).as_secs();
        assert_eq!((seconds(json!(3600)), seconds(json!("1800")), seconds(json!(59.5))), (3600, 1800, 59));
        assert_eq!(lifetime(None).as_secs(), 300);
        for invalid in [json!(null), json!("soon"), json!(-5), json!([1]), json!("NaN")] {
            assert_eq!(seconds(invalid.clone()), 300, "{invalid}");
        }
        assert_eq!(
            (seconds(json!(0)), seconds(json!(u64::MAX)), seconds(json!("1e400"))),
            (1, 86_400, 86_400)
        );
    }
}
