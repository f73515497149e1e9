//! Reads the event stream of the HTTP+SSE transport.
//!
//! **Invariant:** of a message beyond the bound only its beginning is kept, and only the call that it answers fails.

use std::sync::Arc;

use toolfleet_egress::{BodyError, ResponseBody};

use crate::blocking::{LARGE_BYTES, beside};
use crate::transport::channels::channel::Channel;
use crate::transport::http::sse::{Event, Parser};

/// A stream, and the parser that has read its beginning.
pub(crate) struct Stream {
    pub(crate) body: ResponseBody,
    pub(crate) parser: Parser,
}

impl Stream {
    /// The next event, or how the stream ended.
    pub(crate) async fn next(&mut self) -> Result<Event, String> {
        loop {
            if let Some(event) = self.parser.next_event() {
                return Ok(event);
            }
            match self.body.chunk().await {
                Ok(Some(chunk)) => self.parser.feed(&chunk),
                Ok(None) => return Err("the server ended its event stream".to_owned()),
                Err(BodyError(detail)) => return Err(format!("the event stream broke ({detail})")),
            }
        }
    }
}

/// Hears until the stream ends, and says how.
pub(crate) async fn hear(channel: Arc<Channel>, mut stream: Stream, max_bytes: u64) -> String {
    loop {
        match stream.next().await {
            Ok(Event::Whole(message)) if message.len() >= LARGE_BYTES => {
                let of = Arc::clone(&channel);
                let _read = beside(move || of.take_text(&message)).await;
            }
            Ok(Event::Whole(message)) => channel.take_text(&message),
            Ok(Event::TooLong(beginning)) => channel.take_long(&beginning, &[], max_bytes),
            Ok(Event::Endpoint(_)) => {}
            Err(how) => return how,
        }
    }
}
