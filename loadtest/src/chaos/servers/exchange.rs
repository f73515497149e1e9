//! One request to a scripted server, and its answer.
//!
//! **Invariant:** a request is answered in full, or its entry in the ledger says why not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{self, AsyncWriteExt as _};
use toolfleet_mcp_protocol::{ProtocolVersion, error_code, header, method};

use super::super::behaviour::{Act, Unclear, decide};
use super::super::ledger::{Brings, Entry, Fate};
use super::super::plan::Server;
use super::answers::Asked;
use super::sessions::Session;
use super::shared::{Next, Shared, WORKER_HEADER};
use super::tasks::{NewTask, TaskAnswer, Told};
use crate::proxy::{Head, Side, closed};
use crate::server::discovered;

/// One request and its answer.
pub(super) struct Exchange<'a> {
    pub(super) side: &'a mut Side,
    pub(super) server: Server,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) head: &'a Head,
}

impl Exchange<'_> {
    pub(super) async fn answer(&mut self, body: &[u8]) -> io::Result<Next> {
        let message: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let name = message.get("method").and_then(Value::as_str).unwrap_or_default();
        let id = message.get("id").cloned().unwrap_or(Value::Null);
        if name == method::TOOLS_CALL {
            return self.call(&id, &message).await;
        }
        if self.shared.is_down(self.server) {
            return Ok(Next::Reset);
        }
        if self.server == Server::Forgetful {
            return self.with_sessions(&id, name).await;
        }
        match name {
            _ if id.is_null() => self.write(202, "", "").await,
            method::DISCOVER => self.result(&id, &json!(discovered())).await,
            method::TASKS_GET | method::TASKS_CANCEL => self.of_task(&id, name, &message).await,
            _ => self.error(404, &id, error_code::METHOD_NOT_FOUND, "Method not found").await,
        }
    }

    /// What a server of an older protocol version answers, unless a tool is called.
    async fn with_sessions(&mut self, id: &Value, name: &str) -> io::Result<Next> {
        if name == method::INITIALIZE {
            let session = self.shared.sessions.open(self.shared.ledger.now_us());
            let version = ProtocolVersion::LATEST_LEGACY.as_str();
            let result = json!({
                "protocolVersion": version,
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "forgetful", "version": "1"},
            });
            let headers = format!("{}: {session}\r\n", header::SESSION_ID);
            return self
                .write(200, &headers, &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string())
                .await;
        }
        match self.session() {
            Session::Open if self.head.text.starts_with("DELETE") => self.write(200, "", "").await,
            Session::Open if self.head.text.starts_with("GET") => self.write(405, "", "").await,
            Session::Open if id.is_null() => self.write(202, "", "").await,
            Session::Open if name == method::PING => self.result(id, &json!({})).await,
            Session::Open => self.error(200, id, error_code::METHOD_NOT_FOUND, "Method not found").await,
            Session::None => {
                self.error(400, &Value::Null, error_code::NO_SESSION, "No valid session ID provided").await
            }
            Session::Lost { .. } => self.session_not_found().await,
        }
    }

    async fn call(&mut self, id: &Value, message: &Value) -> io::Result<Next> {
        let asked = Asked::read(message, self.trace());
        let worker = self.head.header(WORKER_HEADER).unwrap_or_default().to_owned();
        let ledger = &self.shared.ledger;
        let (entry, before) = ledger.enter(&asked.calls, self.server.name(), &worker);
        if self.shared.is_down(self.server) {
            ledger.answered(entry, Fate::Reset);
            return Ok(Next::Reset);
        }
        if self.server == Server::Forgetful {
            let named = self.head.header(header::SESSION_ID);
            match self.shared.sessions.of_call(named, ledger.now_us()) {
                Session::Open => {}
                Session::None => {
                    ledger.answered(entry, Fate::Unclear);
                    return self
                        .error(400, &Value::Null, error_code::NO_SESSION, "No valid session ID provided")
                        .await;
                }
                Session::Lost { existed_before } => {
                    // In a session that was opened for this call the same answer proves nothing.
                    ledger.answered(entry, if existed_before { Fate::Refused } else { Fate::Unclear });
                    return self.session_not_found().await;
                }
            }
        }
        let first = asked.calls.first().map_or("", String::as_str);
        let act = decide(self.server, self.shared.seed, first, before);
        ledger.brings(entry, asked.brings);
        let act = if self.server == Server::Asking && asked.brings != Brings::Answer {
            act.unanswered()
        } else {
            act
        };
        self.perform(act, entry, id, &asked, &worker).await
    }

    /// The trace that the request belongs to.
    fn trace(&self) -> Option<&str> {
        self.head.header("traceparent")?.split('-').nth(1)
    }

    async fn perform(
        &mut self,
        act: Act,
        entry: Entry,
        id: &Value,
        asked: &Asked,
        worker: &str,
    ) -> io::Result<Next> {
        let shared = self.shared.clone();
        let ledger = &shared.ledger;
        match act {
            Act::Answer { ms, is_error } => {
                if !self.run(entry, ms).await {
                    return Ok(Next::Close);
                }
                let next = self.result(id, &asked.answer(shared.seed, entry, is_error)).await?;
                ledger.answered(entry, Fate::Answered);
                Ok(next)
            }
            Act::Short => {
                if !self.run(entry, 0).await {
                    return Ok(Next::Close);
                }
                ledger.answered(entry, Fate::Unclear);
                self.result(id, &Asked::short()).await
            }
            Act::Task { ms, end } => {
                ledger.runs(entry);
                ledger.ended(entry);
                let (call, text) = (asked.calls.first().map_or("", String::as_str), asked.text(entry));
                let new = NewTask { call, worker, text: &text, entry, end, ms };
                let handle = shared.tasks.start(&new, ledger.now_us());
                let next = self.result(id, &handle).await?;
                shared.tasks.handed(entry, ledger.now_us());
                ledger.answered(entry, Fate::Working);
                Ok(next)
            }
            Act::Lie { ms, answer } => {
                if !self.run(entry, ms).await {
                    return Ok(Next::Close);
                }
                ledger.answered(entry, Fate::Unclear);
                self.unclear(id, answer).await
            }
            Act::ResetBefore => {
                ledger.answered(entry, Fate::Reset);
                Ok(Next::Reset)
            }
            Act::ResetAfter { ms } | Act::ResetWithin { ms } => {
                let reached = self.run(entry, ms).await;
                if reached && matches!(act, Act::ResetWithin { .. }) {
                    let half = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"jsonrpc\"";
                    self.side.write_all(half).await?;
                    self.side.flush().await?;
                }
                ledger.answered(entry, Fate::Reset);
                Ok(Next::Reset)
            }
            Act::Ask => {
                let next = self.result(id, &asked.ask()).await?;
                ledger.answered(entry, Fate::Asked);
                Ok(next)
            }
            Act::Refuse => {
                let next = self.write(429, "retry-after: 1\r\n", "").await?;
                ledger.answered(entry, Fate::Refused);
                Ok(next)
            }
            Act::Silent { runs } => {
                if runs {
                    ledger.runs(entry);
                    ledger.ended(entry);
                }
                closed(self.side).await;
                ledger.answered(entry, Fate::Abandoned);
                Ok(Next::Close)
            }
        }
    }

    /// Runs the tool; false if the caller hung up meanwhile, which does not stop it.
    async fn run(&mut self, entry: Entry, ms: u64) -> bool {
        let shared = self.shared.clone();
        shared.ledger.runs(entry);
        let work = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            shared.ledger.ended(entry);
        });
        tokio::select! {
            // It is neither aborted nor does it panic.
            _ended = work => true,
            () = closed(self.side) => {
                self.shared.ledger.answered(entry, Fate::Abandoned);
                false
            }
        }
    }

    /// Answers a request about a task. What it tells is entered when the answer was written.
    async fn of_task(&mut self, id: &Value, name: &str, message: &Value) -> io::Result<Next> {
        let shared = self.shared.clone();
        let task = message.pointer("/params/taskId").and_then(Value::as_str).unwrap_or_default();
        let worker = self.head.header(WORKER_HEADER).unwrap_or_default().to_owned();
        let (answer, told) = shared.tasks.answer(name, task, &worker, shared.ledger.now_us());
        let next = match answer {
            TaskAnswer::Result(result) => self.result(id, &result).await?,
            TaskAnswer::Error(code, text) => self.error(200, id, code, text).await?,
        };
        match told {
            Some(Told::Ended(entry)) => shared.ledger.answered(entry, Fate::Answered),
            Some(Told::Forgotten(entry)) => shared.ledger.answered(entry, Fate::Unclear),
            None => {}
        }
        Ok(next)
    }

    async fn unclear(&mut self, id: &Value, answer: Unclear) -> io::Result<Next> {
        match answer {
            Unclear::Status(status) => self.write(status, "", "").await,
            Unclear::Later => self.write(503, "retry-after: 1\r\n", "").await,
            Unclear::Rpc(code) => self.error(200, id, code, "it failed somewhere").await,
            Unclear::NotMcp => self.write(200, "", "<p>It works!</p>").await,
        }
    }

    fn session(&self) -> Session {
        self.shared.sessions.of(self.head.header(header::SESSION_ID), self.shared.ledger.now_us())
    }

    async fn session_not_found(&mut self) -> io::Result<Next> {
        self.shared.lost_answers.fetch_add(1, Ordering::Relaxed);
        self.error(404, &Value::Null, error_code::SESSION_NOT_FOUND, "Session not found").await
    }

    async fn result(&mut self, id: &Value, result: &Value) -> io::Result<Next> {
        self.write(200, "", &json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()).await
    }

    async fn error(&mut self, status: u16, id: &Value, code: i64, message: &str) -> io::Result<Next> {
        let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}});
        self.write(status, "", &error.to_string()).await
    }

    async fn write(&mut self, status: u16, headers: &str, body: &str) -> io::Result<Next> {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n{headers}content-length: {length}\r\n\r\n"
        );
        self.side.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
        Ok(Next::Keep)
    }
}
