//! Owns the MCP server of the load: answers at once, remembers nothing but how often and how long each call was executed, and can
//! hold all answers back until it is told to give them.
//!
//! **Invariant:** an execution is counted before it is answered, so a lost answer cannot hide it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::helper;
use crate::payload;
use crate::tool::Tool;

/// The executions of one call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ran {
    pub(crate) times: u32,
    /// All of them together.
    pub(crate) took: Duration,
    /// Whether it was sent away once.
    sent_away: bool,
}

struct Work {
    ran: Mutex<HashMap<String, Ran>>,
    /// Executions that have not been answered.
    in_flight: AtomicU32,
    open: watch::Sender<bool>,
}

/// The server, which runs until the program ends.
pub(crate) struct LoadServer {
    work: Arc<Work>,
    pub(crate) url: String,
}

impl LoadServer {
    /// Starts it; unless `open`, it answers no call before [`LoadServer::open`].
    pub(crate) async fn start(open: bool) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("no free port for the MCP server of the load")?;
        let url = format!("http://{}/mcp", listener.local_addr()?);
        let (ran, in_flight) = (Mutex::default(), AtomicU32::new(0));
        let work = Arc::new(Work { ran, in_flight, open: watch::Sender::new(open) });
        let app = Router::new().route("/mcp", post(answer)).with_state(work.clone());
        let listener = listener.tap_io(|stream| {
            // Without it every answer on a pooled connection would take 40 ms; if it fails, figures are merely worse.
            let _slower = stream.set_nodelay(true);
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { work, url })
    }

    /// How often and how long each call was executed.
    pub(crate) fn executions(&self) -> HashMap<String, Ran> {
        self.work.ran.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many calls are being executed.
    pub(crate) fn in_flight(&self) -> u32 {
        self.work.in_flight.load(Ordering::Acquire)
    }

    /// Answers from now on.
    pub(crate) fn open(&self) {
        self.work.open.send_replace(true);
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: String,
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Params {
    name: String,
    arguments: payload::Arguments,
}

const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

const DISCOVERED: &str = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"load","version":"1"},"ttlMs":3600000,"cacheScope":"public"}"#;

async fn answer(State(work): State<Arc<Work>>, body: Bytes) -> Response {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(id) = message.id else { return StatusCode::ACCEPTED.into_response() };
    let error = |code: i32, what: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{what}"}}}}"#)
    };
    let result = match message.method.as_str() {
        "server/discover" => DISCOVERED.to_owned(),
        "tools/call" => match Tool::named(&message.params.name) {
            Some(tool) => match work.run(tool, message.params.arguments).await {
                Ok(result) => result,
                Err(refusal) => return refusal,
            },
            None => return (JSON, error(-32602, "Unknown tool")).into_response(),
        },
        _ => return (StatusCode::NOT_FOUND, JSON, error(-32601, "Method not found")).into_response(),
    };
    (JSON, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)).into_response()
}

impl Work {
    async fn run(&self, tool: Tool, arguments: payload::Arguments) -> Result<String, Response> {
        let begun = Instant::now();
        let times = {
            let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
            let ran = ran.entry(arguments.call.clone()).or_default();
            if tool == Tool::Busy && !ran.sent_away {
                ran.sent_away = true;
                return Err((StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response());
            }
            ran.times += 1;
            ran.times
        };
        if tool == Tool::Flaky && times == 1 {
            return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        }
        // Counted down also when its caller goes away.
        let _in_flight = InFlight::new(&self.in_flight);
        // The sender lives as long as the server.
        let _closed = self.open.subscribe().wait_for(|open| *open).await.is_err();
        if tool.is_slow() {
            tokio::time::sleep(Duration::from_millis(arguments.ms)).await;
        }
        let result = serde_json::json!({
            "resultType": "complete",
            "content": [{"type": "text", "text": payload::answer(tool, &arguments)}],
            "isError": tool == Tool::Failing,
        });
        let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
        ran.entry(arguments.call).or_default().took += begun.elapsed();
        Ok(result.to_string())
    }
}

/// Serves until stdin closes.
///
/// # Errors
/// There is no free port.
pub async fn serve() -> anyhow::Result<bool> {
    let server = LoadServer::start(true).await?;
    helper::serving(&server.url).await
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
