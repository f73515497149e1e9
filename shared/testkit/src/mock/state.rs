//! State of the scripted server.
//!
//! **Invariant:** there is one lock, and it is never held across an await.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::{Notify, mpsc, watch};
use toolfleet_mcp_protocol::cache_scope;

use super::answer::ToolAnswer;
use super::recorded::Recorded;
use super::rounds::{Round, before_running};
use super::script::{MockFault, ProtocolRevision, SessionLoss};

pub(super) type Run = Box<dyn FnMut(&Value) -> ToolAnswer + Send>;

pub(super) struct Tool {
    pub(super) run: Run,
    pub(super) listing: Value,
    /// The questions that it asks before it runs.
    pub(super) rounds: Vec<Round>,
    pub(super) progress: u32,
    pub(super) sse: bool,
}

pub(super) struct Script {
    pub(super) method: String,
    pub(super) fault: MockFault,
    pub(super) times: u64,
}

pub(super) struct Inner {
    pub(super) revision: ProtocolRevision,
    pub(super) tools: HashMap<String, Tool>,
    /// Answers to other methods than those of tools, by method. They take the request's `params`.
    pub(super) methods: HashMap<String, Run>,
    pub(super) scripts: VecDeque<Script>,
    pub(super) sessions: BTreeSet<String>,
    pub(super) sessions_opened: u64,
    pub(super) session_loss: SessionLoss,
    pub(super) executions: HashMap<String, u64>,
    pub(super) executions_by_key: HashMap<String, u64>,
    pub(super) requests: Vec<Recorded>,
    pub(super) resumable: HashMap<String, String>,
    pub(super) hang_ups: u64,
    /// `ttlMs` and `cacheScope` of a list.
    pub(super) freshness: (u64, &'static str),
    /// The `Set-Cookie` of its answers to a method.
    pub(super) cookies: HashMap<String, String>,
    /// The next states of each task. The last one is repeated for ever.
    pub(super) tasks: HashMap<String, VecDeque<Value>>,
    /// The open event streams of the old transport, by the number in their address.
    pub(super) streams: HashMap<u64, mpsc::UnboundedSender<StreamPart>>,
    pub(super) streams_opened: u64,
    /// What an event stream of the old transport names as the address of messages, in place of its own.
    pub(super) message_address: Option<String>,
    /// The subprotocol that is chosen in place of `mcp`.
    pub(super) subprotocol: Option<String>,
    /// The open WebSockets, by number.
    pub(super) sockets: HashMap<u64, mpsc::UnboundedSender<StreamPart>>,
    /// WebSockets that were opened.
    pub(super) sockets_opened: u64,
    pub(super) pongs: u64,
}

/// What is written on an event stream of the old transport, or on a WebSocket beside answers.
pub(super) enum StreamPart {
    Text(String),
    End,
}

pub(super) struct State {
    inner: Mutex<Inner>,
    pub(super) arrival: Notify,
    pub(super) departure: Notify,
    /// The method that is held, if any.
    pub(super) gate: watch::Sender<Option<String>>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn new(revision: ProtocolRevision) -> Self {
        let inner = Inner {
            revision,
            tools: HashMap::new(),
            methods: HashMap::new(),
            scripts: VecDeque::new(),
            sessions: BTreeSet::new(),
            sessions_opened: 0,
            session_loss: SessionLoss::NotFound,
            executions: HashMap::new(),
            executions_by_key: HashMap::new(),
            requests: Vec::new(),
            resumable: HashMap::new(),
            hang_ups: 0,
            freshness: (0, cache_scope::PRIVATE),
            cookies: HashMap::new(),
            tasks: HashMap::new(),
            streams: HashMap::new(),
            streams_opened: 0,
            message_address: None,
            subprotocol: None,
            sockets: HashMap::new(),
            sockets_opened: 0,
            pongs: 0,
        };
        Self {
            inner: Mutex::new(inner),
            arrival: Notify::new(),
            departure: Notify::new(),
            gate: watch::Sender::new(None),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while a test holds requests of this method.
    pub(super) async fn pass_gate(&self, method: &str) {
        let mut gate = self.gate.subscribe();
        let open = |held: &Option<String>| held.as_deref() != Some(method);
        drop(gate.wait_for(open).await);
    }
}

impl Inner {
    /// The scripted fault for this method, if one is queued.
    pub(super) fn take_fault(&mut self, method: &str) -> Option<MockFault> {
        let at = self.scripts.iter().position(|script| script.method == method)?;
        let script = self.scripts.get_mut(at)?;
        script.times = script.times.saturating_sub(1);
        let fault = script.fault.clone();
        if script.times == 0 {
            self.scripts.remove(at);
        }
        Some(fault)
    }

    /// Runs a tool, unless it asks first. Executions of tools are counted here and nowhere else.
    pub(super) fn execute(&mut self, name: &str, params: &Value) -> Option<ToolAnswer> {
        let tool = self.tools.get_mut(name)?;
        if let Some(question) = before_running(&tool.rounds, params) {
            return Some(question);
        }
        let none = Value::Object(serde_json::Map::new());
        let arguments = params.get("arguments").unwrap_or(&none);
        let answer = (tool.run)(arguments);
        *self.executions.entry(name.to_owned()).or_default() += 1;
        if let Some(key) = arguments.get("call").and_then(Value::as_str) {
            *self.executions_by_key.entry(key.to_owned()).or_default() += 1;
        }
        Some(answer)
    }

    /// Answers a registered method and counts that under the method's name.
    pub(super) fn answer(&mut self, method: &str, params: &Value) -> Option<ToolAnswer> {
        let answer = (self.methods.get_mut(method)?)(params);
        *self.executions.entry(method.to_owned()).or_default() += 1;
        Some(answer)
    }

    pub(super) fn open_session(&mut self) -> String {
        self.sessions_opened += 1;
        let id = format!("session-{}", self.sessions_opened);
        self.sessions.insert(id.clone());
        id
    }
}
