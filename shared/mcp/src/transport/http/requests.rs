//! The HTTP requests: headers, credentials, one same-origin redirect.
//!
//! **Invariant:** `Sent` is set before the first byte of a request's body is sent; while it is unset, no server can have run anything.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, COOKIE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use reqwest::Response;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_credentials::{AuthRetries, CertificateIdentity, CredentialVersion};
use toolfleet_egress::{
    EgressError, HttpClients, HttpVersions, ResponseBody, client_certificate_refused, request_error,
    sanitize_text, url_without_secrets,
};
use url::Url;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::protocol::wire::{ClientInfo, MODERN};
use crate::transport::connection::Connection;
use crate::transport::http::session::Session;
use crate::transport::request_error::{MAX_ERROR_BODY_BYTES, RequestError};
use crate::transport::sent::{NotedBody, Sent};

pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// One POST.
#[derive(Debug)]
pub(crate) struct Post<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) connection: Connection<'a>,
    /// The JSON-RPC method, and the tool's name for `tools/call`.
    pub(crate) method: &'a str,
    pub(crate) name: Option<&'a str>,
    pub(crate) mirrored: Vec<(HeaderName, HeaderValue)>,
    pub(crate) traceparent: Option<&'a str>,
    pub(crate) tracestate: Option<&'a str>,
    /// The id of a request that may run a tool.
    pub(crate) id: Option<u64>,
    pub(crate) body: Bytes,
}

impl<'a> Post<'a> {
    /// A request that names no tool and belongs to no trace.
    pub(crate) fn plain(
        endpoint: &'a Endpoint,
        connection: Connection<'a>,
        method: &'a str,
        body: Bytes,
    ) -> Self {
        let (name, mirrored, traceparent, tracestate) = (None, Vec::new(), None, None);
        Self { endpoint, connection, method, name, mirrored, traceparent, tracestate, id: None, body }
    }
}

/// One request on its way out; a body comes with the mark that it has begun to leave.
pub(crate) struct Launch<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    /// Makes its headers: a request takes them with it, and few are sent again.
    pub(crate) headers: &'a (dyn Fn() -> HeaderMap + Sync),
    pub(crate) body: Option<(Bytes, &'a Sent)>,
    pub(crate) versions: HttpVersions,
}

/// The HTTP side of the client.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) clients: Arc<HttpClients>,
    pub(crate) info: ClientInfo,
    pub(crate) max_body_bytes: u64,
}

impl Transport {
    /// Sends one request and returns its response, whatever its status except a redirect.
    ///
    /// A refusal of the credential proves that nothing ran, so the request is sent again with one that is new, if there is.
    pub(crate) async fn post(&self, post: &Post<'_>, sent: &Sent) -> Result<Response, RequestError> {
        let mut retries = AuthRetries::default();
        loop {
            let (response, stamp) = self.post_once(post, sent).await?;
            let (Some(auth), Some(stamp)) = (&post.endpoint.auth, stamp) else {
                return Ok(response);
            };
            let status = response.status().as_u16();
            if !matches!(status, 401 | 403) {
                return Ok(response);
            }
            let response = match post.id {
                Some(id) => match refusal_in(response, id).await? {
                    Ok(refused) => refused,
                    Err(answered) => return Ok(answered),
                },
                None => response,
            };
            let renewed = auth.renew_after_refusal(status, response.headers(), stamp, &mut retries).await;
            if !renewed.map_err(Fault::from)? {
                return Ok(response);
            }
            sent.clear();
        }
    }

    async fn post_once(
        &self,
        post: &Post<'_>,
        sent: &Sent,
    ) -> Result<(Response, Option<CredentialVersion>), RequestError> {
        let (response, stamp) = self.send(post, &post.endpoint.url, sent).await?;
        let Some(location) = redirect_of(&response) else {
            return Ok((response, stamp));
        };
        let target = location.as_deref().and_then(|text| post.endpoint.url.join(text).ok());
        let Some(target) = target else {
            let location = sanitize_text(location.as_deref().unwrap_or("nowhere"));
            return Err(Fault::Redirect { location, may_have_run: ran_before(&response) }.into());
        };
        let repeats = matches!(response.status().as_u16(), 307 | 308);
        if !repeats || target.origin() != post.endpoint.url.origin() {
            return Err(redirect(&target, &response).into());
        }
        drop(response);
        sent.clear();
        let (response, stamp) = self.send(post, &target, sent).await?;
        match redirect_of(&response) {
            Some(location) => {
                let next = location.and_then(|text| target.join(&text).ok()).unwrap_or(target);
                Err(redirect(&next, &response).into())
            }
            None => Ok((response, stamp)),
        }
    }

    async fn send(
        &self,
        post: &Post<'_>,
        url: &Url,
        sent: &Sent,
    ) -> Result<(Response, Option<CredentialVersion>), Fault> {
        let launch = Launch {
            method: Method::POST,
            url,
            headers: &|| headers_of(post),
            body: Some((post.body.clone(), sent)),
            versions: HttpVersions::Any,
        };
        let answered = Box::pin(self.launch(post.endpoint, launch)).await?;
        match post.connection {
            Connection::Legacy(session) => session.cookies.take(url, answered.0.headers()),
            Connection::Posting(cookies) => cookies.take(url, answered.0.headers()),
            Connection::Modern | Connection::Opening | Connection::Channel(_) => {}
        }
        Ok(answered)
    }

    /// Sends one request as the endpoint's credential has it: stamped, signed, with its certificate.
    ///
    /// A server that does not accept the certificate read nothing of the request, so one that is new is shown, once.
    pub(crate) async fn launch(
        &self,
        endpoint: &Endpoint,
        launch: Launch<'_>,
    ) -> Result<(Response, Option<CredentialVersion>), Fault> {
        self.clients.policy().check(launch.url).map_err(EgressError::from)?;
        let mut renewed = false;
        loop {
            let (request, identity, stamp) = self.prepared(endpoint, &launch).await?;
            let error = match self.client_for(identity.as_ref(), launch.versions)?.execute(request).await {
                Ok(response) => return Ok((response, stamp)),
                Err(error) => error,
            };
            let (Some(auth), Some(identity), Some(why)) =
                (&endpoint.auth, &identity, client_certificate_refused(&error))
            else {
                // What has no body, has left with its headers.
                let sent = launch.body.as_ref().is_none_or(|(_, sent)| sent.is_set());
                return Err(request_error(error, sent).into());
            };
            let again = auth.client_identity(true).await?;
            if std::mem::replace(&mut renewed, true) || again.as_ref() == Some(identity) {
                return Err(identity.refused(&why).into());
            }
            if let Some((_, sent)) = &launch.body {
                sent.clear();
            }
        }
    }

    /// The client that presents the certificate.
    fn client_for(
        &self,
        identity: Option<&CertificateIdentity>,
        versions: HttpVersions,
    ) -> Result<reqwest::Client, Fault> {
        let client = self.clients.with_identity(identity.map(CertificateIdentity::identity), versions);
        client.map_err(|error| match identity {
            Some(identity) => identity.mismatch().into(),
            None => Fault::Connect { detail: error.to_string() },
        })
    }

    async fn prepared(
        &self,
        endpoint: &Endpoint,
        launch: &Launch<'_>,
    ) -> Result<(reqwest::Request, Option<CertificateIdentity>, Option<CredentialVersion>), Fault> {
        let Launch { method, url, headers, body, .. } = launch;
        let (mut url, mut headers) = (Url::clone(url), headers());
        let (mut identity, mut stamp) = (None, None);
        if let Some(auth) = &endpoint.auth {
            identity = auth.client_identity(false).await?;
            // Whatever tells of this request has the address without it.
            auth.write_query(&mut url).await?;
            let bytes = body.as_ref().map_or(&[][..], |(bytes, _)| bytes);
            stamp = Some(auth.authorize((method.as_str(), &url, bytes), &mut headers).await?);
        }
        let mut request = reqwest::Request::new(method.clone(), url);
        *request.headers_mut() = headers;
        *request.body_mut() = body.as_ref().map(|(bytes, sent)| {
            let noted = NotedBody { bytes: Some(bytes.clone()), sent: (*sent).clone() };
            reqwest::Body::wrap(noted)
        });
        Ok((request, identity, stamp))
    }

    /// Asks for the rest of a legacy stream. A credential that is refused is renewed, and a redirect within the origin followed, as for the
    /// request that the stream answers.
    pub(crate) async fn resume(
        &self,
        endpoint: &Endpoint,
        session: &Session,
        last_event_id: &str,
    ) -> Result<Response, RequestError> {
        let last = HeaderValue::from_str(last_event_id).map_err(|_| Fault::AnswerLost {
            detail: "the stream's last event id fits no header".to_owned(),
        })?;
        let headers = || {
            let mut headers = event_stream_headers(endpoint, Connection::Legacy(session));
            headers.insert(LAST_EVENT_ID, last.clone());
            headers
        };
        let asked = self.get(endpoint, &endpoint.url, &headers, HttpVersions::Any);
        Box::pin(asked).await.map(|(response, _)| response)
    }

    /// Opens the event stream of a session, on which its server tells what belongs to no request.
    pub(crate) async fn updates(
        &self,
        endpoint: &Endpoint,
        session: &Session,
    ) -> Result<Response, RequestError> {
        let headers = || event_stream_headers(endpoint, Connection::Legacy(session));
        let asked = self.get(endpoint, &endpoint.url, &headers, HttpVersions::Any);
        let (response, _) = Box::pin(asked).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let detail = format!(
            "HTTP {status} to a GET: the server has no event stream, on which it would tell of updates"
        );
        Err(Fault::ClientStatus { status, detail }.into())
    }

    /// Asks for an event stream outside of any session.
    pub(crate) async fn look(&self, endpoint: &Endpoint) -> Result<Response, Fault> {
        let launch = Launch {
            method: Method::GET,
            url: &endpoint.url,
            headers: &|| event_stream_headers(endpoint, Connection::Opening),
            body: None,
            versions: HttpVersions::Any,
        };
        Box::pin(self.launch(endpoint, launch)).await.map(|(response, _)| response)
    }

    /// Sends a GET that is to stay open and returns its response, whatever its status except a redirect to another origin, and the
    /// address that answered. A credential that is refused is renewed once; nothing runs before such a response.
    pub(crate) async fn get_to_stay(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        own: HeaderMap,
        versions: HttpVersions,
    ) -> Result<(Response, Url), RequestError> {
        let headers = || {
            let mut headers = base_headers(endpoint, Connection::Opening);
            headers.extend(own.clone());
            headers
        };
        self.get(endpoint, url, &headers, versions).await
    }

    /// Sends a GET and returns its response, as [`get_to_stay`](Self::get_to_stay) does.
    async fn get(
        &self,
        endpoint: &Endpoint,
        url: &Url,
        headers: &(dyn Fn() -> HeaderMap + Sync),
        versions: HttpVersions,
    ) -> Result<(Response, Url), RequestError> {
        let (mut url, mut redirected) = (url.clone(), false);
        let mut retries = AuthRetries::default();
        loop {
            let launch = Launch { method: Method::GET, url: &url, headers, body: None, versions };
            let (response, stamp) = Box::pin(self.launch(endpoint, launch)).await?;
            if let Some(location) = redirect_of(&response) {
                let target = location.and_then(|text| url.join(&text).ok()).unwrap_or_else(|| url.clone());
                if target.origin() != url.origin() || std::mem::replace(&mut redirected, true) {
                    return Err(redirect(&target, &response).into());
                }
                url = target;
                continue;
            }
            let status = response.status().as_u16();
            let renewed = match (&endpoint.auth, stamp, status) {
                (Some(auth), Some(stamp), 401 | 403) => {
                    auth.renew_after_refusal(status, response.headers(), stamp, &mut retries).await
                }
                (_, _, _) => Ok(false),
            };
            if !renewed.map_err(Fault::from)? {
                return Ok((response, url));
            }
        }
    }

    /// Ends a session.
    pub(crate) async fn delete(&self, endpoint: &Endpoint, session: &Session) {
        let launch = Launch {
            method: Method::DELETE,
            url: &endpoint.url,
            headers: &|| base_headers(endpoint, Connection::Legacy(session)),
            body: None,
            versions: HttpVersions::Any,
        };
        if let Err(fault) = Box::pin(self.launch(endpoint, launch)).await {
            let fault = endpoint.without_echo(fault);
            tracing::debug!(server = %endpoint.server, %fault, "a session could not be ended");
        }
    }
}

/// A 401 or 403 with its body at hand: `Ok` where it proves that nothing ran, so that the request may be sent again with another
/// credential, else `Err`.
async fn refusal_in(response: Response, id: u64) -> Result<Result<Response, Response>, RequestError> {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = match ResponseBody::read(response, MAX_ERROR_BODY_BYTES).await {
        Ok(body) => body,
        Err(_) => return Err(RequestError::of_cut(status.as_u16(), &headers)),
    };
    let proves = RequestError::of_status(status.as_u16(), &headers, &body, id).proves_nothing_ran();
    let mut read = http::Response::new(body);
    *read.status_mut() = status;
    *read.headers_mut() = headers;
    let read = Response::from(read);
    Ok(if proves { Ok(read) } else { Err(read) })
}

pub(crate) fn redirect(target: &Url, response: &Response) -> Fault {
    let location = sanitize_text(&url_without_secrets(target));
    Fault::Redirect { location, may_have_run: ran_before(response) }
}

/// RFC 9110, section 15.4: 307 and 308 ask for the same request elsewhere, so that it was not processed here. The others point to
/// something else to look at, for example to the result of what ran.
pub(crate) fn ran_before(response: &Response) -> MayHaveRun {
    match response.status().as_u16() {
        307 | 308 => MayHaveRun::No,
        _ => MayHaveRun::Unknown,
    }
}

/// The location of a redirect, if the response is one.
pub(crate) fn redirect_of(response: &Response) -> Option<Option<String>> {
    let redirects = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
    let location =
        || response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    redirects.then(location)
}

fn base_headers(endpoint: &Endpoint, connection: Connection<'_>) -> HeaderMap {
    let mut headers = endpoint.headers.clone();
    for name in [&PROTOCOL_VERSION, &SESSION_ID, &METHOD, &NAME] {
        headers.remove(name);
    }
    headers.reserve(8);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    match connection {
        Connection::Opening | Connection::Channel(_) => {}
        Connection::Posting(cookies) => {
            if let Some(cookies) = cookies.header(headers.get(COOKIE)) {
                headers.insert(COOKIE, cookies);
            }
        }
        Connection::Modern => {
            headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(MODERN));
        }
        Connection::Legacy(session) => {
            headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(session.version));
            if let Some(id) = session.id.as_ref().and_then(|id| HeaderValue::from_str(id).ok()) {
                headers.insert(SESSION_ID, id);
            }
            if let Some(cookies) = session.cookies.header(headers.get(COOKIE)) {
                headers.insert(COOKIE, cookies);
            }
        }
    }
    headers
}

fn event_stream_headers(endpoint: &Endpoint, connection: Connection<'_>) -> HeaderMap {
    let mut headers = base_headers(endpoint, connection);
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
    headers
}

fn headers_of(post: &Post<'_>) -> HeaderMap {
    let mut headers = base_headers(post.endpoint, post.connection);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [(TRACEPARENT, post.traceparent), (TRACESTATE, post.tracestate)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    if matches!(post.connection, Connection::Modern) {
        if let Ok(method) = HeaderValue::from_str(post.method) {
            headers.insert(METHOD, method);
        }
        if let Some(name) = post.name.and_then(crate::protocol::param_headers::header_value) {
            headers.insert(NAME, name);
        }
        for (name, value) in &post.mirrored {
            headers.insert(name, value.clone());
        }
    }
    headers
}
