//! The script of the server: the protocol revision that it speaks and the faults that tests can queue.
//!
//! Every fault says whether the tool runs, because that is what the tests of the client are about.

use serde_json::Value;

/// The protocol revision that the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolRevision {
    /// 2026-07-28 alone.
    Modern,
    /// With sessions, in the version that the client requests, or 2025-11-25.
    Legacy,
    /// With sessions, in this version whatever the client requests.
    LegacyAt(&'static str),
    /// Both, selected by the protocol version header.
    Both,
}

/// How a server says that it does not know a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionLoss {
    /// HTTP 404, as the specification has it (Python, rmcp).
    NotFound,
    /// HTTP 400 with -32000, a message that names the session, and no id (server-everything).
    BadRequest,
}

/// A chunk of [`MockFault::Answer`] at which the answer can be held.
pub const HELD: &str = "{held}";

/// What happens to a request instead of a proper answer.
#[derive(Debug, Clone)]
pub enum MockFault {
    /// The tool runs, and then this happens: any status, error or redirect, as servers answer that fail late.
    AfterRunning(Box<Self>),
    /// An HTTP status, without running the tool.
    Status {
        /// The status.
        status: u16,
        /// Header names and values.
        headers: Vec<(String, String)>,
        /// The body; `{id}` is replaced by the request's id.
        body: String,
    },
    /// A JSON-RPC error, without running the tool.
    Rpc {
        /// The HTTP status it comes with.
        status: u16,
        /// The code.
        code: i64,
        /// The message.
        message: String,
        /// The data member.
        data: Value,
        /// Whether it carries the request's id, or null.
        with_id: bool,
    },
    /// Any status and body, of which the last bytes are not written before the connection ends; without running the tool.
    Cut {
        /// The status.
        status: u16,
        /// The content type.
        content_type: String,
        /// The whole body, whose length is declared; `{id}` is replaced by the request's id.
        body: String,
        /// How many of its bytes are not written.
        lost: usize,
    },
    /// A WebSocket is closed with this code and reason before the tool runs; any other connection just ends.
    CloseWith {
        /// The code of the close frame.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// The connection ends before the tool runs.
    CloseBeforeExecuting,
    /// The tool runs, then the connection ends without a byte.
    CloseBeforeAnswer,
    /// The tool runs, then the connection ends in the middle of the answer.
    CutAnswer,
    /// The tool does not run, and nothing is ever answered.
    NeverAnswer,
    /// The tool runs, and nothing is ever answered.
    ExecuteAndNeverAnswer,
    /// The tool runs, then an event stream of comments goes on for ever.
    EndlessStream,
    /// The tool runs, then a body that never ends, without a declared length.
    EndlessBody,
    /// The tool runs, then this text is answered as JSON with HTTP 200.
    Garbage(String),
    /// The tool runs, then a body of one's own: `{id}` and `{result}` are replaced; every chunk is written on its own. A chunk
    /// that is [`HELD`] is not written: the answer stops there while a test holds it (`hold_for(HELD)`).
    Answer {
        /// The content type.
        content_type: String,
        /// The body in pieces.
        chunks: Vec<String>,
    },
    /// The tool runs, then a body of one's own with these headers, as `encode` makes it of the text; `{id}` and `{result}` are
    /// replaced before.
    Encoded {
        /// Header names and values.
        headers: Vec<(String, String)>,
        /// The body as text.
        text: String,
        /// What is written of it.
        encode: fn(&str) -> Vec<u8>,
    },
    /// The tool runs and its result carries another id.
    WrongId,
    /// The tool runs and its result carries no id.
    NoId,
    /// HTTP 307 to that address, without running the tool.
    Redirect(String),
    /// Every session is lost before the request is looked at.
    LoseSessions(SessionLoss),
    /// The tool runs; the event stream ends after its priming event; the answer waits for a GET with Last-Event-ID.
    PrimedSseThenEnd {
        /// The pause the server asks for before the GET.
        retry_ms: u64,
        /// Whether the answer can still be had.
        resumable: bool,
    },
}

impl MockFault {
    /// An HTTP status with nothing else.
    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), body: String::new() }
    }

    /// An HTTP status with one header.
    pub fn status_with(status: u16, name: &str, value: &str) -> Self {
        Self::Status { status, headers: vec![(name.to_owned(), value.to_owned())], body: String::new() }
    }

    /// The same fault after the tool has run.
    #[must_use]
    pub fn after_running(self) -> Self {
        Self::AfterRunning(Box::new(self))
    }

    /// A JSON-RPC error with the request's id and HTTP 200.
    pub fn rpc(code: i64, message: &str) -> Self {
        Self::Rpc { status: 200, code, message: message.to_owned(), data: Value::Null, with_id: true }
    }

    /// A body under these headers, see [`MockFault::Encoded`].
    pub fn encoded(headers: &[(&str, &str)], text: &str, encode: fn(&str) -> Vec<u8>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::Encoded { headers: headers.collect(), text: text.to_owned(), encode }
    }

    /// An event stream, see [`MockFault::Answer`].
    pub fn events(chunks: &[&str]) -> Self {
        let chunks = chunks.iter().map(|&chunk| chunk.to_owned()).collect();
        Self::Answer { content_type: "text/event-stream".to_owned(), chunks }
    }
}
