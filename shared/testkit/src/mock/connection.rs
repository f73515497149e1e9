//! Owns the connections of the scripted server: reads requests, applies the script, writes bytes.
//!
//! **Invariant:** TCP_NODELAY is set on every connection; without it a pooled connection costs 40 ms a call.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::exchange::{Recorded, ToolAnswer};
use super::protocol::{self, Reply, Verdict, frame, member};
use super::script::{HELD, MockFault};
use super::state::State;
use crate::http1::{self, Kind, Message};

/// Accepts until its task is aborted; every connection ends with it.
pub(super) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(converse(stream, tls.clone(), Arc::clone(&state)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = tls else {
        let (reader, writer) = stream.into_split();
        return talk(Box::new(reader), Box::new(writer), None, state).await;
    };
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.map(|certificate| certificate.to_vec());
    let (reader, writer) = tokio::io::split(stream);
    talk(Box::new(reader), Box::new(writer), shown, state).await;
}

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

async fn talk(reader: Reader, writer: Writer, shown: Option<Vec<u8>>, state: Arc<State>) {
    let mut connection = Connection { reader: BufReader::new(reader), writer, shown, state };
    while let Ok(Some(message)) = http1::read(&mut connection.reader, Kind::Request).await {
        let closes = message.closes();
        if !matches!(connection.answer(message).await, Ok(true)) || closes {
            break;
        }
    }
}

struct Connection {
    reader: BufReader<Reader>,
    writer: Writer,
    /// The client's certificate.
    shown: Option<Vec<u8>>,
    state: Arc<State>,
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
        match fault {
            Some(fault) => self.misbehave(&request, fault).await,
            None => self.behave(&request).await,
        }
    }

    async fn behave(&mut self, request: &Recorded) -> io::Result<bool> {
        let verdict = protocol::judge(&mut self.state.lock(), request);
        let mut reply = match verdict {
            Verdict::Reply(reply) => reply,
            Verdict::Call => self.call(request),
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
        let token = request.body.pointer("/params/_meta/progressToken").cloned().unwrap_or(Value::Null);
        let mut events = String::new();
        for step in 1..=progress {
            let params = json!({ "progressToken": token, "progress": step, "total": progress });
            let notification =
                json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
            events.push_str(&format!("event: message\ndata: {notification}\n\n"));
        }
        events.push_str(&format!("event: message\ndata: {body}\n\n"));
        Reply::events(events)
    }

    /// Runs the tool the request names, if it would have been accepted.
    fn execute(&self, request: &Recorded) -> Option<ToolAnswer> {
        let name = request.body.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
        self.state.lock().execute(name, request.body.get("params").unwrap_or(&Value::Null))
    }

    async fn misbehave(&mut self, request: &Recorded, fault: MockFault) -> io::Result<bool> {
        let id = id_of(request);
        match fault {
            MockFault::AfterRunning(then) => {
                let verdict = protocol::judge(&mut self.state.lock(), request);
                match verdict {
                    Verdict::Call => {
                        self.execute(request);
                        Box::pin(self.misbehave(request, *then)).await
                    }
                    Verdict::Reply(reply) => self.write(&reply).await.map(|()| true),
                }
            }
            MockFault::Status { status, headers, body } => {
                let body = body.replace("{id}", &id.to_string());
                self.write(&Reply { status, headers, body }).await?;
                Ok(true)
            }
            MockFault::Cut { status, content_type, body, lost } => {
                let body = body.replace("{id}", &id.to_string());
                let head = head(status, &[("content-type".to_owned(), content_type)], Some(body.len()));
                let kept = body.as_bytes().get(..body.len().saturating_sub(lost)).unwrap_or_default();
                self.writer.write_all(head.as_bytes()).await?;
                self.writer.write_all(kept).await?;
                self.writer.flush().await?;
                Ok(kept.len() == body.len())
            }
            MockFault::Rpc { status, code, message, data, with_id } => {
                let id = if with_id { id } else { Value::Null };
                self.write(&Reply::error(status, &id, code, &message, &data)).await?;
                Ok(true)
            }
            MockFault::Redirect(location) => {
                let headers = vec![("location".to_owned(), location)];
                self.write(&Reply { status: 307, headers, body: String::new() }).await?;
                Ok(true)
            }
            MockFault::LoseSessions(shape) => {
                {
                    let mut inner = self.state.lock();
                    inner.sessions.clear();
                    inner.session_loss = shape;
                }
                self.behave(request).await
            }
            MockFault::CloseBeforeExecuting => Ok(false),
            MockFault::NeverAnswer => {
                self.hang_up().await;
                Ok(false)
            }
            MockFault::CloseBeforeAnswer
            | MockFault::CutAnswer
            | MockFault::ExecuteAndNeverAnswer
            | MockFault::EndlessStream
            | MockFault::EndlessBody
            | MockFault::Garbage(_)
            | MockFault::Answer { .. }
            | MockFault::Encoded { .. }
            | MockFault::WrongId
            | MockFault::NoId
            | MockFault::PrimedSseThenEnd { .. } => self.misbehave_after(request, fault).await,
        }
    }

    /// The faults that strike once the tool has run.
    async fn misbehave_after(&mut self, request: &Recorded, fault: MockFault) -> io::Result<bool> {
        let verdict = protocol::judge(&mut self.state.lock(), request);
        let result = match verdict {
            Verdict::Call => member(self.execute(request)),
            Verdict::Reply(reply) => reply.body,
        };
        let id = id_of(request);
        match fault {
            MockFault::CutAnswer => {
                let body = frame(&id, &result);
                let half = body.get(..body.len() / 2).unwrap_or_default();
                let head = head(
                    200,
                    &[("content-type".to_owned(), "application/json".to_owned())],
                    Some(body.len()),
                );
                self.writer.write_all(format!("{head}{half}").as_bytes()).await?;
                self.writer.flush().await?;
                Ok(false)
            }
            MockFault::ExecuteAndNeverAnswer => {
                self.hang_up().await;
                Ok(false)
            }
            MockFault::EndlessStream => self.endless("text/event-stream", ": still here\n\n").await,
            MockFault::EndlessBody => self.endless("application/json", &" ".repeat(64 * 1024)).await,
            MockFault::Garbage(text) => {
                self.write(&Reply::json(200, text)).await?;
                Ok(true)
            }
            MockFault::Answer { content_type, chunks } => {
                self.in_pieces(&content_type, &chunks, &id, &result).await?;
                Ok(false)
            }
            MockFault::Encoded { headers, text, encode } => {
                let text = text.replace("{id}", &id.to_string()).replace("{result}", &result);
                let body = encode(&text);
                self.writer.write_all(head(200, &headers, Some(body.len())).as_bytes()).await?;
                self.writer.write_all(&body).await?;
                self.writer.flush().await?;
                Ok(true)
            }
            MockFault::WrongId => {
                self.write(&Reply::json(200, frame(&json!("someone else's"), &result))).await?;
                Ok(true)
            }
            MockFault::NoId => {
                self.write(&Reply::json(200, format!("{{\"jsonrpc\":\"2.0\",{result}}}"))).await?;
                Ok(true)
            }
            MockFault::PrimedSseThenEnd { retry_ms, resumable } => {
                let event = format!("event-{id}");
                if resumable {
                    let body = format!("id: {event}-end\ndata: {}\n\n", frame(&id, &result));
                    self.state.lock().resumable.insert(event.clone(), body);
                }
                let body = format!("id: {event}\nretry: {retry_ms}\ndata: \n\n");
                self.write(&Reply::events(body)).await?;
                Ok(true)
            }
            MockFault::AfterRunning(_)
            | MockFault::Cut { .. }
            | MockFault::Status { .. }
            | MockFault::Rpc { .. }
            | MockFault::CloseBeforeExecuting
            | MockFault::CloseBeforeAnswer
            | MockFault::NeverAnswer
            | MockFault::Redirect(_)
            | MockFault::LoseSessions(_) => Ok(false),
        }
    }

    /// Waits until the client is gone, and says so.
    async fn hang_up(&mut self) {
        let mut sink = [0; 64];
        while matches!(self.reader.read(&mut sink).await, Ok(read) if read > 0) {}
        self.state.lock().hang_ups += 1;
        self.state.departure.notify_waiters();
    }

    async fn endless(&mut self, content_type: &str, piece: &str) -> io::Result<bool> {
        let head = head(200, &[("content-type".to_owned(), content_type.to_owned())], None);
        self.writer.write_all(head.as_bytes()).await?;
        loop {
            if self.writer.write_all(piece.as_bytes()).await.is_err() {
                self.state.lock().hang_ups += 1;
                self.state.departure.notify_waiters();
                return Ok(false);
            }
            tokio::task::yield_now().await;
        }
    }

    async fn in_pieces(
        &mut self,
        content_type: &str,
        chunks: &[String],
        id: &Value,
        result: &str,
    ) -> io::Result<()> {
        let head = head(200, &[("content-type".to_owned(), content_type.to_owned())], None);
        self.writer.write_all(head.as_bytes()).await?;
        for chunk in chunks {
            if chunk == HELD {
                let state = Arc::clone(&self.state);
                tokio::select! {
                    biased;
                    () = state.pass_gate(HELD) => {}
                    () = self.hang_up() => return Ok(()),
                }
                continue;
            }
            let text = chunk.replace("{id}", &id.to_string()).replace("{result}", result);
            self.writer.write_all(text.as_bytes()).await?;
            self.writer.flush().await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    async fn write(&mut self, reply: &Reply) -> io::Result<()> {
        let head = head(reply.status, &reply.headers, Some(reply.body.len()));
        self.writer.write_all(format!("{head}{}", reply.body).as_bytes()).await?;
        self.writer.flush().await
    }
}

/// A response head; without a length the body lasts until the connection ends.
fn head(status: u16, headers: &[(String, String)], length: Option<usize>) -> String {
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

fn id_of(request: &Recorded) -> Value {
    request.body.get("id").cloned().unwrap_or(Value::Null)
}

fn record(message: &Message) -> Recorded {
    let text = String::from_utf8_lossy(&message.body).into_owned();
    Recorded {
        http_method: message.word(0).to_owned(),
        path: message.word(1).to_owned(),
        headers: message.headers.iter().map(|(n, v)| (n.to_ascii_lowercase(), v.clone())).collect(),
        // Half a surrogate pair is no text of ours; whoever cares looks at `text`.
        body: serde_json::from_str(&text)
            .or_else(|_| serde_json::from_str(&text.replace("\\ud", "\\uf")))
            .unwrap_or(Value::Null),
        text,
        client_certificate: None,
    }
}
