//! Connections of the scripted server: reads requests, applies the script, writes answers.
//!
//! TCP_NODELAY is set on every connection. Without it a call on a pooled connection takes 40 ms.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use toolfleet_mcp_protocol::{Request, meta_key, method};

use super::answer::ToolAnswer;
use super::protocol::{self, Checked};
use super::recorded::Recorded;
use super::reply::{Reply, frame, member};
use super::state::State;
use crate::http1::{self, Kind, Message};

pub(super) async fn serve(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = tls else {
        let (reader, writer) = stream.into_split();
        return exchange(Box::new(reader), Box::new(writer), None, state).await;
    };
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.map(|certificate| certificate.to_vec());
    let (reader, writer) = tokio::io::split(stream);
    exchange(Box::new(reader), Box::new(writer), shown, state).await;
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

async fn exchange(reader: Reader, writer: Writer, shown: Option<Vec<u8>>, state: Arc<State>) {
    let mut connection = Connection { reader: BufReader::new(reader), writer, shown, state };
    while let Ok(Some(message)) = http1::read(&mut connection.reader, Kind::Request).await {
        let closes = message.closes();
        if !matches!(connection.answer(message).await, Ok(true)) || closes {
            break;
        }
    }
}

pub(super) struct Connection {
    pub(super) reader: BufReader<Reader>,
    pub(super) writer: Writer,
    /// The client's certificate.
    shown: Option<Vec<u8>>,
    pub(super) state: Arc<State>,
}

impl Connection {
    /// Answers one request; false ends the connection.
    async fn answer(&mut self, message: Message) -> io::Result<bool> {
        let request = Recorded { client_certificate: self.shown.clone(), ..record(&message) };
        let fault = {
            let mut inner = self.state.lock();
            inner.requests.push(request.clone());
            inner.take_fault(request.method())
        };
        self.state.arrival.notify_waiters();
        let state = Arc::clone(&self.state);
        tokio::select! {
            biased;
            () = state.pass_gate(request.method()) => {}
            () = self.hang_up() => return Ok(false),
        }
        match (Place::of(&request), fault) {
            (Place::Messages(stream), fault) => self.take_message(&request, stream, fault).await,
            (_, Some(fault)) => self.misbehave(&request, fault).await,
            (Place::WebSocket, None) => self.websocket(&request).await,
            (Place::Stream, None) => self.event_stream().await,
            (Place::StreamPost, None) => {
                self.write(&Reply::empty(405)).await?;
                Ok(true)
            }
            (Place::Http, None) => self.behave(&request).await,
        }
    }

    pub(super) async fn behave(&mut self, request: &Recorded) -> io::Result<bool> {
        let checked = protocol::check(&mut self.state.lock(), request);
        let mut reply = match checked {
            Checked::Reply(reply) => reply,
            Checked::Call => self.call(request),
        };
        if let Some(cookie) = self.state.lock().cookies.get(request.method()) {
            reply.headers.push(("set-cookie".to_owned(), cookie.clone()));
        }
        self.write(&reply).await?;
        Ok(true)
    }

    fn call(&self, request: &Recorded) -> Reply {
        let id = id_of(request);
        let name = request.body.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
        let (sse, progress) =
            self.state.lock().tools.get(name).map_or((false, 0), |tool| (tool.sse, tool.progress));
        let body = frame(&id, &member(self.execute(request)));
        if !sse {
            return Reply::json(200, body);
        }
        let mut messages = progress_of(request, progress);
        messages.push(body);
        Reply::events(messages.iter().map(|message| format!("event: message\ndata: {message}\n\n")).collect())
    }

    /// Runs the tool the request names, if it would have been accepted.
    pub(super) fn execute(&self, request: &Recorded) -> Option<ToolAnswer> {
        let name = request.body.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
        self.state.lock().execute(name, request.body.get("params").unwrap_or(&Value::Null))
    }

    /// Waits until the client hangs up, and counts that.
    pub(super) async fn hang_up(&mut self) {
        read_away(&mut self.reader).await;
        self.state.lock().hang_ups += 1;
        self.state.departure.notify_waiters();
    }

    pub(super) async fn write(&mut self, reply: &Reply) -> io::Result<()> {
        let head = head(reply.status, &reply.headers, Some(reply.body.len()));
        self.writer.write_all(format!("{head}{}", reply.body).as_bytes()).await?;
        self.writer.flush().await
    }
}

/// Reads and drops until the client hangs up.
pub(super) async fn read_away(reader: &mut (impl AsyncRead + Unpin)) {
    let mut sink = [0; 64];
    while matches!(reader.read(&mut sink).await, Ok(read) if read > 0) {}
}

/// That many progress notifications of a request.
pub(super) fn progress_of(request: &Recorded, times: u32) -> Vec<String> {
    let token = request.body.pointer("/params/_meta/progressToken").cloned().unwrap_or(Value::Null);
    let told = |step| {
        let params = json!({ meta_key::PROGRESS_TOKEN: token, "progress": step, "total": times });
        json!(Request::notification(method::PROGRESS, Some(params))).to_string()
    };
    (1..=times).map(told).collect()
}

/// A response head; without a length the body lasts until the connection ends.
pub(super) fn head(status: u16, headers: &[(String, String)], length: Option<usize>) -> String {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match length {
        Some(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        None => head.push_str("connection: close\r\n\r\n"),
    }
    head
}

pub(super) fn id_of(request: &Recorded) -> Value {
    request.body.get("id").cloned().unwrap_or(Value::Null)
}

/// What is at the address of a request.
enum Place {
    Http,
    WebSocket,
    /// The event stream of the old transport.
    Stream,
    /// A POST to the address of the stream, as a newer client sends it first.
    StreamPost,
    /// The address that takes the messages of a stream.
    Messages(u64),
}

impl Place {
    fn of(request: &Recorded) -> Self {
        let message = request.path.strip_prefix("/message?session=").and_then(|number| number.parse().ok());
        match (request.http_method.as_str(), request.path.as_str(), message) {
            ("POST", _, Some(number)) => Self::Messages(number),
            ("GET", "/sse", _) => Self::Stream,
            (_, "/sse", _) => Self::StreamPost,
            ("GET", _, _) if request.header("upgrade").is_some() => Self::WebSocket,
            (_, _, _) => Self::Http,
        }
    }
}

fn record(message: &Message) -> Recorded {
    let text = String::from_utf8_lossy(&message.body).into_owned();
    Recorded {
        http_method: message.word(0).to_owned(),
        path: message.word(1).to_owned(),
        headers: message.headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone())).collect(),
        // serde_json refuses half a surrogate pair; a test that needs it reads `text`.
        body: value_of(&text),
        text,
        client_certificate: None,
    }
}

pub(super) fn value_of(text: &str) -> Value {
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&text.replace("\\ud", "\\uf")))
        .unwrap_or(Value::Null)
}
