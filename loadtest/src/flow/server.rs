//! The MCP server of flow scenarios: many servers at one port, told apart by their path. It records when each request came and ended.
//!
//! A request goes on when its caller hangs up, as on a real server: a killed worker does not stop what it started.
//!
//! **Invariant:** a request is recorded before it is answered.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;
use toolfleet_mcp_protocol::{Received, error_code, method, result_type};

use crate::server::{discovered, error, result};

/// One request at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Execution {
    /// The call's id.
    pub(crate) call: String,
    /// The server.
    pub(crate) server: String,
    /// When it came, in microseconds since the server's start.
    pub(crate) at_us: u64,
    /// When the server was done with it.
    pub(crate) end_us: Option<u64>,
    /// Whether its caller hung up before the answer.
    pub(crate) abandoned: bool,
}

impl Execution {
    /// From its beginning to its end; one that has not ended is open until `now_us`.
    pub(crate) fn span(&self, now_us: u64) -> (u64, u64) {
        (self.at_us, self.end_us.unwrap_or(now_us))
    }
}

struct Recorder {
    start: Instant,
    executions: Mutex<Vec<Execution>>,
    /// Servers that accept connections and answer nothing.
    silent: HashSet<String>,
}

/// The servers. They run until the program ends.
pub(crate) struct FlowServer {
    recorder: Arc<Recorder>,
    /// Such as `http://127.0.0.1:4000`.
    address: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    arguments: Arguments,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Arguments {
    call: String,
    ms: u64,
}

impl FlowServer {
    /// Starts the servers. Those named in `silent` never answer.
    pub(crate) async fn start(silent: &[&str]) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("no free port for the MCP servers of the load")?;
        let address = format!("http://{}", listener.local_addr()?);
        let silent = silent.iter().map(|name| (*name).to_owned()).collect();
        let recorder = Arc::new(Recorder { start: Instant::now(), executions: Mutex::default(), silent });
        let app = Router::new().route("/{server}/mcp", post(answer)).with_state(recorder.clone());
        let listener = listener.tap_io(|stream| {
            // Without it answers on pooled connections take 40 ms; if it fails, only the figures are worse.
            let _ignored = stream.set_nodelay(true);
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { recorder, address })
    }

    /// The URL of the server with that name.
    pub(crate) fn url(&self, server: &str) -> String {
        format!("{}/{server}/mcp", self.address)
    }

    /// The time on this server's clock, in microseconds.
    pub(crate) fn now_us(&self) -> u64 {
        self.recorder.now_us()
    }

    /// The moment when its clock was 0.
    pub(crate) fn start_of_clock(&self) -> Instant {
        self.recorder.start
    }

    /// All requests so far, in the order in which they came.
    pub(crate) fn executions(&self) -> Vec<Execution> {
        self.recorder.executions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Recorder {
    fn now_us(&self) -> u64 {
        micros(self.start.elapsed())
    }

    fn begin(&self, server: String, call: String) -> usize {
        let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
        // The time is taken with the lock held, so that the list is sorted.
        let at_us = self.now_us();
        executions.push(Execution { call, server, at_us, end_us: None, abandoned: false });
        executions.len() - 1
    }

    fn change(&self, position: usize, change: impl FnOnce(&mut Execution)) {
        let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(execution) = executions.get_mut(position) {
            change(execution);
        }
    }
}

/// Marks an execution as abandoned when it is dropped before the work was done.
struct Caller<'a> {
    recorder: &'a Recorder,
    position: usize,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.recorder.change(self.position, |execution| execution.abandoned = execution.end_us.is_none());
    }
}

async fn answer(State(recorder): State<Arc<Recorder>>, Path(server): Path<String>, body: Bytes) -> Response {
    let Ok(message) = serde_json::from_slice::<Received<'_, Params>>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let silent = recorder.silent.contains(&server);
    let Some(id) = message.id else { return StatusCode::ACCEPTED.into_response() };
    match message.method.as_str() {
        method::DISCOVER if !silent => result(id, &discovered()),
        method::TOOLS_CALL => {
            let Arguments { call, ms } = message.params.arguments;
            let text = format!("{call} done");
            let position = recorder.begin(server, call);
            if silent {
                std::future::pending::<()>().await;
            }
            let caller = Caller { recorder: &recorder, position };
            let recording = recorder.clone();
            let work = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                let end_us = recording.now_us();
                recording.change(position, |execution| execution.end_us = Some(end_us));
            });
            // It is neither aborted nor does it panic.
            let _ended = work.await;
            drop(caller);
            result(
                id,
                &json!({"resultType": result_type::COMPLETE, "content": [{"type": "text", "text": text}]}),
            )
        }
        _ if silent => std::future::pending().await,
        _ => error(StatusCode::NOT_FOUND, id, error_code::METHOD_NOT_FOUND, "Method not found"),
    }
}

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
