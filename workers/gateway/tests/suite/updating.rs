//! An MCP server that tells of updates: of 2026-07-28 on the response to `subscriptions/listen`, of 2025-11-25 on the stream of a session.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, broadcast};
use tokio::task::JoinHandle;

/// The one resource that it tells of.
pub(crate) const WATCHED: &str = "note:watched";

#[derive(Clone)]
struct Served {
    is_modern: bool,
    updates: broadcast::Sender<Option<String>>,
    seen: Arc<Mutex<HashMap<String, usize>>>,
    changed: Arc<Notify>,
}

pub(crate) struct Updating {
    pub(crate) url: String,
    served: Served,
    serving: JoinHandle<()>,
}

impl Drop for Updating {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Served {
    fn count(&self, what: &str) {
        *self.seen.lock().unwrap().entry(what.to_owned()).or_default() += 1;
        self.changed.notify_waiters();
    }
}

/// Counts the end of a stream.
struct Ends(Served);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.count("end of a stream");
    }
}

impl Updating {
    pub(crate) async fn start(is_modern: bool) -> Self {
        let served = Served {
            is_modern,
            updates: broadcast::channel(100).0,
            seen: Arc::default(),
            changed: Arc::default(),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let router = Router::new().route("/mcp", post(answer).get(open).delete(|| async { StatusCode::OK }));
        let router = router.with_state(served.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, served, serving }
    }

    /// Tells all streams that the resource is another one.
    pub(crate) fn update(&self, uri: &str) {
        let _nobody = self.served.updates.send(Some(uri.to_owned()));
    }

    /// Ends all streams.
    pub(crate) fn cut(&self) {
        let _nobody = self.served.updates.send(None);
    }

    /// Waits until that has happened so often.
    pub(crate) async fn saw(&self, what: &str, count: usize) {
        loop {
            let changed = self.served.changed.notified();
            if self.seen(what) >= count {
                return;
            }
            let _again = tokio::time::timeout(std::time::Duration::from_millis(50), changed).await;
        }
    }

    pub(crate) fn seen(&self, what: &str) -> usize {
        self.served.seen.lock().unwrap().get(what).copied().unwrap_or(0)
    }
}

fn events(served: &Served, first: Option<Value>) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
    let ends = Ends(served.clone());
    let updates = stream::unfold(served.updates.subscribe(), |mut updates| async move {
        let uri = updates.recv().await.ok()??;
        let message =
            json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}});
        Some((message, updates))
    });
    stream::iter(first).chain(updates).map(move |message| {
        let _until_the_end = &ends;
        Ok(Event::default().data(message.to_string()))
    })
}

async fn open(State(served): State<Served>) -> Response {
    served.count("GET");
    Sse::new(events(&served, None)).into_response()
}

async fn answer(State(served): State<Served>, body: Bytes) -> Response {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let method = message["method"].as_str().unwrap().to_owned();
    served.count(&method);
    if message.get("id").is_none() {
        return StatusCode::ACCEPTED.into_response();
    }
    let result = |result: Value| Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result}));
    let uri = message["params"]["uri"].as_str().unwrap_or_default();
    match (method.as_str(), served.is_modern) {
        ("server/discover", true) => result(json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {}, "ttlMs": 0, "cacheScope": "private"})).into_response(),
        ("initialize", false) => {
            let opened = result(json!({"protocolVersion": "2025-11-25", "capabilities": {"resources": {"subscribe": true}}, "serverInfo": {"name": "u", "version": "1"}}));
            ([("mcp-session-id", uuid::Uuid::new_v4().to_string())], opened).into_response()
        }
        ("subscriptions/listen", true) => {
            let asked = message["params"]["notifications"]["resourceSubscriptions"].as_array().unwrap().clone();
            let accepted: Vec<Value> = asked.into_iter().filter(|uri| uri == WATCHED).collect();
            let params = json!({"notifications": {"resourceSubscriptions": accepted}, "_meta": {"io.modelcontextprotocol/subscriptionId": message["id"]}});
            let first = json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params});
            Sse::new(events(&served, Some(first))).into_response()
        }
        ("resources/subscribe" | "resources/unsubscribe", false) if uri == WATCHED => result(json!({})).into_response(),
        ("resources/subscribe", false) => Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32602, "message": "nothing to watch"}})).into_response(),
        ("resources/read", _) => result(json!({"resultType": "complete", "contents": [{"uri": uri, "text": "x"}]})).into_response(),
        _ => (StatusCode::NOT_FOUND, Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "Method not found"}}))).into_response(),
    }
}
