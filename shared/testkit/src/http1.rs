//! HTTP/1.1 framing for tests: reads one message and keeps its exact bytes.
//!
//! It is our own because a test double has to do what a proper server never does: stop half way, drop the connection after
//! running a tool, or promise more bytes than it sends.
//!
//! **Invariant:** `raw` has every byte of the message as it was received, so that a proxy forwards it unchanged.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// The bound on one message, far above anything a test sends.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// One HTTP message.
#[derive(Debug)]
pub(crate) struct Message {
    /// The request line or status line, without its line end.
    pub(crate) start: String,
    /// Names as they arrived, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, with chunked framing removed.
    pub(crate) body: Vec<u8>,
    /// Head and body as they arrived.
    pub(crate) raw: Vec<u8>,
}

/// Which of the two kinds of message is read: a response without a length lasts until the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// From a client.
    Request,
    /// From a server.
    Response,
}

impl Message {
    /// The first header of that name, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The n-th word of the start line: method and path of a request, version and status of a response.
    pub(crate) fn word(&self, n: usize) -> &str {
        self.start.split(' ').nth(n).unwrap_or_default()
    }

    /// Whether the sender of this message closes the connection after it.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads one message; `None` when the peer closed before it began.
pub(crate) async fn read<R: AsyncBufRead + Unpin>(reader: &mut R, kind: Kind) -> io::Result<Option<Message>> {
    let mut message =
        Message { start: String::new(), headers: Vec::new(), body: Vec::new(), raw: Vec::new() };
    let Some(start) = line(reader, &mut message.raw).await? else {
        return Ok(None);
    };
    message.start = start;
    loop {
        let text = line(reader, &mut message.raw).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if text.is_empty() {
            break;
        }
        let (name, value) = text.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        message.headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    read_body(reader, kind, &mut message).await?;
    Ok(Some(message))
}

async fn read_body<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    kind: Kind,
    message: &mut Message,
) -> io::Result<()> {
    if message.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return read_chunks(reader, message).await;
    }
    if let Some(length) = message.header("content-length") {
        let length = length.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        return take(reader, length, message).await;
    }
    let bodiless = kind == Kind::Request || matches!(message.word(1), "204" | "304");
    if !bodiless {
        reader.read_to_end(&mut message.body).await?;
        message.raw.extend_from_slice(&message.body);
    }
    Ok(())
}

async fn read_chunks<R: AsyncBufRead + Unpin>(reader: &mut R, message: &mut Message) -> io::Result<()> {
    loop {
        let text = line(reader, &mut message.raw).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let digits = text.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16).map_err(|_| io::ErrorKind::InvalidData)?;
        if length > 0 {
            take(reader, length, message).await?;
        }
        let end = line(reader, &mut message.raw).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if length == 0 && end.is_empty() {
            return Ok(());
        }
    }
}

async fn take<R: AsyncBufRead + Unpin>(
    reader: &mut R,
    length: usize,
    message: &mut Message,
) -> io::Result<()> {
    if message.raw.len().saturating_add(length) > MAX_MESSAGE_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).await?;
    message.raw.extend_from_slice(&bytes);
    message.body.extend_from_slice(&bytes);
    Ok(())
}

/// One line without its end; `None` at the end of the connection.
async fn line<R: AsyncBufRead + Unpin>(reader: &mut R, raw: &mut Vec<u8>) -> io::Result<Option<String>> {
    let from = raw.len();
    if reader.read_until(b'\n', raw).await? == 0 {
        return Ok(None);
    }
    let bytes = raw.get(from..).unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(bytes).trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parse(text: &str, kind: Kind) -> Message {
        read(&mut tokio::io::BufReader::new(text.as_bytes()), kind).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_request_is_read_by_its_length_and_kept_byte_for_byte() {
        let text = "POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        let message = parse(&format!("{text}GET"), Kind::Request).await;
        assert_eq!((message.word(1), message.body.as_slice()), ("/x", b"abc".as_slice()));
        assert_eq!(message.raw, text.as_bytes());
    }

    #[tokio::test]
    async fn a_chunked_answer_loses_its_framing_in_the_body_but_not_in_the_raw_bytes() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let message = parse(text, Kind::Response).await;
        assert_eq!(message.body, b"abcde");
        assert_eq!(message.raw, text.as_bytes());
    }

    #[tokio::test]
    async fn an_answer_without_a_length_lasts_until_the_connection_ends() {
        assert_eq!(parse("HTTP/1.1 200 OK\r\n\r\nrest", Kind::Response).await.body, b"rest");
    }
}
