//! The event stream of a call that waits and whose client asked for progress: a notification each second, then the result.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::Serialize;
use serde_json::{Value, json};
use toolfleet_mcp_protocol::{Request, meta_key, method};

const STEP: Duration = Duration::from_secs(1);

/// Answers with an event stream that lasts as long as the wait.
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
                meta_key::PROGRESS_TOKEN: token, "progress": waited.as_secs_f64(), "total": total, "message": "seconds waited",
            });
            let notification = Request::notification(method::PROGRESS, Some(params));
            Some((event(&notification), Some(waited)))
        }
    });
    ([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}

fn event(message: &impl Serialize) -> Result<Bytes, Infallible> {
    // Our own values have no maps with keys that are not strings, so serialising them cannot fail.
    let message = serde_json::to_string(message).unwrap_or_default();
    Ok(format!("event: message\ndata: {message}\n\n").into())
}
