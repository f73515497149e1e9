//! The one door: every request comes through here. It checks the host, knows the visitor by their session, bounds how many pages are made at once
//! for known visitors and how long each may take, and puts the same security headers on every response.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts as Head;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

use crate::console::{Console, Visit};
use crate::failure::Failure;
use crate::frame::Frame;
use crate::link::Link;
use crate::query::Query;
use crate::response::{html, see_other, with};
use crate::{assets, login, oidc, oidc_login, pages};

/// How long a page may take.
const LONGEST: Duration = Duration::from_secs(10);

/// What every response says to browsers: nothing of another origin, no script, no frame, no copy on disk.
const HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    (HeaderName::from_static("x-robots-tag"), "noindex, nofollow"),
];

/// Answers one request.
pub(crate) async fn door(State(console): State<Arc<Console>>, request: Request) -> Response {
    secured(answer(&console, request).await)
}

async fn answer(console: &Console, request: Request) -> Response {
    let (head, body) = request.into_parts();
    // A load balancer names no host that anybody configures.
    if head.uri.path() == "/health" {
        return "ok\n".into_response();
    }
    if let Err(why) = console.hosts.check(&without_null_origin(&head.headers)) {
        return failed(console, &Failure::foreign(why));
    }
    match tokio::time::timeout(LONGEST, respond(console, &head, body)).await {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => failed(console, &failure),
        Err(_) => failed(console, &Failure::too_slow()),
    }
}

/// Under `no-referrer` browsers send `Origin: null` with the forms of our own pages, and say in a header that pages cannot set where they are from.
fn without_null_origin(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|one| one == value);
    if is("origin", "null") && is("sec-fetch-site", "same-origin") {
        headers.remove(header::ORIGIN);
    }
    headers
}

async fn respond(console: &Console, head: &Head, body: Body) -> Result<Response, Failure> {
    let path = head.uri.path();
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    if head.method == Method::POST {
        return match path {
            "/login" => login::log_in(console, &head.headers, body).await,
            "/logout" => login::log_out(console, &head.headers),
            _ => Err(Failure::method()),
        };
    }
    if !reads || path == "/logout" {
        return Err(Failure::method());
    }
    if let Some(asset) = assets::at(path) {
        return Ok(asset);
    }
    let query = Query::parse(head.uri.query().unwrap_or_default());
    if path == "/login" {
        return login::form(console, query.get("next").unwrap_or("/"));
    }
    // A look at the headers alone begins and ends no login.
    if head.method == Method::GET && path == "/login/start" {
        return oidc_login::start(console, query.get("next").unwrap_or("/")).await;
    }
    if head.method == Method::GET && path == oidc::CALLBACK {
        return oidc_login::finish(console, &head.headers, &query).await;
    }
    let Some(path) = pages::PATHS.into_iter().find(|one| *one == path) else {
        return Err(Failure::not_found("There is no such page."));
    };
    if let Some(token) = query.get("token").filter(|_| console.access.by_link)
        && let Some(token) = console.access.tokens.find(token)
    {
        // The token leaves the address at once.
        return login::with_session(console, token, see_other(&without_token(path, &query)));
    }
    let Some(visitor) = console.visitor(&head.headers) else {
        let next = Link::to("/login").with("next", login::own_address(&without_token(path, &query)));
        return Ok(see_other(&next.text()));
    };
    // Whoever is not known takes no slot: strangers must not keep visitors out.
    let _slot = console.slots.try_acquire().map_err(|_| Failure::busy())?;
    let visit = Visit { console, visitor, query, path, now: (console.now)() };
    // Futures of pages hold what they read.
    match Box::pin(pages::page(&visit)).await {
        Ok(page) => Ok(html(StatusCode::OK, page)),
        Err(failure) => Ok(failed_in(Frame::of_failure(&visit, title(&failure)), &failure)),
    }
}

/// The address of a page without a token: addresses are written down by browsers and proxies.
fn without_token(path: &str, query: &Query) -> String {
    let rest = query.without(&["token"]);
    if rest.is_empty() { path.to_owned() } else { format!("{path}?{rest}") }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: Frame,
    status: u16,
    failure: &'a Failure,
}

fn title(failure: &Failure) -> &'static str {
    failure.status.canonical_reason().unwrap_or("Error")
}

fn failed(console: &Console, failure: &Failure) -> Response {
    let response = failed_in(Frame::bare(title(failure), (console.now)()), failure);
    match failure.status {
        StatusCode::SERVICE_UNAVAILABLE => with(response, header::RETRY_AFTER, "1"),
        _ => response,
    }
}

fn failed_in(frame: Frame, failure: &Failure) -> Response {
    let page = ErrorPage { frame, status: failure.status.as_u16(), failure };
    match page.render() {
        Ok(page) => html(failure.status, page),
        Err(_) => (failure.status, format!("{}\n{}\n", failure.what, failure.remedy)).into_response(),
    }
}

fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Assets say so themselves.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
