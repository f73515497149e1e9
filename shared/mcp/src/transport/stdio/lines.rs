//! Reads lines of bounded length, and messages that were written over several lines.

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use crate::protocol::message_head::TAIL_BYTES;
use crate::transport::http::sse::BEGINNING_BYTES;

/// Lines of bounded length.
pub(crate) struct Lines<R> {
    reader: BufReader<R>,
    max_bytes: usize,
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Whole(Vec<u8>),
    /// The beginning and the end of a line that is too long. The next line follows it.
    TooLong {
        beginning: Vec<u8>,
        tail: Vec<u8>,
    },
    End,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(crate) fn new(reader: R, max_bytes: usize) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, reader), max_bytes }
    }

    /// The next line, without its end. A last line may have none.
    pub(crate) async fn next(&mut self) -> std::io::Result<Line> {
        let mut line = Vec::new();
        // What comes beyond the bound: nothing of it is kept but its end.
        let mut tail: Option<Vec<u8>> = None;
        loop {
            let chunk = self.reader.fill_buf().await?;
            let ended = chunk.is_empty();
            if ended && line.is_empty() {
                return Ok(Line::End);
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            match &mut tail {
                None if line.len().saturating_add(part.len()) <= self.max_bytes => {
                    line.extend_from_slice(part)
                }
                None => {
                    let mut last = line.split_off(line.len().min(BEGINNING_BYTES));
                    let missing = BEGINNING_BYTES.saturating_sub(line.len());
                    line.extend_from_slice(part.get(..missing.min(part.len())).unwrap_or_default());
                    keep_last(&mut last, part);
                    tail = Some(last);
                }
                Some(tail) => keep_last(tail, part),
            }
            let used = end.map_or(chunk.len(), |at| at.saturating_add(1));
            self.reader.consume(used);
            if end.is_some() || ended {
                return Ok(match tail {
                    None => Line::Whole(line),
                    Some(tail) => Line::TooLong { beginning: line, tail },
                });
            }
        }
    }
}

fn keep_last(tail: &mut Vec<u8>, part: &[u8]) {
    tail.extend_from_slice(part.get(part.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default());
    tail.drain(..tail.len().saturating_sub(TAIL_BYTES));
}

/// A message that a program writes over several lines, which no specification allows and some programs do.
#[derive(Debug, Default)]
pub(crate) struct Unfinished {
    text: Vec<u8>,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Unfinished {
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Adds a line; gives the text where the brackets that it began with are closed. Beyond `max_bytes` it is dropped.
    pub(crate) fn add(&mut self, line: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
        for byte in line {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        let text_ends = self.depth == 0 || self.text.len() > max_bytes;
        let whole = self.depth == 0;
        let text = text_ends.then(|| std::mem::take(self).text)?;
        whole.then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(text: &[u8], max_bytes: usize) -> Vec<Line> {
        let mut lines = Lines::new(text, max_bytes);
        let mut seen = Vec::new();
        loop {
            match lines.next().await.unwrap() {
                Line::End => return seen,
                line @ (Line::Whole(_) | Line::TooLong { .. }) => seen.push(line),
            }
        }
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[tokio::test]
    async fn lines_come_whole_and_after_one_that_is_too_long_comes_the_next() {
        assert_eq!(all(b"{\"a\":1}\n\nlast", 10).await, [whole("{\"a\":1}"), whole(""), whole("last")]);
        let long = format!("{}\nnext\n", "0123456789".repeat(20_000));
        let seen = all(long.as_bytes(), 100_000).await;
        let Line::TooLong { beginning, tail } = &seen[0] else { panic!("{seen:?}") };
        assert_eq!((beginning.len(), tail.len()), (BEGINNING_BYTES, TAIL_BYTES));
        assert!(beginning.starts_with(b"0123") && tail.ends_with(b"6789"));
        assert_eq!(seen[1..], [whole("next")]);
        let unended = all(b"0123456789x", 10).await;
        assert!(matches!(&unended[..], [Line::TooLong { .. }]), "{unended:?}");
    }

    #[test]
    fn a_message_over_several_lines_is_whole_when_its_brackets_close() {
        let mut unfinished = Unfinished::default();
        for line in ["{", "  \"a\": \"}\\\"}\",", "  \"b\": [", "    1 ]"] {
            assert_eq!(unfinished.add(line.as_bytes(), 1000), None, "{line}");
        }
        let text = unfinished.add(b"}", 1000).unwrap();
        assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
        assert!(unfinished.is_empty());
        assert_eq!(unfinished.add(b"{ xxxxxxxxxxxxxxx", 10), None);
        assert!(unfinished.is_empty(), "beyond the bound it is dropped");
    }
}
