//! The scripted MCP server: tests register tools, queue faults, and read counters and recorded requests.
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
//! **Invariant:** an execution is counted where the tool's closure runs and nowhere else, so a counter is exact whatever happens to
//! the answer.

mod answer;
mod connection;
mod event_stream;
mod faults;
mod protocol;
mod recorded;
mod reply;
mod rounds;
mod script;
mod state;
mod tasks;
mod web_frame;
mod websocket;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use toolfleet_mcp_protocol::method;

pub use answer::ToolAnswer;
pub use recorded::Recorded;
use rounds::Round;
pub use script::{HELD, MockFault, ProtocolRevision, SessionLoss};
use state::{Script, State, StreamPart, Tool};

use crate::accept::accept;
use crate::tls::TlsSide;

/// A scripted MCP server on 127.0.0.1. Dropping it stops it.
#[derive(Debug)]
pub struct MockMcp {
    state: Arc<State>,
    port: u16,
    tls: bool,
    accepting: JoinHandle<()>,
}

/// A registered tool, to be given its attributes.
#[derive(Debug)]
pub struct PendingTool<'a> {
    server: &'a MockMcp,
    name: String,
}

/// As long as this value lives, the server reads requests of one method and neither runs nor answers them.
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
    /// Starts a server of that protocol revision without tools.
    pub async fn start(revision: ProtocolRevision) -> Self {
        Self::listen(revision, None).await
    }

    /// The same over TLS with HTTP/1.1 only.
    pub async fn start_tls(revision: ProtocolRevision, tls: &TlsSide) -> Self {
        Self::listen(revision, Some(tls.acceptor(&["http/1.1"]))).await
    }

    #[expect(clippy::expect_used, reason = "a test without its server cannot go on")]
    async fn listen(revision: ProtocolRevision, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of this machine");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let state = Arc::new(State::new(revision));
        let (is_tls, serves) = (tls.is_some(), Arc::clone(&state));
        let serve = move |stream| connection::serve(stream, tls.clone(), Arc::clone(&serves));
        Self { state, port, tls: is_tls, accepting: tokio::spawn(accept(listener, serve)) }
    }

    /// The address: `http://127.0.0.1:port/mcp`, over TLS `https://localhost:port/mcp`.
    pub fn url(&self) -> String {
        let origin = if self.tls { "https://localhost" } else { "http://127.0.0.1" };
        format!("{origin}:{}/mcp", self.port)
    }

    /// Its address as a WebSocket: `ws://127.0.0.1:port/ws`, over TLS `wss://localhost:port/ws`.
    pub fn ws_url(&self) -> String {
        let origin = if self.tls { "wss://localhost" } else { "ws://127.0.0.1" };
        format!("{origin}:{}/ws", self.port)
    }

    /// The address of its event stream in the HTTP+SSE transport of 2024-11-05: `http://127.0.0.1:port/sse`.
    pub fn sse_url(&self) -> String {
        let origin = if self.tls { "https://localhost" } else { "http://127.0.0.1" };
        format!("{origin}:{}/sse", self.port)
    }

    /// Makes its event streams of 2024-11-05 name this address for messages.
    pub fn names_address(&self, address: &str) {
        self.state.lock().message_address = Some(address.to_owned());
    }

    /// Makes it choose this subprotocol of a WebSocket in place of `mcp`.
    pub fn chooses_subprotocol(&self, name: &str) {
        self.state.lock().subprotocol = Some(name.to_owned());
    }

    /// How many WebSockets, and event streams of 2024-11-05, were opened.
    pub fn connections_opened(&self) -> u64 {
        let inner = self.state.lock();
        inner.sockets_opened + inner.streams_opened
    }

    /// How many of its WebSocket pings were answered. It sends one before each message that it answers.
    pub fn pongs(&self) -> u64 {
        self.state.lock().pongs
    }

    /// Sends a message of its own on every WebSocket and every event stream of 2024-11-05 that is open.
    pub fn push(&self, message: &Value) {
        let inner = self.state.lock();
        for socket in inner.sockets.values() {
            // One that has ended hears nothing.
            let _heard = socket.send(StreamPart::Text(message.to_string()));
        }
        inner.streams.values().for_each(|stream| event_stream::event(stream, &message.to_string()));
    }

    /// Ends them all.
    pub fn end_connections(&self) {
        let inner = self.state.lock();
        for open in inner.sockets.values().chain(inner.streams.values()) {
            let _heard = open.send(StreamPart::End);
        }
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

    /// Registers a task of that id: each `tasks/get` is answered with the next of `states`, members of a task like `{"status":
    /// "working"}`, and with the last one for ever. A state with `inputRequests` is repeated until `tasks/update` has answered them
    /// all, and once more. `tasks/cancel` changes the state to `cancelled`.
    pub fn task(&self, id: &str, states: &[Value]) -> &Self {
        self.state.lock().tasks.insert(id.to_owned(), states.iter().cloned().collect());
        self
    }

    /// Forgets every task, as a restart does.
    pub fn forget_tasks(&self) {
        self.state.lock().tasks.clear();
    }

    /// Queues a fault for the next tool call. Several are applied in order.
    pub fn next(&self, fault: MockFault) -> &Self {
        self.next_for(method::TOOLS_CALL, fault)
    }

    /// Queues a fault for the next request of that JSON-RPC method, or HTTP method for `GET` and `DELETE`.
    pub fn next_for(&self, method: &str, fault: MockFault) -> &Self {
        self.state.lock().scripts.push_back(Script { method: method.to_owned(), fault, times: 1 });
        self
    }

    /// Applies a fault to every request of that method from now on.
    pub fn always_for(&self, method: &str, fault: MockFault) -> &Self {
        self.state.lock().scripts.push_back(Script { method: method.to_owned(), fault, times: u64::MAX });
        self
    }

    /// Sets `ttlMs` and `cacheScope` (`private` or `public`) of its lists.
    pub fn lists_are_fresh(&self, ttl_ms: u64, scope: &'static str) {
        self.state.lock().freshness = (ttl_ms, scope);
    }

    /// Makes its answers to that method set this cookie, as a sticky load balancer does.
    pub fn sets_cookie(&self, method: &str, cookie: &str) -> &Self {
        self.state.lock().cookies.insert(method.to_owned(), cookie.to_owned());
        self
    }

    /// Removes every queued fault.
    pub fn behave(&self) {
        let mut inner = self.state.lock();
        (inner.message_address, inner.subprotocol) = (None, None);
        inner.scripts.clear();
    }

    /// Changes the protocol revision, as an upgrade does. All sessions are lost.
    pub fn become_era(&self, revision: ProtocolRevision) {
        let mut inner = self.state.lock();
        inner.revision = revision;
        inner.sessions.clear();
    }

    /// Forgets its sessions, as a restart does, and refuses them in that form.
    pub fn lose_sessions(&self, form: SessionLoss) {
        let mut inner = self.state.lock();
        inner.sessions.clear();
        inner.streams.clear();
        inner.session_loss = form;
    }

    /// Holds every tool call that arrives before its tool runs.
    pub fn hold(&self) -> Hold {
        self.hold_for(method::TOOLS_CALL)
    }

    /// Holds every request of that method before it is read. One method is held at a time.
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

    /// The open sessions.
    pub fn sessions(&self) -> Vec<String> {
        self.state.lock().sessions.iter().cloned().collect()
    }

    /// Waits until that many requests of a method have arrived since the start.
    pub async fn arrived(&self, method: &str, count: usize) {
        self.wait(&self.state.arrival, || self.requests_of(method).len() >= count).await;
    }

    /// Waits until that many clients have hung up before they were answered.
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

    /// Makes it ask those questions (`inputRequests`) under that `requestState` before it runs. Several rounds are asked in order.
    pub fn asks(self, questions: Value, state: &str) -> Self {
        self.change(|tool| tool.rounds.push(Round { questions, state: state.to_owned() }))
    }

    /// Makes it answer as an event stream.
    pub fn streams(self) -> Self {
        self.change(|tool| tool.sse = true)
    }

    /// Makes it answer as an event stream with that many progress notifications.
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
