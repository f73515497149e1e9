//! Owns the requests to authorization servers: guarded like calls, bounded in time and size, never redirected.
//!
//! **Invariant:** what an authorization server says reaches a fault shortened, and only its error members do.

use std::sync::Arc;
use std::time::Duration;

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use reqwest::Response;
use serde_json::Value;
use toolfleet_core::fault::Fault;
use url::Url;

use crate::endpoint::without_secrets;
use crate::network::{address_refused, detail_of};
use crate::reach::EgressPolicy;
use crate::stream::read_body;
use crate::words::{shorten, shorten_to};

/// How long one request may take.
const WITHIN: Duration = Duration::from_secs(10);
/// The bound on an answer.
const MAX_BODY_BYTES: u64 = 256 * 1024;
/// How long a token lives whose giver does not say.
const LIFE_UNTOLD: Duration = Duration::from_secs(300);
/// A token is used no longer than this, and no shorter than the other, whatever its giver says.
const LIFE_MOST: Duration = Duration::from_secs(24 * 3600);
const LIFE_LEAST: Duration = Duration::from_secs(1);

/// The way to authorization servers.
#[derive(Debug, Clone)]
pub(crate) struct TokenHttpClient {
    pub(crate) http: reqwest::Client,
    pub(crate) reach: Arc<EgressPolicy>,
}

/// An answer: its status, and its body if that is JSON.
#[derive(Debug)]
pub(crate) struct TokenResponse {
    pub(crate) status: StatusCode,
    pub(crate) body: Value,
}

impl TokenHttpClient {
    /// Asks for a JSON document.
    pub(crate) async fn document(&self, url: &Url) -> Result<TokenResponse, Fault> {
        self.reach.judge(url)?;
        let request = self.http.get(url.clone()).header(ACCEPT, "application/json").timeout(WITHIN);
        self.hear(url, request.send().await).await
    }

    /// The headers of an answer whose body is not waited for.
    pub(crate) async fn headers(&self, url: &Url, accept: &'static str) -> Result<HeaderMap, Fault> {
        self.reach.judge(url)?;
        let request = self.http.get(url.clone()).header(ACCEPT, accept).timeout(WITHIN);
        let response = request.send().await.map_err(|error| unheard(url, error))?;
        // Other errors may be a server's way to say that it answers no such request.
        match response.status().as_u16() {
            status @ (429 | 502..=504) => Err(pending(url, &format!("HTTP {status}"))),
            _ => Ok(response.headers().clone()),
        }
    }

    /// Posts a body.
    pub(crate) async fn post(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: String,
    ) -> Result<TokenResponse, Fault> {
        self.reach.judge(url)?;
        let request = self.http.post(url.clone()).headers(headers).body(body).timeout(WITHIN);
        self.hear(url, request.send().await).await
    }

    async fn hear(&self, url: &Url, sent: reqwest::Result<Response>) -> Result<TokenResponse, Fault> {
        let response = sent.map_err(|error| unheard(url, error))?;
        let status = response.status();
        if status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429) {
            return Err(pending(url, &format!("HTTP {}", status.as_u16())));
        }
        if status.is_redirection() {
            let detail = format!("{} redirects, which is not followed", without_secrets(url));
            return Err(Fault::Credential { detail });
        }
        let body = read_body(response, MAX_BODY_BYTES).await;
        let body = body.map_err(|fault| pending(url, &fault.to_string()))?;
        Ok(TokenResponse { status, body: members(&body) })
    }
}

/// The members of an answer: of JSON, or of a form, which some token endpoints write whatever is asked for.
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

fn unheard(url: &Url, error: reqwest::Error) -> Fault {
    match address_refused(&error) {
        Some(refused) => refused.fault(),
        None => pending(url, &detail_of(error)),
    }
}

fn pending(url: &Url, why: &str) -> Fault {
    Fault::CredentialPending { detail: format!("{}: {why}", without_secrets(url)) }
}

impl TokenResponse {
    /// A text member of the body.
    pub(crate) fn text(&self, member: &str) -> Option<&str> {
        self.body.get(member).and_then(Value::as_str)
    }

    /// What is wrong, in the server's words as far as they are of use.
    pub(crate) fn problem(&self, code: &str, description: &str) -> String {
        let mut words = format!("HTTP {}", self.status.as_u16());
        for member in [code, description] {
            if let Some(text) = self.text(member) {
                words.push(' ');
                words.push_str(&shorten_to(text, 200));
            }
        }
        shorten(&words)
    }
}

/// How long a token lives that says so in seconds.
pub(crate) fn life(seconds: Option<&Value>) -> Duration {
    let told = seconds.and_then(|told| told.as_f64().or_else(|| told.as_str()?.trim().parse().ok()));
    match told.filter(|seconds| *seconds >= 0.0) {
        Some(seconds) => Duration::from_secs_f64(seconds.min(LIFE_MOST.as_secs_f64())).max(LIFE_LEAST),
        None => LIFE_UNTOLD,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_as_json_or_as_a_form() {
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
    fn a_life_that_is_untold_or_absurd_is_bounded() {
        let told = |value: Value| life(Some(&value)).as_secs();
        assert_eq!((told(json!(3600)), told(json!("1800")), told(json!(59.5))), (3600, 1800, 59));
        assert_eq!(life(None).as_secs(), 300);
        for untold in [json!(null), json!("soon"), json!(-5), json!([1]), json!("NaN")] {
            assert_eq!(told(untold.clone()), 300, "{untold}");
        }
        assert_eq!((told(json!(0)), told(json!(u64::MAX)), told(json!("1e400"))), (1, 86_400, 86_400));
    }
}
