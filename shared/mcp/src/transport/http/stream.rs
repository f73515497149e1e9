//! Reads the answer to a request: a JSON body, or an event stream up to the message with our id.
//!
//! Other events, texts that are no JSON-RPC and answers to other requests are skipped and counted.
//!
//! **Invariant:** at most `max_bytes` of one message are held, and only our own answer ends the wait with success.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use reqwest::Response;
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};
use toolfleet_egress::{BodyError, ResponseBody, sanitize_text};

use crate::blocking::LARGE_BYTES;
use crate::endpoint::Endpoint;
use crate::fault::Fault;
use crate::protocol::frame::{Heard, hear, messages_in, readable};
use crate::protocol::message_head::Beginning;
use crate::protocol::notifications::note;
use crate::protocol::wire::reply;
use crate::tool_call::OnNote;
use crate::transport::connection::Connection;
use crate::transport::http::requests::{Post, Transport};
use crate::transport::http::session::Session;
use crate::transport::http::sse::{Event, Parser};
use crate::transport::request_error::{RequestError, may_pass, retry_after_ms};
use crate::transport::sent::Sent;
use crate::transport::whole_message::{Large, answer_in, heard_beside};

/// How often a broken legacy stream is taken up again.
const MAX_RESUMES: u32 = 10;
/// The pause before that where the server names none, and the longest one it may name.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);
/// How much of a whole body is looked at for events before others have their turn.
const EVENT_BYTES_AT_ONCE: usize = 64 * 1024;
/// How many requests of a server to us are answered within one call.
const MAX_REPLIES: u32 = 16;
/// How long a best-effort side request may take.
pub(crate) const SIDE_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How many bytes tell JSON from an event stream.
const TELLING_BYTES: usize = 6;

/// Which answer is waited for.
pub(crate) struct Waiting<'a> {
    pub(crate) id: u64,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) connection: Connection<'a>,
    pub(crate) on_note: Option<OnNote<'a>>,
    /// Hears every notification.
    pub(crate) on_word: Option<OnWord<'a>>,
}

/// Hears a notification: its method and its parameters.
pub(crate) type OnWord<'a> = &'a (dyn Fn(&str, Option<&RawValue>) + Send + Sync);

/// How a stream ended.
enum End {
    Answer(Box<RawValue>),
    Broken(String),
}

/// Where a stream is, across its resumptions.
struct Place {
    last_id: Option<String>,
    retry: Duration,
    resumes: u32,
    replies: u32,
    /// How many messages were not for this request, and why the last one was not.
    skipped: u64,
    last_skipped: Option<String>,
}

/// How a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Events,
    /// The server does not say, or says something else: the body itself tells.
    Unsaid,
}

fn nonsense(detail: String) -> RequestError {
    Fault::InvalidAnswer { detail }.into()
}

/// The media type without its parameters. Some servers and proxies set it twice.
fn essence(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let first = value.split([';', ',']).next().unwrap_or_default();
    first.trim().to_ascii_lowercase()
}

fn kind_of_body(essence: &str) -> Kind {
    match essence {
        "text/event-stream" => Kind::Events,
        "application/json" | "text/json" => Kind::Json,
        other if other.ends_with("+json") => Kind::Json,
        _ => Kind::Unsaid,
    }
}

/// Whether a body begins as an event stream does.
fn begins_events(text: &[u8]) -> bool {
    [&b"data:"[..], b"event:", b"id:", b"retry:", b":"].iter().any(|field| text.starts_with(field))
}

impl Transport {
    /// The result in a response to a request of ours.
    pub(crate) async fn answer(
        &self,
        response: Response,
        waiting: &Waiting<'_>,
    ) -> Result<Box<RawValue>, RequestError> {
        let status = response.status();
        if !status.is_success() {
            return Err(RequestError::of_response(response, waiting.id).await);
        }
        let essence = essence(response.headers());
        let mut incoming = ResponseBody::new(response).map_err(Fault::from)?;
        let kind = match kind_of_body(&essence) {
            Kind::Unsaid => {
                let lost = |BodyError(detail)| Fault::AnswerLost { detail };
                let beginning = incoming.peek(TELLING_BYTES).await.map_err(lost)?;
                match beginning.first() {
                    Some(b'{' | b'[') => Kind::Json,
                    _ if begins_events(&beginning) => Kind::Events,
                    _ => Kind::Unsaid,
                }
            }
            said @ (Kind::Json | Kind::Events) => said,
        };
        match kind {
            Kind::Events => self.listen(incoming, waiting).await,
            Kind::Json => {
                let body = incoming.whole(self.max_body_bytes).await.map_err(Fault::from)?;
                if begins_events(&body) {
                    return self.answer_among(&body, waiting).await;
                }
                answer_in(body, waiting.id).await
            }
            Kind::Unsaid => {
                let found =
                    if essence.is_empty() { "no content type".to_owned() } else { sanitize_text(&essence) };
                let status = status.as_u16();
                Err(nonsense(format!(
                    "expected application/json or text/event-stream, found {found} with HTTP {status}"
                )))
            }
        }
    }

    async fn listen(
        &self,
        mut incoming: ResponseBody,
        waiting: &Waiting<'_>,
    ) -> Result<Box<RawValue>, RequestError> {
        let mut place = Place::new();
        loop {
            let broken = match self.follow(incoming, waiting, &mut place).await? {
                End::Answer(result) => return Ok(result),
                End::Broken(detail) => detail,
            };
            let response = self.take_up(waiting, &mut place, broken).await?;
            incoming = ResponseBody::new(response).map_err(Fault::from)?;
        }
    }

    /// The answer in a stream that came as a whole body.
    async fn answer_among(&self, body: &[u8], waiting: &Waiting<'_>) -> Result<Box<RawValue>, RequestError> {
        let (mut place, mut parser) = (Place::new(), self.parser());
        for piece in body.chunks(EVENT_BYTES_AT_ONCE) {
            parser.feed(piece);
            while let Some(event) = parser.next_event() {
                if let Some(result) = self.take_event(event, waiting, &mut place).await? {
                    return Ok(result);
                }
            }
            // A body of 16 MiB takes a while.
            tokio::task::yield_now().await;
        }
        if let Some(event) = parser.finish()
            && let Some(result) = self.take_event(Event::Whole(event), waiting, &mut place).await?
        {
            return Ok(result);
        }
        Err(nonsense(place.told("an event stream without the answer".to_owned())))
    }

    fn parser(&self) -> Parser {
        Parser::new(usize::try_from(self.max_body_bytes).unwrap_or(usize::MAX))
    }

    /// Follows one response to our answer or to its end.
    async fn follow(
        &self,
        mut incoming: ResponseBody,
        waiting: &Waiting<'_>,
        place: &mut Place,
    ) -> Result<End, RequestError> {
        let mut parser = self.parser();
        let broken = loop {
            let chunk = match incoming.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break "the event stream ended without the answer".to_owned(),
                Err(BodyError(detail)) => break detail,
            };
            parser.feed(&chunk);
            while let Some(event) = parser.next_event() {
                if let Some(result) = self.take_event(event, waiting, place).await? {
                    finish_quietly(incoming.into_response());
                    return Ok(End::Answer(result));
                }
            }
        };
        place.last_id = parser.last_id().map(str::to_owned).or(place.last_id.take());
        place.retry = parser.retry_ms().map_or(place.retry, |ms| Duration::from_millis(ms).min(MAX_RETRY));
        // Some servers end the stream right after the answer, without the empty line that ends an event.
        if let Some(event) = parser.finish() {
            let text = readable(&event);
            let heard = messages_in(&text).into_iter().map(|message| hear(message, waiting.id));
            for heard in heard {
                match heard {
                    Heard::Result(result) => return Ok(End::Answer(result.to_owned())),
                    Heard::Error(error) if error.with_our_id => return Err(RequestError::of_rpc(error)),
                    Heard::Error(_)
                    | Heard::Request { .. }
                    | Heard::Notification { .. }
                    | Heard::Foreign(_)
                    | Heard::Nonsense(_) => {}
                }
            }
        }
        place.skipped = place.skipped.saturating_add(parser.others());
        Ok(End::Broken(place.told(broken)))
    }

    async fn take_event(
        &self,
        event: Event,
        waiting: &Waiting<'_>,
        place: &mut Place,
    ) -> Result<Option<Box<RawValue>>, RequestError> {
        let data = match event {
            Event::Whole(data) if data.len() >= LARGE_BYTES => {
                return match heard_beside(data, waiting.id).await {
                    Large::Result(result) => Ok(Some(result)),
                    Large::Error(error) => Err(RequestError::of_rpc(error)),
                    Large::Nonsense(detail) => Err(nonsense(detail)),
                    Large::Other(reason) => {
                        place.skip(reason, waiting);
                        Ok(None)
                    }
                };
            }
            Event::Whole(data) => data,
            Event::Endpoint(_) => {
                place.skip("an `endpoint` event, which belongs to another transport".to_owned(), waiting);
                return Ok(None);
            }
            Event::TooLong(beginning) => {
                let of = Beginning::of(&beginning);
                if of.is_own_word || of.of_another || of.is_noise || of.id.is_some_and(|id| id != waiting.id)
                {
                    place.skip(
                        "a message beyond the bound that is no answer to this request".to_owned(),
                        waiting,
                    );
                    return Ok(None);
                }
                return Err(Fault::AnswerTooLarge { limit_bytes: self.max_body_bytes }.into());
            }
        };
        let text = readable(&data);
        for message in messages_in(&text) {
            match hear(message, waiting.id) {
                Heard::Result(result) => return Ok(Some(result.to_owned())),
                Heard::Error(error) => return Err(RequestError::of_rpc(error)),
                Heard::Nonsense(detail) => return Err(nonsense(detail)),
                Heard::Foreign(reason) => place.skip(reason, waiting),
                Heard::Request { id, method } => {
                    place.replies = place.replies.saturating_add(1);
                    if place.replies <= MAX_REPLIES {
                        self.reply_aside(waiting, reply(id, &method));
                    }
                }
                Heard::Notification { method, params } => {
                    if let Some(hear) = waiting.on_word {
                        hear(&method, params);
                    }
                    if let (Some(hear), Some(params)) = (waiting.on_note, params)
                        && let Some(note) = note(&method, params, waiting.id, waiting.endpoint)
                    {
                        hear(note);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Hears the notifications of a session's event stream until it ends; says why it did.
    pub(crate) async fn hear_updates(
        &self,
        response: Response,
        endpoint: &Endpoint,
        session: &Session,
        hear: OnWord<'_>,
    ) -> String {
        let connection = Connection::Legacy(session);
        // No request has that id: answers are not for this stream.
        let waiting = Waiting { id: 0, endpoint, connection, on_note: None, on_word: Some(hear) };
        let mut place = Place::new();
        let ended = match ResponseBody::new(response) {
            Ok(incoming) => self.follow(incoming, &waiting, &mut place).await,
            Err(error) => return Fault::from(error).to_string(),
        };
        match ended {
            Ok(End::Broken(detail)) => detail,
            Ok(End::Answer(_)) => "the event stream has an answer that nobody asked for".to_owned(),
            Err(error) => error.fault.to_string(),
        }
    }

    /// Answers a server's own request without holding up the call. A modern server has no way to make one.
    fn reply_aside(&self, waiting: &Waiting<'_>, body: Bytes) {
        let Connection::Legacy(session) = waiting.connection else {
            return;
        };
        let side = self.aside();
        let (endpoint, session) = (waiting.endpoint.clone(), session.clone());
        tokio::spawn(async move { side.post_aside(&endpoint, &session, body).await });
    }

    /// Takes up a broken legacy stream after the last event it named.
    async fn take_up(
        &self,
        waiting: &Waiting<'_>,
        place: &mut Place,
        mut broken: String,
    ) -> Result<Response, RequestError> {
        let mut pause = Duration::ZERO;
        while let (Connection::Legacy(session), Some(last_id)) =
            (waiting.connection, place.last_id.as_deref())
        {
            if place.resumes >= MAX_RESUMES {
                break;
            }
            place.resumes = place.resumes.saturating_add(1);
            sleep(place.retry.max(std::mem::take(&mut pause))).await;
            match self.resume(waiting.endpoint, session, last_id).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if may_pass_later(response.status().as_u16()) => {
                    broken = format!("HTTP {} to the resumption of its stream", response.status().as_u16());
                    let asked_ms = retry_after_ms(response.headers()).unwrap_or(0);
                    pause = Duration::from_millis(asked_ms).min(MAX_RETRY);
                }
                Ok(response) => {
                    broken =
                        format!("{broken}, and cannot be taken up (HTTP {})", response.status().as_u16());
                    break;
                }
                Err(RequestError { fault: fault @ Fault::Redirect { .. }, .. }) => {
                    broken = format!("{broken}, and cannot be taken up ({fault})");
                    break;
                }
                Err(error) => broken = error.fault.to_string(),
            }
        }
        Err(Fault::AnswerLost { detail: broken }.into())
    }

    /// A handle for side requests that outlive the call.
    pub(crate) fn aside(&self) -> Self {
        Self { clients: self.clients.clone(), info: self.info.clone(), max_body_bytes: self.max_body_bytes }
    }

    /// Posts a notification or a reply; whether it arrives is not asked.
    pub(crate) async fn post_aside(&self, endpoint: &Endpoint, session: &Session, body: Bytes) {
        let connection = Connection::Legacy(session);
        let post = Post::plain(endpoint, connection, "", body);
        let _ = timeout(SIDE_REQUEST_TIMEOUT, self.post(&post, &Sent::default())).await;
    }
}

/// Whether a stream may be taken up later whose resumption had that status.
const fn may_pass_later(status: u16) -> bool {
    status == 429 || may_pass(status)
}

impl Place {
    fn new() -> Self {
        Self { last_id: None, retry: DEFAULT_RETRY, resumes: 0, replies: 0, skipped: 0, last_skipped: None }
    }

    fn skip(&mut self, reason: String, waiting: &Waiting<'_>) {
        if self.skipped == 0 {
            let reason = waiting.endpoint.text_without_echo(reason.clone());
            tracing::debug!(server = %waiting.endpoint.server, %reason, "a message of an event stream is skipped");
        }
        self.skipped = self.skipped.saturating_add(1);
        self.last_skipped = Some(reason);
    }

    /// How the stream ended, with what was skipped before.
    fn told(&self, end: String) -> String {
        match (self.skipped, &self.last_skipped) {
            (0, _) => end,
            (n, None) => format!("{end}; {n} other events were skipped"),
            (n, Some(last)) => format!("{end}; {n} other events were skipped, the last one because: {last}"),
        }
    }
}

/// Reads the rest of a stream that has given its answer, so that its connection can be used again.
pub(crate) fn finish_quietly(mut response: Response) {
    if let Some(Ok(None) | Err(_)) = response.chunk().now_or_never() {
        return;
    }
    tokio::spawn(async move {
        let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
        let _ = timeout(Duration::from_millis(100), rest).await;
    });
}
