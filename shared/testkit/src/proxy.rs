//! A proxy in front of an AWS endpoint that drops chosen requests or answers, or refuses requests.
//!
//! **Invariant:** an answer is dropped after it was read completely from upstream, so its effect has happened.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::accept::accept;
use crate::http1::{self, Kind, Message};

/// Where a matching request is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Upstream never sees it; the client's connection closes.
    BeforeRequest,
    /// Upstream answers in full; the client's connection closes without a byte of it.
    AfterAnswer,
    /// Upstream never sees it; the client is refused with this error code of a JSON protocol.
    Refused(&'static str),
}

/// Which requests are cut.
#[derive(Debug, Clone)]
pub struct Rule {
    cut: Cut,
    target: String,
    body: Option<String>,
    nth: usize,
    last: usize,
    seen: usize,
}

impl Rule {
    /// Cuts the `nth` (from 1) request from now on whose `X-Amz-Target`, or `METHOD /path` where it has none, contains `target`.
    pub fn new(cut: Cut, target: &str, nth: usize) -> Self {
        Self { cut, target: target.to_owned(), body: None, nth, last: nth, seen: 0 }
    }

    /// Counts only requests whose body contains this text.
    pub fn with_body(mut self, part: &str) -> Self {
        self.body = Some(part.to_owned());
        self
    }

    /// Cuts that many matching requests in a row, starting with the nth.
    pub fn times(mut self, times: usize) -> Self {
        self.last = self.nth.saturating_add(times).saturating_sub(1);
        self
    }

    fn strikes(&mut self, target: &str, body: &str) -> bool {
        if !target.contains(&self.target) || self.body.as_ref().is_some_and(|part| !body.contains(part)) {
            return false;
        }
        self.seen += 1;
        (self.nth..=self.last).contains(&self.seen)
    }
}

#[derive(Debug, Default)]
struct State {
    rules: Mutex<Vec<Rule>>,
    counts: Mutex<HashMap<String, usize>>,
    cuts: Mutex<usize>,
    cut: Notify,
}

/// An HTTP/1 proxy on 127.0.0.1 with one upstream. It ends when dropped.
#[derive(Debug)]
pub struct CuttingProxy {
    state: Arc<State>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl CuttingProxy {
    /// Starts a proxy before an endpoint such as `http://127.0.0.1:9324` (plain HTTP; a path is ignored).
    #[expect(clippy::expect_used, reason = "a test without its proxy cannot go on")]
    pub async fn start(upstream: &str) -> Self {
        let authority =
            upstream.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
        let address = tokio::net::lookup_host(authority).await.ok().and_then(|mut found| found.next());
        let address = address.expect("an upstream of the form http://host:port");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of this machine");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let state = Arc::new(State::default());
        let serves = Arc::clone(&state);
        let serve = move |client| carry(client, address, Arc::clone(&serves));
        let accepting = tokio::spawn(accept(listener, serve));
        Self { state, port, accepting }
    }

    /// Where it listens, without a path.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds a rule. Several may be active; the first that matches is applied.
    pub fn cut(&self, rule: Rule) {
        lock(&self.state.rules).push(rule);
    }

    /// Loses the answer of the `nth` (from 1) request from now on whose target contains this text.
    pub fn cut_after_answer(&self, target_contains: &str, nth: usize) {
        self.cut(Rule::new(Cut::AfterAnswer, target_contains, nth));
    }

    /// Loses the `nth` (from 1) request from now on whose target contains this text.
    pub fn cut_before(&self, target_contains: &str, nth: usize) {
        self.cut(Rule::new(Cut::BeforeRequest, target_contains, nth));
    }

    /// Forgets every rule.
    pub fn behave(&self) {
        lock(&self.state.rules).clear();
    }

    /// Requests so far whose target contains this text, cut ones included.
    pub fn count(&self, target_contains: &str) -> usize {
        let counts = lock(&self.state.counts);
        counts.iter().filter(|(target, _)| target.contains(target_contains)).map(|(_, count)| count).sum()
    }

    /// How many cuts have been made.
    pub fn cuts(&self) -> usize {
        *lock(&self.state.cuts)
    }

    /// Waits until that many cuts have been made since the start.
    pub async fn cut_made(&self, count: usize) {
        loop {
            let mut notified = std::pin::pin!(self.state.cut.notified());
            notified.as_mut().enable();
            if self.cuts() >= count {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries one client connection, over one upstream connection at a time.
async fn carry(client: TcpStream, upstream: SocketAddr, state: Arc<State>) {
    let _ = client.set_nodelay(true);
    let mut client = BufReader::new(client);
    let mut server: Option<BufReader<TcpStream>> = None;
    while let Ok(Some(request)) = http1::read(&mut client, Kind::Request).await {
        let cut = state.judge(&request);
        if cut == Some(Cut::BeforeRequest) {
            break;
        }
        if let Some(Cut::Refused(code)) = cut {
            if client.get_mut().write_all(refusal(code).as_bytes()).await.is_err() || request.closes() {
                break;
            }
            continue;
        }
        let Ok(answer) = forward(&mut server, upstream, &request).await else {
            break;
        };
        if cut == Some(Cut::AfterAnswer) {
            break;
        }
        let closes = answer.closes() || request.closes();
        if client.get_mut().write_all(&answer.raw).await.is_err() || closes || lacks_length(&answer) {
            break;
        }
    }
}

impl State {
    fn judge(&self, request: &Message) -> Option<Cut> {
        // S3 is asked by method and path.
        let asked = || format!("{} {}", request.word(0), request.word(1));
        let target = &request.header("x-amz-target").map_or_else(asked, str::to_owned);
        *lock(&self.counts).entry(target.to_owned()).or_default() += 1;
        let body = String::from_utf8_lossy(&request.body);
        let mut struck = None;
        for rule in lock(&self.rules).iter_mut() {
            if rule.strikes(target, &body) && struck.is_none() {
                struck = Some(rule.cut);
            }
        }
        if struck.is_some() {
            *lock(&self.cuts) += 1;
            self.cut.notify_waiters();
        }
        struck
    }
}

/// The answer to a request that is refused with that code.
fn refusal(code: &str) -> String {
    let body = format!(r#"{{"__type":"{code}","message":"refused by a rule of the test"}}"#);
    let length = body.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// An answer whose end is the end of the connection.
fn lacks_length(answer: &Message) -> bool {
    answer.header("content-length").is_none() && answer.header("transfer-encoding").is_none()
}

/// Sends the request and reads the whole answer; a kept connection that upstream closed meanwhile is replaced once.
async fn forward(
    server: &mut Option<BufReader<TcpStream>>,
    upstream: SocketAddr,
    request: &Message,
) -> io::Result<Message> {
    if let Some(kept) = server.as_mut() {
        let mut probe = [0; 1];
        let open = match kept.get_mut().try_read(&mut probe) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        };
        if !open {
            *server = None;
        }
    }
    let connection = match server {
        Some(kept) => kept,
        None => {
            let fresh = TcpStream::connect(upstream).await?;
            fresh.set_nodelay(true)?;
            server.insert(BufReader::new(fresh))
        }
    };
    connection.get_mut().write_all(&request.raw).await?;
    let answer = http1::read(connection, Kind::Response).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if answer.closes() || lacks_length(&answer) {
        *server = None;
    }
    Ok(answer)
}
