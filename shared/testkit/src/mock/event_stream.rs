//! The scripted server in the HTTP+SSE transport of 2024-11-05: a stream that names an address, messages that are accepted there, and
//! answers on the stream.

use std::io;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::connection::{Connection, head, id_of};
use super::recorded::Recorded;
use super::reply::{Reply, frame};
use super::script::MockFault;
use super::state::StreamPart;

/// The length of a message that is too long for every test.
const LONG_BYTES: usize = 400_000;

impl Connection {
    /// Opens a stream and writes what comes for it until it ends.
    pub(super) async fn event_stream(&mut self) -> io::Result<bool> {
        let (sender, mut parts) = mpsc::unbounded_channel();
        let (number, address) = {
            let mut inner = self.state.lock();
            inner.streams_opened += 1;
            let number = inner.streams_opened;
            inner.streams.insert(number, sender);
            let own = format!("/message?session={number}");
            (number, inner.message_address.clone().unwrap_or(own))
        };
        let mut headers = vec![("content-type".to_owned(), "text/event-stream".to_owned())];
        headers.extend(
            self.state.lock().cookies.get("GET").map(|cookie| ("set-cookie".to_owned(), cookie.clone())),
        );
        let begin = format!("{}event: endpoint\ndata: {address}\n\n", head(200, &headers, None));
        self.writer.write_all(begin.as_bytes()).await?;
        self.writer.flush().await?;
        // A server that forgets a stream does not end it.
        let forgotten = std::sync::Arc::clone(&self.state);
        let written = tokio::select! {
            written = write_parts(&mut self.writer, &mut parts) => written,
            () = super::connection::read_away(&mut self.reader) => Ok(()),
        };
        let mut inner = forgotten.lock();
        inner.streams.remove(&number);
        inner.hang_ups += 1;
        drop(inner);
        forgotten.departure.notify_waiters();
        written.map(|()| false)
    }

    /// Takes a POST to the address of a stream; false ends its connection.
    pub(super) async fn take_message(
        &mut self,
        message: &Recorded,
        stream: u64,
        fault: Option<MockFault>,
    ) -> io::Result<bool> {
        if let Some(MockFault::LoseSessions(_)) = &fault {
            self.state.lock().streams.clear();
        }
        let to = self.state.lock().streams.get(&stream).cloned();
        let Some(to) = to else {
            let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
            let body = "Could not find session".to_owned();
            return self.write(&Reply { status: 404, headers, body }).await.map(|()| true);
        };
        match fault {
            None | Some(MockFault::LoseSessions(_)) => {
                self.accept_message().await?;
                self.messages(message).into_iter().for_each(|text| event(&to, &text));
                Ok(true)
            }
            Some(fault) => Box::pin(self.misbehave_on_stream(message, fault, &to)).await,
        }
    }

    async fn accept_message(&mut self) -> io::Result<()> {
        self.write(&Reply { status: 202, headers: Vec::new(), body: "Accepted".to_owned() }).await
    }

    async fn misbehave_on_stream(
        &mut self,
        message: &Recorded,
        fault: MockFault,
        to: &mpsc::UnboundedSender<StreamPart>,
    ) -> io::Result<bool> {
        let id = id_of(message);
        if let MockFault::AfterRunning(then) = fault {
            self.run(message);
            return Box::pin(self.misbehave_on_stream(message, *then, to)).await;
        }
        if is_of_the_post(&fault) {
            return self.misbehave(message, fault).await;
        }
        self.accept_message().await?;
        match fault {
            MockFault::Rpc { code, message: text, data, with_id, .. } => {
                let id = if with_id { id } else { Value::Null };
                event(to, &Reply::error(200, &id, code, &text, &data).body);
            }
            MockFault::CloseWith { .. } => end(to),
            MockFault::CloseBeforeAnswer | MockFault::PrimedSseThenEnd { .. } => {
                self.run(message);
                end(to);
            }
            MockFault::CutAnswer => {
                let text = frame(&id, &self.run(message));
                send(to, format!("data: {}", text.get(..text.len() / 2).unwrap_or_default()));
                end(to);
            }
            MockFault::ExecuteAndNeverAnswer | MockFault::EndlessStream => drop(self.run(message)),
            MockFault::EndlessBody => {
                self.run(message);
                let long = "x".repeat(LONG_BYTES);
                send(
                    to,
                    format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"x\":\"{long}\"}}}}\n\n"),
                );
            }
            MockFault::Garbage(text) | MockFault::Encoded { text, .. } => {
                self.run(message);
                event(to, &text);
            }
            MockFault::Answer { chunks, .. } => {
                let result = self.run(message);
                for chunk in chunks {
                    send(to, chunk.replace("{id}", &id.to_string()).replace("{result}", &result));
                }
            }
            MockFault::WrongId => event(to, &frame(&json!("someone else's"), &self.run(message))),
            MockFault::NoId => event(to, &format!("{{\"jsonrpc\":\"2.0\",{}}}", self.run(message))),
            MockFault::NeverAnswer
            | MockFault::AfterRunning(_)
            | MockFault::Status { .. }
            | MockFault::Cut { .. }
            | MockFault::Redirect(_)
            | MockFault::LoseSessions(_)
            | MockFault::CloseBeforeExecuting => {}
        }
        Ok(true)
    }
}

/// Whether a server does it to the POST itself, rather than on the stream.
fn is_of_the_post(fault: &MockFault) -> bool {
    let with_status = matches!(fault, MockFault::Rpc { status, .. } if *status != 200);
    with_status
        || matches!(
            fault,
            MockFault::Status { .. }
                | MockFault::Cut { .. }
                | MockFault::Redirect(_)
                | MockFault::CloseBeforeExecuting
        )
}

async fn write_parts(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    parts: &mut mpsc::UnboundedReceiver<StreamPart>,
) -> io::Result<()> {
    loop {
        match parts.recv().await {
            Some(StreamPart::Text(text)) => {
                writer.write_all(text.as_bytes()).await?;
                writer.flush().await?;
            }
            Some(StreamPart::End) => return Ok(()),
            None => std::future::pending::<()>().await,
        }
    }
}

pub(super) fn event(to: &mpsc::UnboundedSender<StreamPart>, text: &str) {
    send(to, format!("event: message\ndata: {text}\n\n"));
}

fn send(to: &mpsc::UnboundedSender<StreamPart>, text: String) {
    // A stream that has ended hears nothing.
    let _heard = to.send(StreamPart::Text(text));
}

fn end(to: &mpsc::UnboundedSender<StreamPart>) {
    let _heard = to.send(StreamPart::End);
}
