//! Owns the reading of an answer: a JSON body, or an event stream up to the answer with our id.
//!
//! **Invariant:** no more than `max_bytes` of one response are read, and nothing but our own answer ends the wait well.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::header::CONTENT_TYPE;
use reqwest::Response;
use serde_json::value::RawValue;
use tokio::time::{sleep, timeout};
use toolfleet_core::fault::Fault;

use crate::classify::Trouble;
use crate::endpoint::{Endpoint, OnNote};
use crate::network::detail_of;
use crate::notes::note;
use crate::sse::Parser;
use crate::transport::{Post, Sent, Speech, Transport};
use crate::wire::{Heard, hear, reply};
use crate::words::shorten;

/// How often a broken legacy stream is taken up again.
const MAX_RESUMES: u32 = 10;
/// The pause before that where the server names none, and the longest one it may name.
const DEFAULT_RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);
/// How many requests of a server to us are answered within one call.
const MAX_REPLIES: u32 = 16;
/// How long a best-effort side request may take.
pub(crate) const SIDE_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Which answer is waited for.
pub(crate) struct Waiting<'a> {
    pub(crate) id: u64,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) speech: Speech<'a>,
    pub(crate) on_note: Option<OnNote<'a>>,
}

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
}

/// Reads a whole body of at most that many bytes.
pub(crate) async fn read_body(mut response: Response, max_bytes: u64) -> Result<Vec<u8>, Fault> {
    let too_large = || Fault::AnswerTooLarge { limit_bytes: max_bytes };
    let declared = response.content_length();
    if declared.is_some_and(|length| length > max_bytes) {
        return Err(too_large());
    }
    let mut body =
        Vec::with_capacity(declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(1024));
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len().saturating_add(chunk.len()) as u64 > max_bytes {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn lost(error: reqwest::Error) -> Fault {
    Fault::AnswerLost { detail: detail_of(error) }
}

fn nonsense(detail: String) -> Trouble {
    Fault::InvalidAnswer { detail }.into()
}

impl Transport {
    /// The result in a response to a request of ours.
    pub(crate) async fn answer(
        &self,
        response: Response,
        waiting: &Waiting<'_>,
    ) -> Result<Box<RawValue>, Trouble> {
        let status = response.status();
        if !status.is_success() {
            return Err(Trouble::of_response(response, waiting.id).await);
        }
        let kind =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "text/event-stream" => self.listen(response, waiting).await,
            "application/json" => {
                let body = read_body(response, self.max_body_bytes).await?;
                answer_in(&body, waiting.id)
            }
            _ => {
                let found = if essence.is_empty() { "no content type".to_owned() } else { shorten(&essence) };
                let status = status.as_u16();
                Err(nonsense(format!(
                    "expected application/json or text/event-stream, found {found} with HTTP {status}"
                )))
            }
        }
    }

    async fn listen(&self, mut response: Response, waiting: &Waiting<'_>) -> Result<Box<RawValue>, Trouble> {
        let mut place = Place { last_id: None, retry: DEFAULT_RETRY, resumes: 0, replies: 0 };
        loop {
            let broken = match self.follow(response, waiting, &mut place).await? {
                End::Answer(result) => return Ok(result),
                End::Broken(detail) => detail,
            };
            response = self.take_up(waiting, &mut place, broken).await?;
        }
    }

    /// Follows one response to our answer or to its end.
    async fn follow(
        &self,
        mut response: Response,
        waiting: &Waiting<'_>,
        place: &mut Place,
    ) -> Result<End, Trouble> {
        let too_large = || Fault::AnswerTooLarge { limit_bytes: self.max_body_bytes };
        let mut parser = Parser::new(usize::try_from(self.max_body_bytes).unwrap_or(usize::MAX));
        let mut read: u64 = 0;
        let broken = loop {
            let chunk = match response.chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break "the event stream ended without the answer".to_owned(),
                Err(error) => break detail_of(error),
            };
            // What came within the bound counts, however the rest was cut.
            let left = usize::try_from(self.max_body_bytes.saturating_sub(read)).unwrap_or(usize::MAX);
            read = read.saturating_add(chunk.len() as u64);
            let fed = parser.feed(chunk.get(..left).unwrap_or(&chunk));
            while let Some(event) = parser.next_event() {
                if let Some(result) = self.take_event(&event, waiting, place)? {
                    finish_quietly(response);
                    return Ok(End::Answer(result));
                }
            }
            if fed.is_err() || read > self.max_body_bytes {
                return Err(too_large().into());
            }
        };
        place.last_id = parser.last_id().map(str::to_owned).or(place.last_id.take());
        place.retry = parser.retry_ms().map_or(place.retry, |ms| Duration::from_millis(ms).min(MAX_RETRY));
        // Some servers end the stream right after the answer, without the empty line that ends an event.
        if let Some(event) = parser.finish()
            && let Heard::Result(result) = hear(&event, waiting.id)
        {
            return Ok(End::Answer(result.to_owned()));
        }
        Ok(End::Broken(broken))
    }

    fn take_event(
        &self,
        event: &[u8],
        waiting: &Waiting<'_>,
        place: &mut Place,
    ) -> Result<Option<Box<RawValue>>, Trouble> {
        match hear(event, waiting.id) {
            Heard::Result(result) => return Ok(Some(result.to_owned())),
            Heard::Error(error) => return Err(Trouble::of_rpc(error)),
            Heard::Nonsense(detail) => return Err(nonsense(detail)),
            Heard::Request { id, method } => {
                place.replies = place.replies.saturating_add(1);
                if place.replies <= MAX_REPLIES {
                    self.reply_aside(waiting, reply(id, &method));
                }
            }
            Heard::Notification { method, params } => {
                if let (Some(hear), Some(params)) = (waiting.on_note, params)
                    && let Some(note) = note(&method, params, waiting.id, waiting.endpoint)
                {
                    hear(note);
                }
            }
        }
        Ok(None)
    }

    /// Answers a server's own request without holding up the call. A modern server has no way to make one.
    fn reply_aside(&self, waiting: &Waiting<'_>, body: Bytes) {
        let Speech::Legacy(session) = waiting.speech else {
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
    ) -> Result<Response, Trouble> {
        while let (Speech::Legacy(session), Some(last_id)) = (waiting.speech, place.last_id.as_deref()) {
            if place.resumes >= MAX_RESUMES {
                break;
            }
            place.resumes = place.resumes.saturating_add(1);
            sleep(place.retry).await;
            match self.resume(waiting.endpoint, session, last_id).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status().is_server_error() => {
                    broken = format!("HTTP {} to the resumption of its stream", response.status().as_u16());
                }
                Ok(response) => {
                    broken =
                        format!("{broken}, and cannot be taken up (HTTP {})", response.status().as_u16());
                    break;
                }
                Err(fault) => broken = fault.to_string(),
            }
        }
        Err(Fault::AnswerLost { detail: broken }.into())
    }

    /// A handle for side requests that outlive the call.
    pub(crate) fn aside(&self) -> Self {
        Self {
            clients: self.clients.clone(),
            reach: self.reach.clone(),
            info: self.info.clone(),
            max_body_bytes: self.max_body_bytes,
        }
    }

    /// Posts a notification or a reply; whether it arrives is not asked.
    pub(crate) async fn post_aside(
        &self,
        endpoint: &Endpoint,
        session: &crate::session::Session,
        body: Bytes,
    ) {
        let speech = Speech::Legacy(session);
        let post = Post::plain(endpoint, speech, "", body);
        let _ = timeout(SIDE_REQUEST_TIMEOUT, self.post(&post, &Sent::default())).await;
    }
}

/// Reads the rest of a stream that has given its answer, so that its connection can be used again.
fn finish_quietly(mut response: Response) {
    if let Some(Ok(None) | Err(_)) = response.chunk().now_or_never() {
        return;
    }
    tokio::spawn(async move {
        let rest = async { while let Ok(Some(_)) = response.chunk().await {} };
        let _ = timeout(Duration::from_millis(100), rest).await;
    });
}

/// The answer in a JSON body: a message, or a batch of them (2025-03-26).
fn answer_in(body: &[u8], id: u64) -> Result<Box<RawValue>, Trouble> {
    if body.trim_ascii_start().first() == Some(&b'[') {
        let frames: Vec<&RawValue> = serde_json::from_slice(body)
            .map_err(|error| nonsense(shorten(&format!("not a JSON-RPC batch ({error})"))))?;
        let answers = frames.into_iter().map(|frame| hear(frame.get().as_bytes(), id));
        let answer = answers.into_iter().find(|heard| matches!(heard, Heard::Result(_) | Heard::Error(_)));
        return take(answer.unwrap_or_else(|| Heard::Nonsense("a batch without our answer".to_owned())));
    }
    take(hear(body, id))
}

fn take(heard: Heard<'_>) -> Result<Box<RawValue>, Trouble> {
    match heard {
        Heard::Result(result) => Ok(result.to_owned()),
        Heard::Error(error) => Err(Trouble::of_rpc(error)),
        Heard::Nonsense(detail) => Err(nonsense(detail)),
        Heard::Request { method, .. } | Heard::Notification { method, .. } => {
            Err(nonsense(format!("expected an answer, found the message {}", shorten(&method))))
        }
    }
}
