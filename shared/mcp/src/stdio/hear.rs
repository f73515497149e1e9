//! Owns what one line of a child means, and the reading of lines of bounded length.
//!
//! **Invariant:** a line is only looked at as far as its envelope; an answer is given to the waiter of its id and to no other.

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use super::child::{Child, Notice};
use crate::classify::Trouble;
use crate::wire::{Heard, hear, reply};
use crate::words::shorten;

/// Lines of bounded length.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    max_bytes: usize,
}

/// What came next.
pub(crate) enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R, max_bytes: usize) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, reader), max_bytes }
    }

    /// The next line, without its end. A last line may have none.
    pub(crate) async fn next(&mut self) -> std::io::Result<Line> {
        let mut line = Vec::new();
        loop {
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                return Ok(if line.is_empty() { Line::End } else { Line::Whole(line) });
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            if line.len().saturating_add(part.len()) > self.max_bytes {
                return Ok(Line::TooLong);
            }
            line.extend_from_slice(part);
            let used = end.map_or(chunk.len(), |at| at.saturating_add(1));
            self.reader.consume(used);
            if end.is_some() {
                return Ok(Line::Whole(line));
            }
        }
    }

    /// Reads on to the end of a line that is too long.
    pub(crate) async fn skip_line(&mut self) {
        while let Ok(chunk) = self.reader.fill_buf().await {
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(chunk.len(), |at| at.saturating_add(1));
            if used == 0 {
                return;
            }
            self.reader.consume(used);
            if end.is_some() {
                return;
            }
        }
    }
}

/// The envelope, as far as it says for whom a message is.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    method: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    progress_token: u64,
}

impl Child {
    /// Takes one line. The error says why nothing that this child says can be relied on any more.
    pub(super) fn take_line(&self, line: &[u8]) -> Result<(), String> {
        let line = line.trim_ascii();
        match line.first() {
            None => Ok(()),
            // A batch, which 2025-03-26 allowed.
            Some(b'[') => match serde_json::from_slice::<Vec<&RawValue>>(line) {
                Ok(messages) => {
                    messages.into_iter().try_for_each(|one| self.take_message(one.get().as_bytes()))
                }
                Err(_) => self.take_noise(line),
            },
            Some(_) => self.take_message(line),
        }
    }

    fn take_message(&self, message: &[u8]) -> Result<(), String> {
        // A derived struct would also be read from an array.
        let object = message.first() == Some(&b'{');
        let Some(envelope) = object.then(|| serde_json::from_slice::<Envelope<'_>>(message).ok()).flatten()
        else {
            return self.take_noise(message);
        };
        if envelope.method.is_some() {
            self.take_word(message);
            return Ok(());
        }
        let id = envelope.id.and_then(|id| id.get().parse::<u64>().ok());
        match id {
            Some(id) => self.take_answer(id, message),
            // An error that names no request is about the only one there is.
            None if envelope.error.is_some() => match self.only_waiter() {
                Some(id) => self.take_answer(id, message),
                None => Err("an error without a request's id".to_owned()),
            },
            None => Err(match envelope.id {
                Some(id) => format!("an answer with an id that is not ours: {}", shorten(id.get())),
                None => "an answer without an id".to_owned(),
            }),
        }
    }

    fn take_answer(&self, id: u64, message: &[u8]) -> Result<(), String> {
        let answer = match hear(message, id) {
            Heard::Result(result) => Ok(result.to_owned()),
            Heard::Error(error) => Err(Trouble::of_rpc(error)),
            Heard::Nonsense(detail) => return Err(detail),
            Heard::Request { .. } | Heard::Notification { .. } => return Ok(()),
        };
        if self.answer(id, answer) {
            Ok(())
        } else {
            Err(format!("an answer with the id {id}, which nobody asked with"))
        }
    }

    /// Something of the server's own: a request to us, or a notification.
    fn take_word(&self, message: &[u8]) {
        match hear(message, 0) {
            Heard::Request { id, method } => self.tell(reply(id, &method)),
            Heard::Notification { method, params: Some(params) } => {
                let of = match method.as_ref() {
                    "notifications/progress" => {
                        serde_json::from_str::<Progress>(params.get()).ok().map(|told| told.progress_token)
                    }
                    // A log line names no request. With one request under way it is told of that one.
                    "notifications/message" => self.only_waiter(),
                    _ => None,
                };
                if let Some(id) = of {
                    self.notify(id, Notice { method: method.into_owned(), params: params.to_owned() });
                }
            }
            Heard::Notification { .. } | Heard::Result(_) | Heard::Error(_) | Heard::Nonsense(_) => {}
        }
    }

    /// What is no message. Before its first one a program may greet people; after it such a line means that stdout has two writers.
    fn take_noise(&self, line: &[u8]) -> Result<(), String> {
        // A secret that was cut in half would no longer be recognised.
        let shown = shorten(&self.scrubbed(String::from_utf8_lossy(line).into_owned()));
        if self.has_spoken() {
            return Err(format!("a line on stdout that is no JSON-RPC message: {shown}"));
        }
        tracing::debug!(server = %self.server, line = %shown, "a program speaks on stdout before it speaks MCP");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_however_they_are_cut_and_a_longer_one_is_said_to_be_too_long() {
        let mut lines = Lines::new(&b"{\"a\":1}\n\nlast"[..], 10);
        let mut seen = Vec::new();
        while let Line::Whole(line) = lines.next().await.unwrap() {
            seen.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(seen, ["{\"a\":1}", "", "last"]);
        let mut lines = Lines::new(&b"0123456789x\n"[..], 10);
        assert!(matches!(lines.next().await.unwrap(), Line::TooLong));
    }
}
