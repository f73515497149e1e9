//! The scripted server over WebSocket: the upgrade, then one message a frame. It reads on while a message is not answered.

use std::io;
use std::pin::pin;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::connection::{Connection, head, id_of, progress_of, value_of};
use super::protocol::{self, Checked, WEB_SOCKET};
use super::recorded::Recorded;
use super::reply::{Reply, frame, member};
use super::script::MockFault;
use super::state::StreamPart;
use super::web_frame::{self, CLOSE, CONTINUATION, PING, PONG, TEXT};

/// How much of a message without end is written at once.
const PIECE_BYTES: usize = 64 * 1024;

impl Connection {
    /// Switches to WebSocket and serves messages until the connection ends.
    pub(super) async fn websocket(&mut self, upgrade: &Recorded) -> io::Result<bool> {
        let key = upgrade.header("sec-websocket-key").unwrap_or_default();
        let (sender, mut pushed) = mpsc::unbounded_channel();
        let (number, chosen) = {
            let mut inner = self.state.lock();
            inner.sockets_opened += 1;
            let number = inner.sockets_opened;
            inner.sockets.insert(number, sender);
            (number, inner.subprotocol.clone().unwrap_or_else(|| "mcp".to_owned()))
        };
        let headers = [
            ("upgrade", "websocket".to_owned()),
            ("connection", "Upgrade".to_owned()),
            ("sec-websocket-accept", derive_accept_key(key.as_bytes())),
            ("sec-websocket-protocol", chosen),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value));
        let head = head(101, &headers, Some(0)).replace("content-length: 0\r\n", "");
        self.writer.write_all(head.as_bytes()).await?;
        self.writer.flush().await?;
        let ended = self.serve_frames(upgrade, &mut pushed).await;
        let mut inner = self.state.lock();
        inner.sockets.remove(&number);
        inner.hang_ups += 1;
        drop(inner);
        self.state.departure.notify_waiters();
        ended.map(|()| false)
    }

    async fn serve_frames(
        &mut self,
        upgrade: &Recorded,
        pushed: &mut mpsc::UnboundedReceiver<StreamPart>,
    ) -> io::Result<()> {
        loop {
            let Some((opcode, payload)) = self.next_frame(pushed).await? else { return Ok(()) };
            match opcode {
                TEXT => {
                    let text = String::from_utf8_lossy(&payload).into_owned();
                    let message = Recorded {
                        http_method: WEB_SOCKET.to_owned(),
                        body: value_of(&text),
                        text,
                        ..upgrade.clone()
                    };
                    if !self.take_frame(&message).await? {
                        return Ok(());
                    }
                }
                PING => self.send(PONG, &payload).await?,
                PONG => self.state.lock().pongs += 1,
                CLOSE => return self.send(CLOSE, &payload).await,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }

    /// The next frame of the client; none where the server ends the connection. Writes what is pushed meanwhile.
    async fn next_frame(
        &mut self,
        pushed: &mut mpsc::UnboundedReceiver<StreamPart>,
    ) -> io::Result<Option<(u8, Vec<u8>)>> {
        let (reader, writer) = (&mut self.reader, &mut self.writer);
        let mut reading = pin!(web_frame::read(reader));
        loop {
            tokio::select! {
                read = &mut reading => return read.map(Some),
                Some(part) = pushed.recv() => match part {
                    StreamPart::Text(text) => {
                        writer.write_all(&web_frame::frame(TEXT, true, text.as_bytes())).await?;
                        writer.flush().await?;
                    }
                    StreamPart::End => return Ok(None),
                },
            }
        }
    }

    async fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.writer.write_all(&web_frame::frame(opcode, true, payload)).await?;
        self.writer.flush().await
    }

    /// Takes one message; false ends the connection.
    async fn take_frame(&mut self, message: &Recorded) -> io::Result<bool> {
        let fault = {
            let mut inner = self.state.lock();
            inner.requests.push(message.clone());
            inner.take_fault(message.method())
        };
        self.state.arrival.notify_waiters();
        let state = std::sync::Arc::clone(&self.state);
        tokio::select! {
            biased;
            () = state.pass_gate(message.method()) => {}
            () = self.hang_up() => return Ok(false),
        }
        match fault {
            Some(fault) => Box::pin(self.misbehave_in_frames(message, fault)).await,
            None => {
                for text in self.messages(message) {
                    self.send(PING, b"alive").await?;
                    self.send(TEXT, text.as_bytes()).await?;
                }
                Ok(true)
            }
        }
    }

    /// What is answered to a message over a connection that is its session.
    pub(super) fn messages(&self, message: &Recorded) -> Vec<String> {
        let checked = protocol::check(&mut self.state.lock(), message);
        match checked {
            Checked::Reply(reply) if reply.body.is_empty() => Vec::new(),
            Checked::Reply(reply) => vec![reply.body],
            Checked::Call => {
                let name = message.body.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
                let progress = self.state.lock().tools.get(name).map_or(0, |tool| tool.progress);
                let mut messages = progress_of(message, progress);
                messages.push(frame(&id_of(message), &member(self.execute(message))));
                messages
            }
        }
    }

    /// Runs the tool, or answers what is no call; gives the member of the answer.
    pub(super) fn run(&self, message: &Recorded) -> String {
        let checked = protocol::check(&mut self.state.lock(), message);
        match checked {
            Checked::Call => member(self.execute(message)),
            Checked::Reply(reply) => reply.body,
        }
    }

    async fn misbehave_in_frames(&mut self, message: &Recorded, fault: MockFault) -> io::Result<bool> {
        let id = id_of(message);
        match fault {
            MockFault::AfterRunning(then) => {
                self.run(message);
                Box::pin(self.misbehave_in_frames(message, *then)).await
            }
            MockFault::Rpc { status: _, code, message: text, data, with_id } => {
                let id = if with_id { id } else { Value::Null };
                let reply = Reply::error(200, &id, code, &text, &data);
                self.send(TEXT, reply.body.as_bytes()).await.map(|()| true)
            }
            MockFault::CloseWith { code, reason } => {
                self.writer.write_all(&web_frame::close(code, &reason)).await?;
                self.writer.flush().await.map(|()| false)
            }
            MockFault::LoseSessions(_) => {
                self.writer.write_all(&web_frame::close(1001, "going away")).await?;
                self.writer.flush().await.map(|()| false)
            }
            MockFault::CloseBeforeExecuting
            | MockFault::Status { .. }
            | MockFault::Cut { .. }
            | MockFault::Redirect(_) => Ok(false),
            MockFault::NeverAnswer => Ok(true),
            MockFault::ExecuteAndNeverAnswer | MockFault::EndlessStream => {
                self.run(message);
                Ok(true)
            }
            MockFault::CloseBeforeAnswer | MockFault::PrimedSseThenEnd { .. } => {
                self.run(message);
                Ok(false)
            }
            MockFault::CutAnswer => {
                let whole = web_frame::frame(TEXT, true, frame(&id, &self.run(message)).as_bytes());
                self.writer.write_all(whole.get(..whole.len() / 2).unwrap_or_default()).await?;
                self.writer.flush().await.map(|()| false)
            }
            MockFault::EndlessBody => {
                self.run(message);
                let piece = vec![b'x'; PIECE_BYTES];
                let begin = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"x\":\"");
                self.writer.write_all(&web_frame::frame(TEXT, false, begin.as_bytes())).await?;
                loop {
                    self.writer.write_all(&web_frame::frame(CONTINUATION, false, &piece)).await?;
                    self.writer.flush().await?;
                    tokio::task::yield_now().await;
                }
            }
            MockFault::Garbage(text) | MockFault::Encoded { text, .. } => {
                self.run(message);
                self.send(TEXT, text.as_bytes()).await.map(|()| true)
            }
            MockFault::Answer { chunks, .. } => {
                let result = self.run(message);
                for chunk in chunks {
                    let text = chunk.replace("{id}", &id.to_string()).replace("{result}", &result);
                    let text = text.trim().strip_prefix("data: ").unwrap_or(&text);
                    self.send(TEXT, text.as_bytes()).await?;
                }
                Ok(true)
            }
            MockFault::WrongId => {
                let text = frame(&json!("someone else's"), &self.run(message));
                self.send(TEXT, text.as_bytes()).await.map(|()| true)
            }
            MockFault::NoId => {
                let text = format!("{{\"jsonrpc\":\"2.0\",{}}}", self.run(message));
                self.send(TEXT, text.as_bytes()).await.map(|()| true)
            }
        }
    }
}
