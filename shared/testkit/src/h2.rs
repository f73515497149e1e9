//! A server that writes HTTP/2 frame by frame, because a server library cannot refuse or reset a stream on demand.
//!
//! It answers 2026-07-28 and looks at bodies alone: what headers a request needs is the business of [`MockMcp`](crate::MockMcp).
//!
//! **Invariant:** an execution is counted before the first byte of its answer is written.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::accept::accept;
use crate::tls::TlsSide;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const INTERNAL_ERROR: u32 = 2;
const REFUSED: u32 = 7;
/// `:status: 200` and `content-type: application/json`, as HPACK (RFC 7541) writes them without a table.
const OK_JSON: &[u8] = b"\x88\x0f\x10\x10application/json";

/// What happens to a tool call instead of a proper answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum H2Fault {
    /// RST_STREAM with REFUSED_STREAM; the tool does not run.
    RefuseStream,
    /// GOAWAY whose last stream is one before; the tool does not run.
    GoAwayBefore,
    /// The tool runs, then GOAWAY whose last stream is this one, and the connection ends.
    GoAwayAfter,
    /// The tool runs, then RST_STREAM with INTERNAL_ERROR and no answer.
    ResetBeforeAnswer,
    /// The tool runs, then half of the answer and RST_STREAM with INTERNAL_ERROR.
    ResetMidway,
}

#[derive(Debug, Default)]
struct State {
    faults: VecDeque<H2Fault>,
    executions: u64,
    connections: u64,
    methods: Vec<String>,
}

/// An MCP server on 127.0.0.1 that speaks HTTP/2 over TLS and nothing else. It ends when dropped.
#[derive(Debug)]
pub struct H2Mcp {
    state: Arc<Mutex<State>>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl H2Mcp {
    /// Starts a server whose tools echo their arguments. It offers `h2` and `http/1.1`, and closes a connection that selects the second.
    #[expect(clippy::expect_used, reason = "a test without its server cannot go on")]
    pub async fn start(tls: &TlsSide) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of this machine");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let state = Arc::new(Mutex::default());
        let acceptor = tls.acceptor(&["h2", "http/1.1"]);
        let serves = Arc::clone(&state);
        let serve = move |stream| converse(stream, acceptor.clone(), Arc::clone(&serves));
        let accepting = tokio::spawn(accept(listener, serve));
        Self { state, port, accepting }
    }

    /// Where it listens: `https://localhost:port/mcp`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/mcp", self.port)
    }

    /// What happens to the next tool call. Several queue up.
    pub fn next(&self, fault: H2Fault) {
        lock(&self.state).faults.push_back(fault);
    }

    /// How often a tool ran.
    pub fn executions(&self) -> u64 {
        lock(&self.state).executions
    }

    /// How many connections have spoken HTTP/2.
    pub fn connections(&self) -> u64 {
        lock(&self.state).connections
    }

    /// How often that JSON-RPC method was asked.
    pub fn asked(&self, method: &str) -> usize {
        lock(&self.state).methods.iter().filter(|asked| *asked == method).count()
    }
}

impl Drop for H2Mcp {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

type Stream = tokio_rustls::server::TlsStream<TcpStream>;

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Ok(());
    }
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    lock(&state).connections += 1;
    write(&mut stream, SETTINGS, 0, 0, &[]).await?;
    let mut bodies: HashMap<u32, Vec<u8>> = HashMap::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload).await?;
        let id = u32::from_be_bytes(id);
        match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let echo = if kind == PING { payload.as_slice() } else { &[] };
                write(&mut stream, kind, ACK, 0, echo).await?;
            }
            HEADERS => drop(bodies.insert(id, Vec::new())),
            DATA => bodies.entry(id).or_default().extend_from_slice(&payload),
            GOAWAY => return Ok(()),
            _ => {}
        }
        if matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            let body = bodies.remove(&id).unwrap_or_default();
            if !answer(&mut stream, id, &body, &state).await? {
                return stream.shutdown().await;
            }
        }
    }
}

/// Answers one request; false ends the connection.
async fn answer(stream: &mut Stream, id: u32, body: &[u8], state: &Mutex<State>) -> io::Result<bool> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let method = request.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_call = method == "tools/call";
    let fault = {
        let mut state = lock(state);
        let fault = if is_call { state.faults.pop_front() } else { None };
        let runs = !matches!(fault, Some(H2Fault::RefuseStream | H2Fault::GoAwayBefore));
        state.executions += u64::from(is_call && runs);
        state.methods.push(method.clone());
        fault
    };
    let result = match method.as_str() {
        "server/discover" => {
            json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
        }
        "tools/list" => json!({"resultType": "complete", "tools": []}),
        _ => json!({"content": [{"type": "text", "text": request.pointer("/params/arguments")}]}),
    };
    let text = json!({"jsonrpc": "2.0", "id": request.get("id"), "result": result}).to_string();
    let (half, _) = text.as_bytes().split_at(text.len() / 2);
    match fault {
        None => {
            write(stream, HEADERS, END_HEADERS, id, OK_JSON).await?;
            write(stream, DATA, END_STREAM, id, text.as_bytes()).await?;
        }
        Some(H2Fault::RefuseStream) => {
            write(stream, RST_STREAM, 0, id, &REFUSED.to_be_bytes()).await?;
        }
        Some(H2Fault::GoAwayBefore) => {
            go_away(stream, id.saturating_sub(2)).await?;
        }
        Some(H2Fault::GoAwayAfter) => {
            go_away(stream, id).await?;
            return Ok(false);
        }
        Some(H2Fault::ResetBeforeAnswer) => {
            write(stream, RST_STREAM, 0, id, &INTERNAL_ERROR.to_be_bytes()).await?;
        }
        Some(H2Fault::ResetMidway) => {
            write(stream, HEADERS, END_HEADERS, id, OK_JSON).await?;
            write(stream, DATA, 0, id, half).await?;
            write(stream, RST_STREAM, 0, id, &INTERNAL_ERROR.to_be_bytes()).await?;
        }
    }
    Ok(true)
}

/// GOAWAY with NO_ERROR.
async fn go_away(stream: &mut Stream, last: u32) -> io::Result<()> {
    let payload = [last.to_be_bytes(), 0_u32.to_be_bytes()].concat();
    write(stream, GOAWAY, 0, 0, &payload).await
}

/// One frame (RFC 9113, section 4.1).
async fn write(stream: &mut Stream, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidData)?.to_be_bytes();
    let mut frame = length.get(1..).unwrap_or_default().to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}
