//! Finds the answer in a message or body that arrived whole; a large one is parsed on a blocking thread.

use serde_json::value::RawValue;
use toolfleet_egress::sanitize_text;

use crate::blocking::{LARGE_BYTES, beside};
use crate::fault::Fault;
use crate::protocol::frame::{Heard, RpcError, hear, messages_in, readable};
use crate::transport::request_error::RequestError;

/// What a large message says, read beside the runtime.
pub(crate) enum Large {
    Result(Box<RawValue>),
    Error(RpcError),
    Nonsense(String),
    Other(String),
}

/// What a large message of a stream says to who waits for this id.
pub(crate) async fn heard_beside(data: Vec<u8>, id: u64) -> Large {
    let read = move || {
        let text = readable(&data);
        for message in messages_in(&text) {
            match hear(message, id) {
                Heard::Result(result) => return Large::Result(result.to_owned()),
                Heard::Error(error) => return Large::Error(error),
                Heard::Nonsense(detail) => return Large::Nonsense(detail),
                Heard::Foreign(_) | Heard::Request { .. } | Heard::Notification { .. } => {}
            }
        }
        Large::Other("a large message that is no answer to this request".to_owned())
    };
    beside(read).await.unwrap_or_else(|| Large::Other("a message that cannot be read".to_owned()))
}

fn nonsense(detail: String) -> RequestError {
    Fault::InvalidAnswer { detail }.into()
}

/// The answer in a JSON body: a message, or a batch of them (2025-03-26).
pub(crate) async fn answer_in(body: Vec<u8>, id: u64) -> Result<Box<RawValue>, RequestError> {
    if body.len() < LARGE_BYTES {
        return answer_of(&body, id);
    }
    let unread = || Err(nonsense("a body that cannot be read".to_owned()));
    beside(move || answer_of(&body, id)).await.unwrap_or_else(unread)
}

fn answer_of(body: &[u8], id: u64) -> Result<Box<RawValue>, RequestError> {
    let text = readable(body);
    let messages = messages_in(&text);
    let is_batch = text.trim_ascii_start().starts_with('[');
    let mut error = None;
    let mut other = None;
    for message in messages {
        match hear(message, id) {
            Heard::Result(result) => return Ok(result.to_owned()),
            // One with our id counts before one that names nobody.
            Heard::Error(found) if found.with_our_id || error.is_none() => error = Some(found),
            Heard::Error(_) => {}
            Heard::Foreign(reason) | Heard::Nonsense(reason) => other = Some(reason),
            Heard::Request { method, .. } | Heard::Notification { method, .. } => {
                other = Some(format!("expected an answer, found the message {}", sanitize_text(&method)));
            }
        }
    }
    match error {
        Some(error) => Err(RequestError::of_rpc(error)),
        None if is_batch => Err(nonsense("a batch without our answer".to_owned())),
        None => Err(nonsense(other.unwrap_or_else(|| "an empty body".to_owned()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_body_is_read_beside_the_runtime_and_a_small_one_where_it_is_met() {
        let body = |bytes: usize| {
            format!("{{\"id\":7,\"result\":{{\"x\":\"{}\"}}}}", "x".repeat(bytes)).into_bytes()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let mut small = Box::pin(answer_in(body(100), 7));
            assert!(futures::poll!(small.as_mut()).is_ready());
            // The only thread beside the runtime is busy until the large body has been handed over.
            let (free, busy) = std::sync::mpsc::channel::<()>();
            let first = tokio::task::spawn_blocking(move || busy.recv());
            let mut large = Box::pin(answer_in(body(LARGE_BYTES), 7));
            assert!(futures::poll!(large.as_mut()).is_pending());
            free.send(()).unwrap();
            assert!(large.await.is_ok());
            first.await.unwrap().unwrap();
        });
    }
}
