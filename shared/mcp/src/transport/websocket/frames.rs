//! Writes and reads the frames of a WebSocket, and pings a server that says nothing.
//!
//! **Invariant:** a message counts as not sent only where its frame was not begun; no more than the bound of a message is held.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::Upgraded;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use toolfleet_egress::sanitize_text_to;

use crate::blocking::{LARGE_BYTES, beside};
use crate::fault::Fault;
use crate::transport::channels::channel::{Channel, Outgoing};

/// How long a server may leave a message of ours unread.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// How long a server may say nothing before it is pinged, and how long before its connection counts as broken.
const PING_AFTER: Duration = Duration::from_secs(20);
const BROKEN_AFTER: Duration = Duration::from_secs(60);
/// How long a close frame of ours may take to leave.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);
/// How much of a reason is repeated.
const REASON_CHARS: usize = 120;

/// When the server was heard last.
#[derive(Debug)]
pub(crate) struct SignsOfLife(Mutex<Instant>);

impl SignsOfLife {
    pub(crate) fn now() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    fn heard(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Sink = SplitSink<WebSocketStream<Upgraded>, Message>;
type Stream = SplitStream<WebSocketStream<Upgraded>>;

/// Writes until the connection ends, or is to end; then it is closed.
pub(crate) async fn write(
    channel: Arc<Channel>,
    mut sink: Sink,
    mut messages: mpsc::Receiver<Outgoing>,
    life: Arc<SignsOfLife>,
) {
    let mut ping_at = Instant::now() + PING_AFTER;
    loop {
        let outgoing = tokio::select! {
            biased;
            () = channel.quit.cancelled() => break,
            Some(outgoing) = messages.recv() => outgoing,
            () = sleep_until(ping_at) => {
                if let Err(detail) = look_after(&mut sink, &life).await {
                    return channel.end(Fault::AnswerLost { detail });
                }
                ping_at = Instant::now() + PING_AFTER;
                continue;
            }
            else => break,
        };
        if !channel.begins_to_leave(outgoing.of) {
            continue;
        }
        let written = tokio::select! {
            biased;
            () = channel.quit.cancelled() => break,
            written = timeout(WRITE_WITHIN, sink.send(message_of(outgoing.body))) => written,
        };
        let detail = match written {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => {
                if was_not_begun(&error) {
                    channel.has_not_left(outgoing.of);
                }
                // Why it is closed is what its last frame says.
                let _ended = timeout(CLOSE_WITHIN, channel.quit.cancelled()).await;
                format!(
                    "the WebSocket takes no more messages ({})",
                    sanitize_text_to(&error.to_string(), REASON_CHARS)
                )
            }
            Err(_) => format!("the server did not read a message for {} s", WRITE_WITHIN.as_secs()),
        };
        return channel.end(Fault::AnswerLost { detail });
    }
    let farewell = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };
    let _said = timeout(CLOSE_WITHIN, sink.send(Message::Close(Some(farewell)))).await;
}

/// Pings a server that has said nothing for a while; an error where it has been silent for too long.
async fn look_after(sink: &mut Sink, life: &SignsOfLife) -> Result<(), String> {
    let silent_for = life.last().elapsed();
    if silent_for >= BROKEN_AFTER {
        return Err(format!("the server gave no sign of life for {} s", silent_for.as_secs()));
    }
    if silent_for < PING_AFTER / 2 {
        return Ok(());
    }
    match timeout(WRITE_WITHIN, sink.send(Message::Ping(Bytes::new()))).await {
        Ok(Ok(())) => Ok(()),
        // Its reader says why, and sooner.
        Ok(Err(_)) | Err(_) => Err("the server cannot be pinged any more".to_owned()),
    }
}

/// What we write is UTF-8, because it is JSON of ours around JSON that was read as text.
fn message_of(body: Bytes) -> Message {
    match Utf8Bytes::try_from(body.clone()) {
        Ok(text) => Message::Text(text),
        Err(_) => Message::Binary(body),
    }
}

/// Whether the frame of the message was refused before any byte of it was written.
const fn was_not_begun(error: &Error) -> bool {
    matches!(
        error,
        Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(ProtocolError::SendAfterClosing)
    )
}

/// Hears until nothing more comes, and says why.
pub(crate) async fn hear(
    channel: Arc<Channel>,
    mut stream: Stream,
    life: Arc<SignsOfLife>,
    max_bytes: u64,
) -> String {
    while let Some(read) = stream.next().await {
        life.heard();
        let message = match read {
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Binary(bytes)) => bytes,
            Ok(Message::Close(frame)) => return channel.scrubbed(closed(frame)),
            // A ping is answered where it is read.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => {
                // Nothing tells whose answer it is, unless only one is waited for; what follows it cannot be read.
                if let Some(id) = channel.only_waiter() {
                    channel.answer(id, Err(Fault::AnswerTooLarge { limit_bytes: max_bytes }.into()));
                }
                return format!("the server sent a message of more than {max_bytes} bytes");
            }
            Err(error) => {
                return format!(
                    "the WebSocket broke ({})",
                    sanitize_text_to(&error.to_string(), REASON_CHARS)
                );
            }
        };
        if message.len() >= LARGE_BYTES {
            let of = Arc::clone(&channel);
            let _read = beside(move || of.take_text(&message)).await;
        } else {
            channel.take_text(&message);
        }
    }
    "the WebSocket ended without a close frame".to_owned()
}

/// What a close frame says.
fn closed(frame: Option<CloseFrame>) -> String {
    match frame {
        None => "the server closed the WebSocket".to_owned(),
        Some(CloseFrame { code, reason }) if reason.is_empty() => {
            format!("the server closed the WebSocket with code {}", u16::from(code))
        }
        Some(CloseFrame { code, reason }) => format!(
            "the server closed the WebSocket with code {} ({})",
            u16::from(code),
            sanitize_text_to(&reason, REASON_CHARS)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_message_that_was_refused_whole_counts_as_not_sent() {
        assert!(was_not_begun(&Error::AlreadyClosed));
        assert!(was_not_begun(&Error::Protocol(ProtocolError::SendAfterClosing)));
        assert!(!was_not_begun(&Error::Io(std::io::ErrorKind::BrokenPipe.into())));
        assert!(!was_not_begun(&Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)));
    }

    #[test]
    fn a_close_frame_is_told_with_its_code_and_reason() {
        let frame =
            |reason: &str| CloseFrame { code: CloseCode::from(4401), reason: reason.to_owned().into() };
        assert_eq!(closed(Some(frame(""))), "the server closed the WebSocket with code 4401");
        assert_eq!(
            closed(Some(frame("no\nmore"))),
            "the server closed the WebSocket with code 4401 (no more)"
        );
        assert_eq!(closed(None), "the server closed the WebSocket");
    }
}
