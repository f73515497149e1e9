//! Faults of the scripted server: applies one queued fault to a request.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::connection::{Connection, head, id_of};
use super::protocol::{self, Checked};
use super::recorded::Recorded;
use super::reply::{Reply, frame, member};
use super::script::{HELD, MockFault};

impl Connection {
    /// Applies a fault; false ends the connection.
    pub(super) async fn misbehave(&mut self, request: &Recorded, fault: MockFault) -> io::Result<bool> {
        match fault {
            MockFault::AfterRunning(then) => {
                let checked = protocol::check(&mut self.state.lock(), request);
                match checked {
                    Checked::Call => {
                        self.execute(request);
                        Box::pin(self.misbehave(request, *then)).await
                    }
                    Checked::Reply(reply) => self.write_whole(&reply).await,
                }
            }
            MockFault::Status { status, headers, body } => {
                let body = body.replace("{id}", &id_of(request).to_string());
                self.write_whole(&Reply { status, headers, body }).await
            }
            MockFault::Cut { status, content_type, body, lost } => {
                let body = body.replace("{id}", &id_of(request).to_string());
                let kept = body.len().saturating_sub(lost);
                self.write_cut(status, content_type, &body, kept).await?;
                Ok(kept == body.len())
            }
            MockFault::Rpc { status, code, message, data, with_id } => {
                let id = if with_id { id_of(request) } else { Value::Null };
                self.write_whole(&Reply::error(status, &id, code, &message, &data)).await
            }
            MockFault::Redirect(location) => {
                let headers = vec![("location".to_owned(), location)];
                self.write_whole(&Reply { status: 307, headers, body: String::new() }).await
            }
            MockFault::LoseSessions(form) => {
                {
                    let mut inner = self.state.lock();
                    inner.sessions.clear();
                    inner.session_loss = form;
                }
                self.behave(request).await
            }
            MockFault::CloseBeforeExecuting | MockFault::CloseWith { .. } => Ok(false),
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

    /// Runs the tool, then applies the fault to its answer.
    async fn misbehave_after(&mut self, request: &Recorded, fault: MockFault) -> io::Result<bool> {
        let checked = protocol::check(&mut self.state.lock(), request);
        let result = match checked {
            Checked::Call => member(self.execute(request)),
            Checked::Reply(reply) => reply.body,
        };
        let id = id_of(request);
        match fault {
            MockFault::CutAnswer => {
                let body = frame(&id, &result);
                self.write_cut(200, "application/json".to_owned(), &body, body.len() / 2).await?;
                Ok(false)
            }
            MockFault::ExecuteAndNeverAnswer => {
                self.hang_up().await;
                Ok(false)
            }
            MockFault::EndlessStream => self.endless("text/event-stream", ": still here\n\n").await,
            MockFault::EndlessBody => self.endless("application/json", &" ".repeat(64 * 1024)).await,
            MockFault::Garbage(text) => self.write_whole(&Reply::json(200, text)).await,
            MockFault::Answer { content_type, chunks } => {
                self.in_pieces(&content_type, &chunks, &id, &result).await?;
                Ok(false)
            }
            MockFault::Encoded { headers, text, encode } => {
                let text = text.replace("{id}", &id.to_string()).replace("{result}", &result);
                let body = encode(&text);
                self.write_bytes(&head(200, &headers, Some(body.len())), &body).await?;
                Ok(true)
            }
            MockFault::WrongId => {
                self.write_whole(&Reply::json(200, frame(&json!("someone else's"), &result))).await
            }
            MockFault::NoId => {
                self.write_whole(&Reply::json(200, format!("{{\"jsonrpc\":\"2.0\",{result}}}"))).await
            }
            MockFault::PrimedSseThenEnd { retry_ms, resumable } => {
                let answer = resumable.then(|| frame(&id, &result));
                self.write_whole(&self.primed(&id, retry_ms, answer)).await
            }
            MockFault::AfterRunning(_)
            | MockFault::Cut { .. }
            | MockFault::Status { .. }
            | MockFault::Rpc { .. }
            | MockFault::CloseBeforeExecuting
            | MockFault::CloseWith { .. }
            | MockFault::CloseBeforeAnswer
            | MockFault::NeverAnswer
            | MockFault::Redirect(_)
            | MockFault::LoseSessions(_) => Ok(false),
        }
    }

    /// An event stream that ends after its priming event. `answer` is kept for the GET that resumes it.
    fn primed(&self, id: &Value, retry_ms: u64, answer: Option<String>) -> Reply {
        let event = format!("event-{id}");
        if let Some(answer) = answer {
            let body = format!("id: {event}-end\ndata: {answer}\n\n");
            self.state.lock().resumable.insert(event.clone(), body);
        }
        Reply::events(format!("id: {event}\nretry: {retry_ms}\ndata: \n\n"))
    }

    /// Writes an answer and keeps the connection.
    async fn write_whole(&mut self, reply: &Reply) -> io::Result<bool> {
        self.write(reply).await.map(|()| true)
    }

    /// Declares the whole body and writes the first `kept` bytes of it.
    async fn write_cut(
        &mut self,
        status: u16,
        content_type: String,
        body: &str,
        kept: usize,
    ) -> io::Result<()> {
        let head = head(status, &[("content-type".to_owned(), content_type)], Some(body.len()));
        self.write_bytes(&head, body.as_bytes().get(..kept).unwrap_or_default()).await
    }

    async fn write_bytes(&mut self, head: &str, body: &[u8]) -> io::Result<()> {
        self.writer.write_all(head.as_bytes()).await?;
        self.writer.write_all(body).await?;
        self.writer.flush().await
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
}
