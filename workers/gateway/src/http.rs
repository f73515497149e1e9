//! The transport: streamable HTTP at one path, for clients of all versions. A POST has one JSON-RPC message; its response is a JSON object, or
//! an event stream where the client asked for progress or can be asked for input.
//!
//! The gateway keeps no session. What it gives as `Mcp-Session-Id` to clients of 2025-11-25 and before any gateway accepts: it tells the requests
//! of one client from those of another, and says what the client can be asked for ([`crate::session_id`]).

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use futures::channel::mpsc;
use futures::stream::select;
use futures::{StreamExt as _, stream};
use serde_json::value::RawValue;
use tokio::time::Instant;
use toolfleet_mcp_protocol::{error_code, header as mcp_header, method};
use toolfleet_web::hosts::Hosts;

use crate::accept::{accept, first_of, inbound_of, takes_batches, takes_events, text};
use crate::auth::Refusal;
use crate::batch::{answer_batch, messages_of};
use crate::caller::Caller;
use crate::gateway::{Gateway, legacy, negotiated};
use crate::message::{Request, RpcError, response};
use crate::per_caller::too_many_lasting;
use crate::session_id;
use crate::slots::{NoSlot, Slot, Slots};
use crate::streams::StreamEvent;

/// How long a client may take to send a request.
const BODY_TIME_OUT: Duration = Duration::from_secs(30);
/// How often an event stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// The path of the MCP endpoint.
pub(crate) const PATH: &str = "/mcp";

/// The endpoint with its bounds.
struct Endpoint {
    gateway: Arc<Gateway>,
    hosts: Hosts,
    slots: Slots,
    /// Of event streams that last, most of which are idle: as many again, so that they keep out no request.
    streams: Slots,
}

/// The routes of a gateway.
pub(crate) fn routes(gateway: Arc<Gateway>, hosts: Hosts) -> Router {
    let several_tenants = gateway.authenticator.has_several_tenants();
    let slots = || Slots::new(gateway.limits.max_requests, several_tenants);
    let (slots, streams) = (slots(), slots());
    let metadata = gateway.authenticator.metadata();
    let endpoint = Arc::new(Endpoint { gateway, hosts, slots, streams });
    let router =
        Router::new().route(PATH, post(take).get(open_stream)).route("/health", get(|| async { "ok\n" }));
    let router = match metadata {
        None => router,
        Some(metadata) => {
            let answer = move || std::future::ready(axum::Json(metadata.clone()));
            router
                .route("/.well-known/oauth-protected-resource", get(answer.clone()))
                .route(&format!("/.well-known/oauth-protected-resource{PATH}"), get(answer))
        }
    };
    router.with_state(endpoint)
}

async fn take(State(endpoint): State<Arc<Endpoint>>, request: HttpRequest) -> Response {
    let at = Instant::now();
    if let Err(why) = endpoint.hosts.check(request.headers()) {
        return refused(StatusCode::FORBIDDEN, &why);
    }
    if !is_json(request.headers()) {
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type is not application/json");
    }
    // Whoever is not known takes no slot, however long the issuer of tokens is asked for its keys.
    let caller = match endpoint.gateway.caller(request.headers()).await {
        Ok(caller) => caller,
        Err(refusal) => return not_allowed(refusal),
    };
    let mut slot = match endpoint.slots.take(&caller.tenant) {
        Ok(slot) => slot,
        Err(why) => return busy(why),
    };
    let response =
        answer(&endpoint, request, (caller, at), &mut slot).await.unwrap_or_else(|refused| refused);
    slot.held_by(response)
}

fn is_json(headers: &HeaderMap) -> bool {
    text(headers, header::CONTENT_TYPE.as_str()).is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    })
}

fn busy(why: NoSlot) -> Response {
    let response = refused(StatusCode::SERVICE_UNAVAILABLE, why.text());
    with_header(response, header::RETRY_AFTER, HeaderValue::from_static("1"))
}

/// The answer of a request, or why it is none.
async fn answer(
    endpoint: &Endpoint,
    request: HttpRequest,
    (caller, at): (Caller, Instant),
    slot: &mut Slot,
) -> Result<Response, Response> {
    let (parts, body) = request.into_parts();
    let body = body_of(body, endpoint.gateway.limits.max_body_bytes).await?;
    if takes_batches(&parts.headers) && first_of(&body) == Some(b'[') {
        let messages = messages_of(&body).map_err(|error| failed(None, &error))?;
        let (gateway, slots) = (&endpoint.gateway, &endpoint.slots);
        let answers = answer_batch(gateway, slots, &parts.headers, (messages, &caller), at).await;
        return Ok(match answers {
            Some(answers) => json_response(StatusCode::OK, answers),
            None => StatusCode::ACCEPTED.into_response(),
        });
    }
    let inbound = inbound_of(&body).map_err(|error| failed(None, &error))?;
    drop(body);
    let id = inbound.id.clone();
    let accepted = accept(&parts.headers, inbound, caller, at);
    let request = accepted.map_err(|error| failed(id.as_deref(), &error))?;
    let gateway = Arc::clone(&endpoint.gateway);
    Ok(match stream_of(&request, &parts.headers) {
        None => respond(gateway, request).await,
        Some(Stream::OfCall) => events(gateway, request),
        Some(Stream::Lasting) => {
            *slot = endpoint.streams.take(&request.caller.tenant).map_err(busy)?;
            events(gateway, request)
        }
    })
}

async fn body_of(body: Body, most: usize) -> Result<Bytes, Response> {
    match tokio::time::timeout(BODY_TIME_OUT, to_bytes(body, most)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(_)) => Err(refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("the request has more than {most} bytes, or was cut"),
        )),
        Err(_) => Err(refused(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time")),
    }
}

/// The event stream that answers a request.
enum Stream {
    /// It ends with the call.
    OfCall,
    /// It lasts as long as its client listens, or a task takes.
    Lasting,
}

/// The event stream that a request asks for.
fn stream_of(request: &Request, headers: &HeaderMap) -> Option<Stream> {
    let (stream, is_asked) = match request.inbound.method.as_str() {
        method::TOOLS_CALL => {
            (Stream::OfCall, request.meta.progress_token.is_some() || request.may_be_asked())
        }
        method::PROMPTS_GET | method::RESOURCES_READ => (Stream::OfCall, request.may_be_asked()),
        method::TASKS_RESULT => (Stream::Lasting, request.has_task_requests()),
        method::SUBSCRIPTIONS_LISTEN => (Stream::Lasting, request.is_modern()),
        _ => return None,
    };
    (is_asked && takes_events(headers) && request.inbound.id.is_some()).then_some(stream)
}

async fn respond(gateway: Arc<Gateway>, request: Request) -> Response {
    if request.inbound.is_answer() {
        return match gateway.take_answer(&request).await {
            Ok(()) => StatusCode::ACCEPTED.into_response(),
            Err(error) => failed(None, &error),
        };
    }
    if request.inbound.id.is_none() {
        gateway.take_notification(&request).await;
        return StatusCode::ACCEPTED.into_response();
    }
    let session = match request.inbound.method.as_str() {
        method::INITIALIZE => negotiated(&request).ok().map(|version| {
            let params = request.inbound.params.as_deref().map_or("{}", RawValue::get);
            session_id::new(params, version)
        }),
        _ => None,
    };
    let answer = gateway.answer(&request, &None).await;
    let id = request.inbound.id.as_deref();
    let sent = match answer {
        Ok(result) => json_response(StatusCode::OK, response(id, &result)),
        Err(error) => return failed(id, &error),
    };
    match session.and_then(|session| HeaderValue::from_str(&session).ok()) {
        Some(session) => with_header(sent, header::HeaderName::from_static(mcp_header::SESSION_ID), session),
        None => sent,
    }
}

/// The answer as an event stream. It goes the way of the notifications, so that they all come before it. Whoever drops the stream drops the request.
fn events(gateway: Arc<Gateway>, request: Request) -> Response {
    let (sender, messages) = mpsc::unbounded();
    let answering = async move {
        let notifications = Some(sender.clone());
        let answer = gateway.answer(&request, &notifications).await;
        let id = request.inbound.id.as_deref();
        let text = match answer {
            Ok(result) => response(id, &result),
            Err(error) => error.text(id),
        };
        // Where nobody listens any more, nobody misses it.
        let _gone = sender.unbounded_send(text);
        None
    };
    let all = select(messages, stream::once(answering).filter_map(std::future::ready).boxed());
    event_stream(all.map(|text| Event::default().data(text)))
}

fn event_stream(events: impl futures::Stream<Item = Event> + Send + 'static) -> Response {
    let events = Sse::new(events.map(Ok::<_, Infallible>));
    let stream = events.keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    with_header(stream, header::HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"))
}

/// A GET: the event stream of a session of a version before 2026-07-28, where resources can be subscribed to.
async fn open_stream(State(endpoint): State<Arc<Endpoint>>, request: HttpRequest) -> Response {
    if let Err(why) = endpoint.hosts.check(request.headers()) {
        return refused(StatusCode::FORBIDDEN, &why);
    }
    let headers = request.headers();
    let has_sessions = text(headers, mcp_header::PROTOCOL_VERSION).is_none_or(|text| legacy(text).is_some());
    let session = text(headers, mcp_header::SESSION_ID).map(str::to_owned);
    let Some(session) =
        session.filter(|_| takes_events(headers) && has_sessions && endpoint.gateway.has_session_streams())
    else {
        let response = StatusCode::METHOD_NOT_ALLOWED.into_response();
        return with_header(response, header::ALLOW, HeaderValue::from_static("POST"));
    };
    let caller = match endpoint.gateway.caller(headers).await {
        Ok(caller) => caller,
        Err(refusal) => return not_allowed(refusal),
    };
    let slot = match endpoint.streams.take(&caller.tenant) {
        Ok(slot) => slot,
        Err(why) => return busy(why),
    };
    let Some(counted) = endpoint.gateway.lasting.count(&caller) else {
        return failed(None, &RpcError { status: StatusCode::TOO_MANY_REQUESTS, ..too_many_lasting() });
    };
    let last_event = text(headers, mcp_header::LAST_EVENT_ID).map(str::to_owned);
    let (gateway, (sender, events)) = (Arc::clone(&endpoint.gateway), mpsc::unbounded());
    let telling = async move {
        let _counted = counted;
        gateway.session_stream(&caller, &session, last_event.as_deref(), &sender).await;
        None
    };
    let all = select(events, stream::once(telling).filter_map(std::future::ready).boxed());
    let response = event_stream(all.map(|StreamEvent { id, data }| {
        let event = Event::default().data(data);
        match id {
            Some(id) => event.id(id),
            None => event,
        }
    }));
    slot.held_by(response)
}

fn json_response(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], text)
        .into_response()
}

fn with_header(mut response: Response, name: header::HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

fn failed(id: Option<&RawValue>, error: &RpcError) -> Response {
    json_response(error.status, error.text(id))
}

/// An error before there is a message.
fn refused(status: StatusCode, why: &str) -> Response {
    failed(None, &RpcError::new(status, error_code::INVALID_REQUEST, why))
}

fn not_allowed(refusal: Refusal) -> Response {
    let (status, why, challenge) = match refusal {
        Refusal::Unauthorized { why, challenge } => (StatusCode::UNAUTHORIZED, why, Some(challenge)),
        Refusal::Forbidden { why, challenge } => (StatusCode::FORBIDDEN, why, challenge),
        Refusal::Unavailable { why } => (StatusCode::SERVICE_UNAVAILABLE, why, None),
    };
    let response = refused(status, &why);
    match challenge.and_then(|challenge| HeaderValue::from_str(&challenge).ok()) {
        Some(challenge) => with_header(response, header::WWW_AUTHENTICATE, challenge),
        None => response,
    }
}
