//! Owns the scripted MCP server: its tools, its counters, what it is told to do wrong next, and what it saw.
//!
//! ```no_run
//! # async fn example() {
//! use toolfleet_testkit::{ProtocolRevision, MockFault, MockMcp};
//! let server = MockMcp::start(ProtocolRevision::Modern).await;
//! server.tool("echo", |arguments| serde_json::json!({ "content": [], "structuredContent": arguments }));
//! server.next(MockFault::CloseBeforeAnswer);
//! // ... run the subject against server.url() ...
//! assert_eq!(server.executions("echo"), 1);
//! # }
//! ```
//!
//! **Invariant:** an execution is counted at the one place where a tool's closure runs, so a counter is the truth about
//! how often a tool had its effect, whatever happened to the answer.

mod asking;
mod connection;
mod exchange;
mod protocol;
mod script;
mod state;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use asking::Round;
pub use exchange::{ProtocolRevision, Recorded, ToolAnswer};
pub use script::{HELD, MockFault, SessionLoss};
use state::{Script, State, Tool};

use crate::tls::TlsSide;

/// A scripted MCP server on 127.0.0.1. It ends when dropped.
#[derive(Debug)]
pub struct MockMcp {
    state: Arc<State>,
    port: u16,
    tls: bool,
    accepting: JoinHandle<()>,
}

/// A tool as it is registered; finish it with its attributes.
#[derive(Debug)]
pub struct PendingTool<'a> {
    server: &'a MockMcp,
    name: String,
}

/// While it lives, the server reads requests of one method (tool calls), and neither runs nor answers them.
#[derive(Debug)]
pub struct Hold {
    gate: watch::Sender<Option<String>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gate.send_replace(None);
    }
}

impl MockMcp {
    /// Starts a server of that revision with no tools.
    pub async fn start(revision: ProtocolRevision) -> Self {
        Self::listen(revision, None).await
    }

    /// The same over TLS, which offers HTTP/1.1 alone.
    pub async fn start_tls(revision: ProtocolRevision, tls: &TlsSide) -> Self {
        Self::listen(revision, Some(tls.acceptor(&["http/1.1"]))).await
    }

    #[expect(clippy::expect_used, reason = "a test without its server cannot go on")]
    async fn listen(revision: ProtocolRevision, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of this machine");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let state = Arc::new(State::new(revision));
        let (is_tls, accepts) = (tls.is_some(), connection::accept(listener, tls, Arc::clone(&state)));
        Self { state, port, tls: is_tls, accepting: tokio::spawn(accepts) }
    }

    /// Where it listens: `http://127.0.0.1:port/mcp`, over TLS `https://localhost:port/mcp`.
    pub fn url(&self) -> String {
        let origin = if self.tls { "https://localhost" } else { "http://127.0.0.1" };
        format!("{origin}:{}/mcp", self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Registers a tool that takes any object.
    pub fn tool<A: Into<ToolAnswer>>(
        &self,
        name: &str,
        mut run: impl FnMut(&Value) -> A + Send + 'static,
    ) -> PendingTool<'_> {
        let tool = Tool {
            run: Box::new(move |arguments| run(arguments).into()),
            listing: json!({ "name": name, "inputSchema": { "type": "object" } }),
            rounds: Vec::new(),
            progress: 0,
            sse: false,
        };
        self.state.lock().tools.insert(name.to_owned(), tool);
        PendingTool { server: self, name: name.to_owned() }
    }

    /// Answers another method than those of tools, for example `resources/read`; `run` takes the request's `params`.
    pub fn method<A: Into<ToolAnswer>>(
        &self,
        method: &str,
        mut run: impl FnMut(&Value) -> A + Send + 'static,
    ) {
        let run = Box::new(move |params: &Value| run(params).into());
        self.state.lock().methods.insert(method.to_owned(), run);
    }

    /// Registers `echo`: answers its arguments as one text block.
    pub fn echo(&self) -> PendingTool<'_> {
        self.tool(
            "echo",
            |arguments| json!({ "content": [{ "type": "text", "text": arguments.to_string() }] }),
        )
    }

    /// A task of that id: each `tasks/get` is answered with the next of `told`, members of a task like `{"status":
    /// "working"}`, and with the last one for ever. One with `inputRequests` is told until `tasks/update` has answered them all,
    /// and once more. `tasks/cancel` makes it tell `cancelled`.
    pub fn task(&self, id: &str, told: &[Value]) -> &Self {
        self.state.lock().tasks.insert(id.to_owned(), told.iter().cloned().collect());
        self
    }

    /// Forgets every task, as after a restart.
    pub fn forget_tasks(&self) {
        self.state.lock().tasks.clear();
    }

    /// What happens to the next tool call instead of a proper answer. Several queue up.
    pub fn next(&self, fault: MockFault) -> &Self {
        self.next_for("tools/call", fault)
    }

    /// What happens to the next request of that JSON-RPC method, or HTTP method for `GET` and `DELETE`.
    pub fn next_for(&self, method: &str, fault: MockFault) -> &Self {
        self.state.lock().scripts.push_back(Script { method: method.to_owned(), fault, times: 1 });
        self
    }

    /// The same for every request of that method from now on.
    pub fn always_for(&self, method: &str, fault: MockFault) -> &Self {
        self.state.lock().scripts.push_back(Script { method: method.to_owned(), fault, times: u64::MAX });
        self
    }

    /// From now on its lists are fresh for so long, for one caller (`private`) or for all (`public`).
    pub fn lists_are_fresh(&self, ttl_ms: u64, scope: &'static str) {
        self.state.lock().freshness = (ttl_ms, scope);
    }

    /// From now on its answers to that method set this cookie, as a sticky load balancer in front of it does.
    pub fn sets_cookie(&self, method: &str, cookie: &str) -> &Self {
        self.state.lock().cookies.insert(method.to_owned(), cookie.to_owned());
        self
    }

    /// Forgets every scripted fault.
    pub fn behave(&self) {
        self.state.lock().scripts.clear();
    }

    /// From now on it speaks another generation, as after an upgrade. Sessions are gone.
    pub fn become_era(&self, revision: ProtocolRevision) {
        let mut inner = self.state.lock();
        inner.era = revision;
        inner.sessions.clear();
    }

    /// Forgets its sessions, as after a restart, and says so in that shape.
    pub fn lose_sessions(&self, shape: SessionLoss) {
        let mut inner = self.state.lock();
        inner.sessions.clear();
        inner.session_loss = shape;
    }

    /// Holds every tool call that arrives before its tool runs.
    pub fn hold(&self) -> Hold {
        self.hold_for("tools/call")
    }

    /// Holds every request of that method before it is looked at. One method is held at a time.
    pub fn hold_for(&self, method: &str) -> Hold {
        self.state.gate.send_replace(Some(method.to_owned()));
        Hold { gate: self.state.gate.clone() }
    }

    /// How often that tool ran, or that other method was answered.
    pub fn executions(&self, tool: &str) -> u64 {
        self.state.lock().executions.get(tool).copied().unwrap_or(0)
    }

    /// How often a tool ran with that value as its argument `call`.
    pub fn executions_of(&self, key: &str) -> u64 {
        self.state.lock().executions_by_key.get(key).copied().unwrap_or(0)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.lock().requests.clone()
    }

    /// The requests of one JSON-RPC method (or `GET`, `DELETE`).
    pub fn requests_of(&self, method: &str) -> Vec<Recorded> {
        self.requests().into_iter().filter(|request| request.method() == method).collect()
    }

    /// Sessions alive now.
    pub fn sessions(&self) -> Vec<String> {
        self.state.lock().sessions.iter().cloned().collect()
    }

    /// Waits until that many requests of a method have arrived since the start.
    pub async fn arrived(&self, method: &str, count: usize) {
        self.wait(&self.state.arrival, || self.requests_of(method).len() >= count).await;
    }

    /// Waits until that many clients have hung up while the server owed them an answer.
    pub async fn hung_up(&self, count: u64) {
        self.wait(&self.state.departure, || self.state.lock().hang_ups >= count).await;
    }

    /// Stops listening and drops every connection: from now on connections are refused.
    pub async fn stop(&self) {
        self.accepting.abort();
        while !self.accepting.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    async fn wait(&self, notify: &Notify, met: impl Fn() -> bool) {
        loop {
            let notified = notify.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            if met() {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for MockMcp {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl PendingTool<'_> {
    /// Sets its JSON schema.
    pub fn schema(self, schema: Value) -> Self {
        self.listing("inputSchema", schema)
    }

    /// Sets its annotations, for example `{"readOnlyHint": true}`.
    pub fn annotations(self, annotations: Value) -> Self {
        self.listing("annotations", annotations)
    }

    /// Sets its description.
    pub fn description(self, text: &str) -> Self {
        self.listing("description", text.into())
    }

    /// Sets any member of its listing.
    pub fn listing(self, member: &str, value: Value) -> Self {
        self.change(|tool| {
            if let Some(object) = tool.listing.as_object_mut() {
                object.insert(member.to_owned(), value);
            }
        })
    }

    /// It asks those questions (`inputRequests`) before it runs, and gives that state for them; several rounds follow each other.
    pub fn asks(self, questions: Value, state: &str) -> Self {
        self.change(|tool| tool.rounds.push(Round { questions, state: state.to_owned() }))
    }

    /// It answers as an event stream.
    pub fn streams(self) -> Self {
        self.change(|tool| tool.sse = true)
    }

    /// It answers as an event stream and reports progress that often before its answer.
    pub fn progress(self, times: u32) -> Self {
        self.change(|tool| (tool.sse, tool.progress) = (true, times))
    }

    fn change(self, change: impl FnOnce(&mut Tool)) -> Self {
        if let Some(tool) = self.server.state.lock().tools.get_mut(&self.name) {
            change(tool);
        }
        self
    }
}
