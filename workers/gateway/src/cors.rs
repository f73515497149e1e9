//! What lets web pages of allowed origins use the gateway (CORS): a browser asks with OPTIONS before it sends a page's request, and shows the
//! page an answer only if that names the page's origin. Where the tokens come from may be read by any page.
//!
//! **Invariant:** an answer names no origin that `Hosts` does not accept.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use toolfleet_mcp_protocol::header as mcp_header;
use toolfleet_web::hosts::Hosts;

/// Where the protected-resource metadata stands (RFC 9728).
const METADATA: &str = "/.well-known/";
/// Headers of requests that pages may set, beside those of MCP and the one that carries the session.
const ALLOWED: [&str; 7] = [
    "accept",
    "authorization",
    "content-type",
    "idempotency-key",
    "last-event-id",
    "traceparent",
    "tracestate",
];
/// How long a browser remembers what it may send, in seconds.
const REMEMBERED_S: &str = "600";

/// The routes, for pages of these origins too. `session` is the header that carries the session of calls.
pub(crate) fn with_cors(router: Router, hosts: Hosts, session: Option<HeaderName>) -> Router {
    let rules = Arc::new((hosts, session));
    router.layer(from_fn(move |request: Request, next: Next| {
        let rules = Arc::clone(&rules);
        async move { answer(&rules.0, rules.1.as_ref(), request, next).await }
    }))
}

async fn answer(hosts: &Hosts, session: Option<&HeaderName>, request: Request, next: Next) -> Response {
    let Some(origin) = allowed_origin(hosts, &request) else {
        return next.run(request).await;
    };
    let asked = asked_headers(&request);
    let mut response = match asked {
        Some(asked) => preflight(&asked, session),
        None => next.run(request).await,
    };
    let exposed = format!("{}, www-authenticate, retry-after", mcp_header::SESSION_ID);
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if let Ok(exposed) = HeaderValue::try_from(exposed) {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    response
}

/// The origin that the answer names; none where the request comes from no page, or from one that is not allowed.
fn allowed_origin(hosts: &Hosts, request: &Request) -> Option<HeaderValue> {
    let origin = request.headers().get(header::ORIGIN)?;
    if request.uri().path().starts_with(METADATA) {
        return Some(HeaderValue::from_static("*"));
    }
    hosts.check(request.headers()).is_ok().then(|| origin.clone())
}

/// The names of the headers that a page wants to send, in small letters, if a browser asks for it.
fn asked_headers(request: &Request) -> Option<Vec<String>> {
    let headers: &HeaderMap = request.headers();
    let asks =
        request.method() == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let asked =
        headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|one| one.to_str().ok());
    let names = asked.flat_map(|list| list.split(',')).map(|name| name.trim().to_ascii_lowercase());
    asks.then(|| names.collect())
}

/// What a page may send.
fn preflight(asked: &[String], session: Option<&HeaderName>) -> Response {
    let is_allowed = |name: &&String| {
        let name = name.as_str();
        ALLOWED.contains(&name)
            || name.starts_with("mcp-")
            || session.is_some_and(|session| session.as_str() == name)
    };
    let allowed: Vec<&str> = asked.iter().filter(is_allowed).map(String::as_str).collect();
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED_S));
    if let (false, Ok(allowed)) = (allowed.is_empty(), HeaderValue::try_from(allowed.join(", "))) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    response
}
