//! Owns the demo's answer to a call that waits and is asked how far it is: a notification each second, then the result.
//!
//! **Invariant:** the result is the last event of its stream.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde_json::{Value, json};

const STEP: Duration = Duration::from_secs(1);

/// An event stream that lasts as long as the wait.
pub(super) fn while_waiting(wait: Duration, token: Value, answer: Value) -> Response {
    let total = wait.as_secs_f64();
    let events = stream::unfold(Some(Duration::ZERO), move |waited| {
        let (token, answer) = (token.clone(), answer.clone());
        async move {
            let waited = waited?;
            let step = wait.saturating_sub(waited).min(STEP);
            tokio::time::sleep(step).await;
            let waited = waited.saturating_add(step);
            if waited >= wait {
                return Some((event(&answer), None));
            }
            let params = json!({
                "progressToken": token, "progress": waited.as_secs_f64(), "total": total, "message": "seconds waited",
            });
            let told = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
            Some((event(&told), Some(waited)))
        }
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

fn event(message: &Value) -> Result<Bytes, Infallible> {
    Ok(format!("event: message\ndata: {message}\n\n").into())
}
