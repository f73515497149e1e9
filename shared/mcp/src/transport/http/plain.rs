//! One plain HTTP request with the credentials of an endpoint, for interfaces that do not speak MCP. Egress policy, redirects, renewal of
//! credentials and bounds are those of MCP's own requests.
//!
//! **Invariant:** a fault says that nothing ran only where no byte of the request left, or the status proves it (`refuses_by_status`).

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::Response;
use tokio::time::{Instant, sleep_until};
use toolfleet_core::redact::REDACTED;
use toolfleet_credentials::AuthRetries;
use toolfleet_egress::{HttpVersions, ResponseBody};
use url::Url;

use crate::answer::unread;
use crate::blocking::{LARGE_BYTES, beside};
use crate::client::call::{out_of_time, timed_out};
use crate::client::state::McpClient;
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::tool_call::{Admit, admitted};
use crate::transport::http::error_body::reason_in;
use crate::transport::http::requests::{
    Launch, TRACEPARENT, TRACESTATE, Transport, ran_before, redirect, redirect_of,
};
use crate::transport::request_error::{MAX_ERROR_BODY_BYTES, may_pass, retry_after_ms};
use crate::transport::sent::Sent;

/// A request.
pub struct PlainRequest<'a> {
    /// Whose credentials it has.
    pub endpoint: &'a Endpoint,
    /// Its method.
    pub method: Method,
    /// Where it goes; its origin is the endpoint's.
    pub url: &'a Url,
    /// Its headers; those of the endpoint's configuration win over them.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Option<Bytes>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// The vendor's part of the trace context.
    pub tracestate: Option<&'a str>,
    /// When it ends, whatever the server does.
    pub deadline: Instant,
    /// Where requests have to wait for a turn.
    pub admit: Option<Admit<'a>>,
}

/// An answer, of any status but those that are faults, without any credential of ours.
#[derive(Debug)]
pub struct PlainAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, decompressed.
    pub body: Vec<u8>,
}

impl McpClient {
    /// Sends the request. It ends by its deadline; dropping it cancels the request.
    ///
    /// # Errors
    /// There is no answer, or one with status 401, 408, 421, 425, 429 or 5xx.
    pub async fn plain_request(&self, request: PlainRequest<'_>) -> Result<PlainAnswer, Fault> {
        let begun = Instant::now();
        let sent = Sent::default();
        let mut exchange = Box::pin(self.0.exchange.transport.plain(&request, &sent));
        let answered = tokio::select! {
            biased;
            answered = &mut exchange => Some(answered),
            () = sleep_until(request.deadline) => None,
        };
        let has_body = request.body.is_some();
        let answered = answered.unwrap_or_else(|| {
            // What has no body tells nobody when it leaves.
            let not_sent = has_body && sent.give_up();
            Err(if not_sent { out_of_time("") } else { timed_out(begun, String::new()) })
        });
        without_echo(answered.map_err(|fault| request.endpoint.without_echo(fault))?, request.endpoint).await
    }
}

async fn without_echo(answer: PlainAnswer, endpoint: &Endpoint) -> Result<PlainAnswer, Fault> {
    if answer.body.len() < LARGE_BYTES {
        return Ok(scrubbed(answer, endpoint));
    }
    let endpoint = endpoint.clone();
    beside(move || scrubbed(answer, &endpoint)).await.ok_or_else(unread)
}

/// The answer without our credentials, which a server may echo in its body and in each header: an interface repeats a key of the query in
/// `Link` and `Location`.
fn scrubbed(mut answer: PlainAnswer, endpoint: &Endpoint) -> PlainAnswer {
    if let Some(clean) = endpoint.words_without_echo(&answer.body) {
        answer.body = clean;
    }
    for value in answer.headers.values_mut() {
        if let Some(clean) = endpoint.words_without_echo(value.as_bytes()) {
            *value = HeaderValue::from_bytes(&clean).unwrap_or_else(|_| HeaderValue::from_static(REDACTED));
        }
    }
    answer
}

impl Transport {
    async fn plain(&self, request: &PlainRequest<'_>, sent: &Sent) -> Result<PlainAnswer, Fault> {
        let mut retries = AuthRetries::default();
        loop {
            admitted(request.admit).await?;
            let (response, stamp) = self.plain_once(request, sent).await?;
            let status = response.status().as_u16();
            if let (Some(auth), Some(stamp), 401 | 403) = (&request.endpoint.auth, stamp, status)
                && auth.renew_after_refusal(status, response.headers(), stamp, &mut retries).await?
            {
                sent.clear();
                continue;
            }
            return self.read(response).await;
        }
    }

    /// One request, and the one that a redirect within the origin asks for.
    async fn plain_once(
        &self,
        request: &PlainRequest<'_>,
        sent: &Sent,
    ) -> Result<(Response, Option<toolfleet_credentials::CredentialVersion>), Fault> {
        let headers = || headers_of(request);
        let launch = |url| {
            let headers = &headers;
            let body = request.body.clone().map(|bytes| (bytes, sent));
            Launch { method: request.method.clone(), url, headers, body, versions: HttpVersions::Any }
        };
        let answered = Box::pin(self.launch(request.endpoint, launch(request.url))).await?;
        let Some(location) = redirect_of(&answered.0) else { return Ok(answered) };
        let response = answered.0;
        let target = location.as_deref().and_then(|text| request.url.join(text).ok());
        let Some(target) = target else {
            return Err(Fault::Redirect {
                location: "nowhere".to_owned(),
                may_have_run: ran_before(&response),
            });
        };
        // 301 to 303 may say where the result of a change is; of a request that only reads they say where to read.
        let repeats = matches!(response.status().as_u16(), 307 | 308) || request.method.is_safe();
        if !repeats || target.origin() != request.endpoint.url.origin() {
            return Err(redirect(&target, &response));
        }
        drop(response);
        sent.clear();
        let again = Box::pin(self.launch(request.endpoint, launch(&target))).await?;
        match redirect_of(&again.0) {
            Some(location) => {
                let next = location.and_then(|text| target.join(&text).ok()).unwrap_or(target);
                Err(redirect(&next, &again.0))
            }
            None => Ok(again),
        }
    }

    /// Reads the answer whole, and says which statuses are faults.
    async fn read(&self, response: Response) -> Result<PlainAnswer, Fault> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let is_fault = matches!(status, 401 | 429) || may_pass(status);
        if !is_fault {
            let body = ResponseBody::read(response, self.max_body_bytes).await?;
            return Ok(PlainAnswer { status, headers, body });
        }
        let body = ResponseBody::read(response, MAX_ERROR_BODY_BYTES).await.unwrap_or_default();
        let detail = reason_in(&body, &headers);
        let retry_after_ms = retry_after_ms(&headers);
        Err(match status {
            401 => Fault::Unauthorized { detail },
            429 => Fault::RateLimited { retry_after_ms },
            _ => Fault::ServerStatus { status, detail, retry_after_ms },
        })
    }
}

/// The headers of a request, besides those that its credential sets.
fn headers_of(request: &PlainRequest<'_>) -> HeaderMap {
    let mut headers = request.headers.clone();
    headers.remove(AUTHORIZATION);
    for (name, value) in &request.endpoint.headers {
        if name == COOKIE
            && let Some(own) = headers.get(COOKIE)
            && let Ok(both) = HeaderValue::from_bytes(&[value.as_bytes(), b"; ", own.as_bytes()].concat())
        {
            headers.insert(COOKIE, both);
            continue;
        }
        headers.insert(name, value.clone());
    }
    let trace: [(HeaderName, Option<&str>); 2] =
        [(TRACEPARENT, request.traceparent), (TRACESTATE, request.tracestate)];
    for (name, value) in trace {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}
