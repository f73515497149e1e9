//! The MCP server of the load: counts the executions of each call and measures their time. It can hold all answers until it is released.
//!
//! **Invariant:** an execution is counted before it is answered, so a lost answer does not hide it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use toolfleet_mcp_protocol::{
    DiscoverResult, ErrorObject, ErrorResponse, Implementation, ProtocolVersion, Received,
    ServerCapabilities, cache_scope, error_code, method, result_type,
};

use crate::helper;
use crate::payload;
use crate::tool::Tool;

/// The executions of one call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Executions {
    pub(crate) times: u32,
    /// The total time.
    pub(crate) took: Duration,
    /// Whether it was refused once.
    refused: bool,
}

/// The state of the server.
struct State {
    executions: Mutex<HashMap<String, Executions>>,
    /// Executions that have not been answered.
    in_flight: AtomicU32,
    released: watch::Sender<bool>,
}

/// The server. It runs until the program ends.
pub(crate) struct LoadServer {
    state: Arc<State>,
    pub(crate) url: String,
}

impl LoadServer {
    /// Starts it; unless `released`, it answers no call before [`LoadServer::release`].
    pub(crate) async fn start(released: bool) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("no free port for the MCP server of the load")?;
        let url = format!("http://{}/mcp", listener.local_addr()?);
        let (executions, in_flight) = (Mutex::default(), AtomicU32::new(0));
        let state = Arc::new(State { executions, in_flight, released: watch::Sender::new(released) });
        let app = Router::new().route("/mcp", post(answer)).with_state(state.clone());
        let listener = listener.tap_io(|stream| {
            // Without it every answer on a pooled connection takes 40 ms; if it fails, only the figures are worse.
            let _ignored = stream.set_nodelay(true);
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { state, url })
    }

    /// How often and how long each call was executed.
    pub(crate) fn executions(&self) -> HashMap<String, Executions> {
        self.state.executions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many calls are being executed.
    pub(crate) fn in_flight(&self) -> u32 {
        self.state.in_flight.load(Ordering::Acquire)
    }

    /// Releases the held answers, and holds none from now on.
    pub(crate) fn release(&self) {
        self.state.released.send_replace(true);
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    name: String,
    arguments: payload::Arguments,
}

async fn answer(extract::State(state): extract::State<Arc<State>>, body: Bytes) -> Response {
    let Ok(message) = serde_json::from_slice::<Received<'_, Params>>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(id) = message.id else { return StatusCode::ACCEPTED.into_response() };
    match message.method.as_str() {
        method::DISCOVER => result(id, &discovered()),
        method::TOOLS_CALL => match Tool::named(&message.params.name) {
            Some(tool) => match state.run(tool, message.params.arguments).await {
                Ok(answer) => result(id, &answer),
                Err(refusal) => refusal,
            },
            None => error(StatusCode::OK, id, error_code::INVALID_PARAMS, "Unknown tool"),
        },
        _ => error(StatusCode::NOT_FOUND, id, error_code::METHOD_NOT_FOUND, "Method not found"),
    }
}

const SUPPORTED: [&str; 1] = [ProtocolVersion::MODERN.as_str()];

pub(crate) fn discovered() -> DiscoverResult<'static> {
    DiscoverResult {
        result_type: result_type::COMPLETE,
        supported_versions: &SUPPORTED,
        capabilities: ServerCapabilities::default(),
        server_info: Some(Implementation { name: "load".to_owned(), version: "1".to_owned() }),
        instructions: None,
        ttl_ms: 3_600_000,
        cache_scope: cache_scope::PUBLIC,
    }
}

pub(crate) fn result(id: &RawValue, result: &impl Serialize) -> Response {
    Json(toolfleet_mcp_protocol::Response::new(id, result)).into_response()
}

pub(crate) fn error(status: StatusCode, id: &RawValue, code: i64, message: &str) -> Response {
    (status, Json(ErrorResponse::new(Some(id), ErrorObject::new(code, message)))).into_response()
}

impl State {
    async fn run(&self, tool: Tool, arguments: payload::Arguments) -> Result<Value, Response> {
        let start = Instant::now();
        let times = {
            let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
            let ran = executions.entry(arguments.call.clone()).or_default();
            if tool == Tool::Busy && !ran.refused {
                ran.refused = true;
                return Err((StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response());
            }
            ran.times += 1;
            ran.times
        };
        if tool == Tool::Flaky && times == 1 {
            return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        }
        // It is counted down also if the caller hangs up.
        let _in_flight = InFlight::new(&self.in_flight);
        // The sender lives as long as the server.
        let _closed = self.released.subscribe().wait_for(|released| *released).await.is_err();
        if tool.is_slow() {
            tokio::time::sleep(Duration::from_millis(arguments.ms)).await;
        }
        let result = json!({
            "resultType": result_type::COMPLETE,
            "content": [{"type": "text", "text": payload::answer(tool, &arguments)}],
            "isError": tool == Tool::Failing,
        });
        let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
        executions.entry(arguments.call).or_default().took += start.elapsed();
        Ok(result)
    }
}

/// Serves until stdin closes.
///
/// # Errors
/// There is no free port.
pub async fn serve() -> anyhow::Result<bool> {
    let server = LoadServer::start(true).await?;
    helper::serve_until_stdin_closes(&server.url).await
}

struct InFlight<'a>(&'a AtomicU32);

impl<'a> InFlight<'a> {
    fn new(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
