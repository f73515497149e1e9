//! Owns the MCP server of a load: fast, of the current generation, counting the executions of every call.
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
struct Params {
    #[serde(default)]
    name: String,
    #[serde(default)]
    arguments: Arguments,
}

#[derive(Default, Deserialize)]
struct Arguments {
    #[serde(default)]
    call: String,
    #[serde(default)]
    ms: u64,
    #[serde(default)]
    bytes: usize,
    #[serde(default)]
    text: String,
}

async fn answer(State(counts): State<Counts>, body: Bytes) -> Response {
    let Ok(message) = serde_json::from_slice::<Message<'_>>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(id) = message.id else { return StatusCode::ACCEPTED.into_response() };
    let result = match message.method.as_str() {
        "server/discover" => DISCOVERED.to_owned(),
        "tools/call" => run(&counts, message.params).await,
        _ => {
            let text = format!(
                r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"Method not found"}}}}"#
            );
            return (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "application/json")], text)
                .into_response();
        }
    };
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

const DISCOVERED: &str = r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":{"name":"load","version":"1"},"ttlMs":3600000,"cacheScope":"public"}"#;

async fn run(counts: &Counts, params: Params) -> String {
    let Params { name, arguments } = params;
    *counts.lock().unwrap_or_else(PoisonError::into_inner).entry(arguments.call).or_default() += 1;
    let failed = name == "failing";
    let text = match name.as_str() {
        "slow" => {
            tokio::time::sleep(Duration::from_millis(arguments.ms)).await;
            "waited".to_owned()
        }
        "large" => "the quick brown fox jumps over the lazy dog ".repeat(arguments.bytes / 44 + 1),
        _ => arguments.text,
    };
    serde_json::json!({
        "resultType": "complete",
        "content": [{"type": "text", "text": text}],
        "isError": failed,
    })
    .to_string()
}
