//! Sends one request and reads its answer, in either revision; also `server/discover`, `initialize` and `ping`.
//!
//! **Invariant:** every request has its own id; no id is used twice in a process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};
use toolfleet_core::request::Operation;
use toolfleet_egress::sanitize_text_to;
use toolfleet_mcp_protocol::method;

use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::fault::invalid;
use crate::protocol::revision::ProtocolRevision;
use crate::protocol::wire::{
    CallParams, CompletionParams, LEGACY, ListenFilter, ListenParams, Meta, PageParams, ResourceParams,
    TaskParams, initialize, initialized, ping, request,
};
use crate::session_store::OpenSession;
use crate::tool_call::{Resume, TaskQuestion, ToolCall};
use crate::transport::cancel::Withdrawal;
use crate::transport::connection::Connection;
use crate::transport::discovery::{Discovered, Initialized, Learned, era_among, era_despite};
use crate::transport::http::cookies::Cookies;
use crate::transport::http::requests::{Post, SESSION_ID, Transport};
use crate::transport::http::session::Session;
use crate::transport::http::stream::{OnWord, SIDE_REQUEST_TIMEOUT, Waiting};
use crate::transport::request_error::{Refusal, RequestError};
use crate::transport::sent::Sent;

/// How long a server may say nothing to `server/discover` before `initialize` is sent.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// The first id is a random number below this. So the ids of a process fit into 31 bits for its first thousand million requests.
const FIRST_ID_BELOW: u64 = 1 << 30;

/// Sends requests one at a time for each caller.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) transport: Transport,
    pub(crate) ids: Arc<AtomicU64>,
    next_serial: AtomicU64,
}

/// What a `ping` in a session found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// It was answered.
    Alive,
    /// It was refused, too.
    Refused,
    /// No answer came.
    NotAnswered,
}

/// Which page of which listing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskedPage<'a> {
    pub(crate) operation: Operation,
    pub(crate) cursor: Option<&'a str>,
    pub(crate) traceparent: Option<&'a str>,
    pub(crate) tracestate: Option<&'a str>,
}

impl Exchange {
    pub(crate) fn new(transport: Transport) -> Self {
        // A bridge may send one worker the answer of another: they should have no ids in common.
        let first = fastrand::u64(1..FIRST_ID_BELOW);
        Self { transport, ids: Arc::new(AtomicU64::new(first)), next_serial: AtomicU64::new(1) }
    }

    /// An id that no other request has.
    pub(crate) fn next_id(&self) -> u64 {
        self.id()
    }

    fn id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn meta<'a>(&'a self, connection: Connection<'_>) -> Meta<'a> {
        match connection {
            Connection::Modern => Meta::modern(&self.transport.info),
            Connection::Channel(channel) if channel.is_modern() => Meta::modern(&self.transport.info),
            Connection::Channel(_) | Connection::Opening | Connection::Posting(_) | Connection::Legacy(_) => {
                Meta::legacy()
            }
        }
    }

    /// `tools/call`, `resources/read`, `prompts/get` or `completion/complete`. `sent` tells the caller of a future that was given up how far it came.
    pub(crate) async fn call(
        &self,
        call: &ToolCall<'_>,
        resume: Resume<'_>,
        connection: Connection<'_>,
        mirrored: Vec<(HeaderName, HeaderValue)>,
        sent: &Sent,
    ) -> Result<Box<RawValue>, RequestError> {
        let id = self.id();
        let resource = call.operation == Operation::ResourcesRead;
        let completes = call.operation == Operation::CompletionComplete;
        let is_named = !resource && !completes;
        let params = CallParams {
            name: is_named.then_some(call.name),
            uri: resource.then_some(call.name),
            arguments: is_named.then_some(call.arguments),
            completion: completes.then(|| CompletionParams::of(call.arguments)).flatten(),
            request_state: resume.request_state,
            input_responses: resume.input_responses,
            meta: self.meta(connection).can_answer(call.can_answer).with(
                call.on_note.map(|_| id),
                call.traceparent,
                call.tracestate,
            ),
        };
        let post = Post {
            endpoint: call.endpoint,
            connection,
            method: call.operation.as_str(),
            name: (!completes).then_some(call.name),
            mirrored,
            traceparent: call.traceparent,
            tracestate: call.tracestate,
            id: Some(id),
            body: request(id, call.operation.as_str(), params),
        };
        let waiting =
            Waiting { id, endpoint: call.endpoint, connection, on_note: call.on_note, on_word: None };
        let withdrawal = Withdrawal::new(&self.transport, call.endpoint, connection, id, sent);
        let answer = self.transport.ask(&post, &waiting, sent).await;
        withdrawal.disarm();
        answer
    }

    /// `subscriptions/listen` for one resource; `hear` takes what is told over HTTP until the answer.
    pub(crate) async fn listen(
        &self,
        call: &ToolCall<'_>,
        connection: Connection<'_>,
        hear: OnWord<'_>,
    ) -> Result<Box<RawValue>, RequestError> {
        let (id, method) = (self.id(), method::SUBSCRIPTIONS_LISTEN);
        let meta = self.meta(connection).with(None, call.traceparent, call.tracestate);
        let notifications = ListenFilter { resource_subscriptions: [call.name] };
        let body = request(id, method, ListenParams { notifications, meta });
        let ToolCall { endpoint, traceparent, tracestate, .. } = *call;
        let post = Post { traceparent, tracestate, ..Post::plain(endpoint, connection, method, body) };
        let waiting = Waiting { id, endpoint, connection, on_note: None, on_word: Some(hear) };
        self.transport.ask(&post, &waiting, &Sent::default()).await
    }

    /// `resources/subscribe` of the versions that have sessions.
    pub(crate) async fn subscription(
        &self,
        call: &ToolCall<'_>,
        connection: Connection<'_>,
        method: &'static str,
    ) -> Result<Box<RawValue>, RequestError> {
        let id = self.id();
        let meta = self.meta(connection).with(None, call.traceparent, call.tracestate);
        let body = request(id, method, ResourceParams { uri: call.name, meta });
        self.ask(call.endpoint, connection, method, id, body).await
    }

    /// `resources/unsubscribe`, with its id.
    pub(crate) fn unsubscription(&self, call: &ToolCall<'_>) -> (u64, Bytes) {
        let id = self.id();
        let params = ResourceParams { uri: call.name, meta: Meta::legacy() };
        (id, request(id, method::RESOURCES_UNSUBSCRIBE, params))
    }

    /// One page of a listing.
    pub(crate) async fn list(
        &self,
        endpoint: &Endpoint,
        connection: Connection<'_>,
        asked: AskedPage<'_>,
    ) -> Result<Box<RawValue>, RequestError> {
        let AskedPage { operation, cursor, traceparent, tracestate } = asked;
        let (id, method) = (self.id(), operation.as_str());
        let meta = self.meta(connection).with(None, traceparent, tracestate);
        let body = request(id, method, PageParams { cursor, meta });
        let post = Post { traceparent, tracestate, ..Post::plain(endpoint, connection, method, body) };
        let waiting = Waiting { id, endpoint, connection, on_note: None, on_word: None };
        self.transport.ask(&post, &waiting, &Sent::default()).await
    }

    /// A request about a task, whose id travels where a tool's name would.
    pub(crate) async fn of_task(
        &self,
        method: &'static str,
        question: &TaskQuestion<'_>,
        input_responses: Option<&RawValue>,
        connection: Connection<'_>,
    ) -> Result<Box<RawValue>, RequestError> {
        let TaskQuestion { endpoint, task, traceparent, tracestate, .. } = *question;
        let id = self.id();
        let meta = self.meta(connection).with(None, traceparent, tracestate);
        let body = request(id, method, TaskParams { task, input_responses, meta });
        let plain = Post::plain(endpoint, connection, method, body);
        let post = Post { name: Some(task), traceparent, tracestate, ..plain };
        let waiting = Waiting { id, endpoint, connection, on_note: None, on_word: None };
        self.transport.ask(&post, &waiting, &Sent::default()).await
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        connection: Connection<'_>,
        method: &str,
        id: u64,
        body: Bytes,
    ) -> Result<Box<RawValue>, RequestError> {
        let post = Post::plain(endpoint, connection, method, body);
        let waiting = Waiting { id, endpoint, connection, on_note: None, on_word: None };
        self.transport.ask(&post, &waiting, &Sent::default()).await
    }

    /// Asks with `server/discover`, which runs no tool, which generation a server speaks.
    ///
    /// What a server before 2026-07-28 says to a method and a version it does not know is any 4xx, a JSON-RPC error, or a plain
    /// failure. Some never answer, drop the connection, or stand behind a gateway that answers 502 to 504: then the older generation
    /// is assumed, and `initialize` shows whether that was right. A server that cannot be connected to, or answers 429, 401 or 403,
    /// is not asked any further.
    pub(crate) async fn discover(&self, endpoint: &Endpoint) -> Result<Learned, RequestError> {
        let id = self.id();
        let params = PageParams { cursor: None, meta: Meta::modern(&self.transport.info) };
        let body = request(id, "server/discover", params);
        let asked = self.ask(endpoint, Connection::Modern, "server/discover", id, body);
        let trouble = match timeout(PROBE_TIMEOUT, asked).await {
            Ok(Ok(result)) => {
                let era = match serde_json::from_str::<Discovered>(result.get()) {
                    Ok(found) => era_among(found.supported_versions)?,
                    Err(_) => ProtocolRevision::Legacy,
                };
                return Ok(Learned { era, answered: true });
            }
            Ok(Err(trouble)) => trouble,
            Err(_) => return Ok(Learned { era: ProtocolRevision::Legacy, answered: false }),
        };
        let unanswered = matches!(
            trouble.fault,
            Fault::AnswerLost { .. }
                | Fault::AnswerTooLarge { .. }
                | Fault::ServerStatus { status: 502..=504, .. }
        );
        if unanswered {
            return Ok(Learned { era: ProtocolRevision::Legacy, answered: false });
        }
        era_despite(trouble).map(|era| Learned { era, answered: true })
    }

    /// A session that another client opened, if we speak its version.
    pub(crate) fn resumed(&self, open: &OpenSession) -> Option<Session> {
        let version = LEGACY.into_iter().find(|known| *known == open.version)?;
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        let cookies = Arc::new(Cookies::of_header(&open.cookies));
        Some(Session { id: Some(Arc::from(open.id.as_str())), version, serial, opened: None, cookies })
    }

    /// Whether the server still answers in this session. Only an answered `ping` says so: it runs no tool, and every version that
    /// has sessions has it.
    pub(crate) async fn is_alive(&self, endpoint: &Endpoint, session: &Session) -> Liveness {
        let (id, connection) = (self.id(), Connection::Legacy(session));
        let ping = self.ask(endpoint, connection, "ping", id, ping(id));
        match timeout(SIDE_REQUEST_TIMEOUT, ping).await {
            Ok(Ok(_)) => Liveness::Alive,
            // A server that is busy or fails for a moment says nothing of the session.
            Ok(Err(RequestError {
                refusal: Some(Refusal { status: 408 | 421 | 425 | 429 | 501.., .. }),
                ..
            })) => Liveness::NotAnswered,
            Ok(Err(RequestError { refusal: Some(_), .. })) => Liveness::Refused,
            Ok(Err(_)) | Err(_) => Liveness::NotAnswered,
        }
    }

    /// Opens a session: `initialize`, then `notifications/initialized`.
    pub(crate) async fn open(&self, endpoint: &Endpoint) -> Result<Session, RequestError> {
        let (id, connection) = (self.id(), Connection::Opening);
        let body = initialize(id, &self.transport.info);
        let post = Post::plain(endpoint, connection, "initialize", body);
        let response = self.transport.post(&post, &Sent::default()).await?;
        let session_id = response.headers().get(&SESSION_ID).and_then(|id| id.to_str().ok()).map(Arc::from);
        let cookies = Arc::new(Cookies::default());
        cookies.take(&endpoint.url, response.headers());
        let waiting = Waiting { id, endpoint, connection, on_note: None, on_word: None };
        let result = self.transport.answer(response, &waiting).await?;
        let found: Initialized = serde_json::from_str(result.get())
            .map_err(|error| invalid("an initialize result", &error.to_string()))?;
        let version = LEGACY.into_iter().find(|known| *known == found.protocol_version).ok_or_else(|| {
            Fault::VersionUnsupported { supported: vec![sanitize_text_to(&found.protocol_version, 32)] }
        })?;
        let serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
        let session = Session { id: session_id, version, serial, opened: Some(Instant::now()), cookies };
        let connection = Connection::Legacy(&session);
        let method = "notifications/initialized";
        let body = initialized();
        let post = Post::plain(endpoint, connection, method, body);
        let response = self.transport.post(&post, &Sent::default()).await?;
        if !response.status().is_success() {
            return Err(RequestError::of_response(response, 0).await);
        }
        tracing::debug!(server = %endpoint.server, version, "a server speaks");
        Ok(session)
    }
}
