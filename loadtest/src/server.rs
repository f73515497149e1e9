//! Owns the MCP server of the load: answers at once, remembers nothing but how often each call was executed.
//!
//! **Invariant:** an execution is counted before it is answered, so a lost answer cannot hide it.

use std::collections::HashMap;
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

use crate::payload;
use crate::plan::Tool;

type Counts = Arc<Mutex<HashMap<String, u32>>>;

/// The server, which runs until the program ends.
pub(crate) struct LoadServer {
    counts: Counts,
    pub(crate) url: String,
}

impl LoadServer {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("no free port for the MCP server of the load")?;
        let url = format!("http://{}/mcp", listener.local_addr()?);
        let counts = Counts::default();
        let app = Router::new().route("/mcp", post(answer)).with_state(counts.clone());
        let listener = listener.tap_io(|stream| {
            // Without it every answer on a pooled connection would take 40 ms; if it fails, figures are merely worse.
            let _slower = stream.set_nodelay(true);
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(Self { counts, url })
    }

    /// How often each call was executed.
    pub(crate) fn executions(&self) -> HashMap<String, u32> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

async fn answer(State(counts): State<Counts>, body: Bytes) -> Response {
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
            Some(tool) => run(&counts, tool, message.params.arguments).await,
            None => return (JSON, error(-32602, "Unknown tool")).into_response(),
        },
        _ => return (StatusCode::NOT_FOUND, JSON, error(-32601, "Method not found")).into_response(),
    };
    (JSON, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)).into_response()
}

async fn run(counts: &Counts, tool: Tool, arguments: payload::Arguments) -> String {
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(arguments.call.clone()).or_default() += 1;
    if tool == Tool::Slow {
        tokio::time::sleep(Duration::from_millis(arguments.ms)).await;
    }
    serde_json::json!({
        "resultType": "complete",
        "content": [{"type": "text", "text": payload::answer(tool, &arguments)}],
        "isError": tool == Tool::Failing,
    })
    .to_string()
}
