//! The scripted MCP servers of a chaos run, on plain sockets, so that they can reset connections.
//!
//! **Invariant:** a tool that runs goes on when its caller hangs up, as on a real server.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{self, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use toolfleet_mcp_protocol::{ProtocolVersion, error_code, header, method, result_type};

use super::behaviour::{Act, Unclear, decide};
use super::ledger::{Fate, Ledger};
use super::plan::Server;
use crate::proxy::{Head, Side, closed, read_body};
use crate::server::discovered;

/// The header that names the worker, in the catalog of each.
pub(crate) const WORKER_HEADER: &str = "x-load-worker";
/// The flapping server answers for so long, then resets connections for so long, in microseconds.
const UP_US: u64 = 4_000_000;
const DOWN_US: u64 = 1_500_000;
/// A session may have been opened for the call that it is used for, if it was opened so recently.
const OPENED_FOR_US: u64 = 10_000_000;

/// The servers. Dropping them ends every connection.
pub(crate) struct Servers {
    shared: Arc<Shared>,
    addresses: BTreeMap<Server, String>,
    /// Bound and not listening: its port is taken, and connections to it are refused.
    _dead: TcpSocket,
    _accepting: JoinSet<()>,
}

struct Shared {
    seed: u64,
    ledger: Ledger,
    sessions: Mutex<Sessions>,
    /// Answers to requests in sessions that were lost.
    lost_answers: AtomicU64,
}

#[derive(Default)]
struct Sessions {
    opened: u64,
    /// When each was opened.
    open: HashMap<String, u64>,
    lost: HashMap<String, u64>,
}

/// What becomes of a connection after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Keep,
    Close,
    Reset,
}

impl Servers {
    pub(crate) async fn start(seed: u64) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            seed,
            ledger: Ledger::new(),
            sessions: Mutex::default(),
            lost_answers: AtomicU64::new(0),
        });
        let dead = TcpSocket::new_v4()?;
        dead.bind(([127, 0, 0, 1], 0).into()).context("no free port for the dead server")?;
        let mut addresses = BTreeMap::new();
        let mut accepting = JoinSet::new();
        for server in Server::ALL {
            let address = if server == Server::Dead {
                dead.local_addr()?
            } else {
                let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port for a server")?;
                let address = listener.local_addr()?;
                accepting.spawn(accept(listener, server, shared.clone()));
                address
            };
            addresses.insert(server, format!("http://{address}/mcp"));
        }
        Ok(Self { shared, addresses, _dead: dead, _accepting: accepting })
    }

    /// The URL of that server.
    pub(crate) fn url(&self, server: Server) -> &str {
        self.addresses.get(&server).map_or("", String::as_str)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Forgets all sessions.
    pub(crate) fn lose_sessions(&self) {
        let mut sessions = self.shared.sessions();
        let open = std::mem::take(&mut sessions.open);
        sessions.lost.extend(open);
    }

    /// How often a request came in a session that was lost.
    pub(crate) fn lost_answers(&self) -> u64 {
        self.shared.lost_answers.load(Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, server: Server, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream, server, shared.clone()));
        }
    }
}

async fn serve(stream: TcpStream, server: Server, shared: Arc<Shared>) {
    // Without it answers on pooled connections take 40 ms; if it fails, only the figures are worse.
    let _ignored = stream.set_nodelay(true);
    let mut side = BufReader::new(stream);
    while let Ok(Some(head)) = Head::read(&mut side).await {
        let Ok(body) = read_body(&mut side, head.length.unwrap_or(0)).await else { return };
        let mut exchange = Exchange { side: &mut side, server, shared: &shared, head: &head };
        // Either side may close the connection at any time.
        match exchange.answer(&body).await.unwrap_or(Next::Close) {
            Next::Keep => {}
            Next::Close => return,
            Next::Reset => {
                // If it fails the connection is closed instead, which clients treat alike.
                let _ignored = side.get_ref().set_zero_linger();
                return;
            }
        }
    }
}

impl Shared {
    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_down(&self, server: Server) -> bool {
        server == Server::Flapping && self.ledger.now_us() % (UP_US + DOWN_US) >= UP_US
    }
}

/// One request and its answer.
struct Exchange<'a> {
    side: &'a mut Side,
    server: Server,
    shared: &'a Arc<Shared>,
    head: &'a Head,
}

impl Exchange<'_> {
    async fn answer(&mut self, body: &[u8]) -> io::Result<Next> {
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
            _ => self.error(404, &id, error_code::METHOD_NOT_FOUND, "Method not found").await,
        }
    }

    /// What a server of an older protocol version answers, unless a tool is called.
    async fn with_sessions(&mut self, id: &Value, name: &str) -> io::Result<Next> {
        if name == method::INITIALIZE {
            let session = self.open_session();
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
        let arguments = message.pointer("/params/arguments").unwrap_or(&Value::Null);
        let call = arguments.get("call").and_then(Value::as_str).unwrap_or_default().to_owned();
        let worker = self.head.header(WORKER_HEADER).unwrap_or_default().to_owned();
        let ledger = &self.shared.ledger;
        let (entry, before) = ledger.enter(&call, self.server.name(), &worker);
        if self.shared.is_down(self.server) {
            ledger.answered(entry, Fate::Reset);
            return Ok(Next::Reset);
        }
        if self.server == Server::Forgetful {
            match self.session() {
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
        let bytes = arguments.get("bytes").and_then(Value::as_u64).unwrap_or(0);
        let text = answer_text(&call, usize::try_from(bytes).unwrap_or(0));
        let act = decide(self.server, self.shared.seed, &call, before);
        self.perform(act, entry, id, &text).await
    }

    async fn perform(&mut self, act: Act, entry: usize, id: &Value, text: &str) -> io::Result<Next> {
        let shared = self.shared.clone();
        let ledger = &shared.ledger;
        match act {
            Act::Answer { ms, is_error } => {
                if !self.run(entry, ms).await {
                    return Ok(Next::Close);
                }
                let content = json!([{"type": "text", "text": text}]);
                let result =
                    json!({"resultType": result_type::COMPLETE, "content": content, "isError": is_error});
                let next = self.result(id, &result).await?;
                ledger.answered(entry, Fate::Answered);
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
    async fn run(&mut self, entry: usize, ms: u64) -> bool {
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

    async fn unclear(&mut self, id: &Value, answer: Unclear) -> io::Result<Next> {
        match answer {
            Unclear::Status(status) => self.write(status, "", "").await,
            Unclear::Later => self.write(503, "retry-after: 1\r\n", "").await,
            Unclear::Rpc(code) => self.error(200, id, code, "it failed somewhere").await,
            Unclear::NotMcp => self.write(200, "", "<p>It works!</p>").await,
        }
    }

    fn open_session(&self) -> String {
        let opened_us = self.shared.ledger.now_us();
        let mut sessions = self.shared.sessions();
        sessions.opened += 1;
        let session = format!("session-{}", sessions.opened);
        sessions.open.insert(session.clone(), opened_us);
        session
    }

    fn session(&self) -> Session {
        let Some(session) = self.head.header(header::SESSION_ID) else { return Session::None };
        let sessions = self.shared.sessions();
        if sessions.open.contains_key(session) {
            return Session::Open;
        }
        // It may have been opened for this call, and by any worker.
        let opened_us = sessions.lost.get(session).copied();
        let age_us = opened_us.map(|opened| self.shared.ledger.now_us() - opened);
        Session::Lost { existed_before: age_us.is_some_and(|age| age > OPENED_FOR_US) }
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

/// The session that a request names.
enum Session {
    None,
    Open,
    Lost { existed_before: bool },
}

/// The text that a tool answers to a call, with that many bytes which do not compress well.
pub(crate) fn answer_text(call: &str, bytes: usize) -> String {
    let seed = call.bytes().fold(1, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(byte));
    let mut rng = fastrand::Rng::with_seed(seed);
    let noise: String = std::iter::repeat_with(|| rng.alphanumeric()).take(bytes).collect();
    format!("{call} ran {noise}")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn post(side: &mut Side, body: &Value) -> Option<(Head, Vec<u8>)> {
        let body = body.to_string();
        let text = format!(
            "POST /mcp HTTP/1.1\r\n{WORKER_HEADER}: w\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        side.write_all(text.as_bytes()).await.unwrap();
        let head = Head::read(side).await.ok()??;
        let body = read_body(side, head.length.unwrap()).await.ok()?;
        Some((head, body))
    }

    async fn connect(servers: &Servers, server: Server) -> Side {
        let address = servers.url(server).trim_start_matches("http://").trim_end_matches("/mcp");
        BufReader::new(TcpStream::connect(address).await.unwrap())
    }

    fn called(call: &str) -> Value {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {"call": call}}})
    }

    #[tokio::test]
    async fn every_request_is_in_the_ledger_with_what_became_of_it() {
        let servers = Servers::start(1).await.unwrap();
        for n in 0..60 {
            let mut side = connect(&servers, Server::Resetting).await;
            let call = format!("c-{n}");
            let answered = post(&mut side, &called(&call)).await.is_some();
            let request = servers.ledger().requests().pop().unwrap();
            assert_eq!((request.call, request.worker), (call, "w".to_owned()));
            let expected = if answered { Fate::Answered } else { Fate::Reset };
            // The client may read the answer before the server has entered that it was written.
            assert!(
                request.fate == expected || (answered && request.fate == Fate::Open),
                "{:?}",
                request.fate
            );
        }
        let requests = servers.ledger().requests();
        assert!(requests.iter().any(|request| request.fate == Fate::Reset && request.ran));
        assert!(requests.iter().any(|request| request.fate == Fate::Reset && !request.ran));
    }

    #[tokio::test]
    async fn a_dead_server_refuses_connections() {
        let servers = Servers::start(1).await.unwrap();
        let address = servers.url(Server::Dead).trim_start_matches("http://").trim_end_matches("/mcp");
        let error = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_lost_session_refuses_a_call_that_does_not_run() {
        let servers = Servers::start(1).await.unwrap();
        let mut side = connect(&servers, Server::Forgetful).await;
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}});
        let (head, _) = post(&mut side, &hello).await.unwrap();
        assert_eq!(head.header(header::SESSION_ID), Some("session-1"));
        servers.lose_sessions();
        let body = called("c").to_string();
        let text = format!(
            "POST /mcp HTTP/1.1\r\nmcp-session-id: session-1\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        side.write_all(text.as_bytes()).await.unwrap();
        let head = Head::read(&mut side).await.unwrap().unwrap();
        assert!(head.text.starts_with("HTTP/1.1 404"));
        let request = servers.ledger().requests().pop().unwrap();
        // It was opened just now, perhaps for this call: then the answer proves nothing.
        assert_eq!((request.ran, request.fate), (false, Fate::Unclear));
        assert_eq!(servers.lost_answers(), 1);
    }
}
