//! Event streams as clients read them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::rig::{Http, Served};

/// The messages of an event stream.
pub(crate) struct Events {
    response: reqwest::Response,
    text: String,
    pub(crate) last_id: Option<String>,
}

impl Events {
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        Self { response, text: String::new(), last_id: None }
    }

    /// The next message; events without one only carry an id.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            if let Some(message) = self.event().await {
                return message;
            }
        }
    }

    /// Reads until an event came that only carries another id.
    pub(crate) async fn has_another_id(&mut self) {
        let before = self.last_id.clone();
        while self.last_id == before {
            assert_eq!(self.event().await, None);
        }
    }

    /// The message of the next event, if it has one.
    async fn event(&mut self) -> Option<Value> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                self.last_id = field("id:").map(str::to_owned).or(self.last_id.take());
                let message = field("data:").and_then(|data| serde_json::from_str(data).ok());
                self.text = rest.to_owned();
                return message;
            }
            let chunk = tokio::time::timeout(Duration::from_secs(40), self.response.chunk()).await;
            let chunk = chunk.unwrap().unwrap().unwrap();
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Waits until the stream has ended.
    pub(crate) async fn end(&mut self) {
        let mut ends = async || while self.response.chunk().await.unwrap().is_some() {};
        tokio::time::timeout(Duration::from_secs(40), ends()).await.unwrap();
    }

    pub(crate) async fn is_told_of(&mut self, uri: &str) -> Value {
        let message = self.next().await;
        assert_eq!(
            (&message["method"], &message["params"]["uri"]),
            (&json!("notifications/resources/updated"), &json!(uri))
        );
        message
    }
}

pub(crate) async fn listen(served: &Served, uris: Value) -> Events {
    listen_to(&Http::modern(served), json!({"resourceSubscriptions": uris})).await
}

/// A stream of that filter.
pub(crate) async fn listen_to(http: &Http, notifications: Value) -> Events {
    let params = json!({"notifications": notifications});
    Events::of(http.post(&http.message("subscriptions/listen", params))).await
}

/// The stream of a session.
pub(crate) async fn stream_of(served: &Served, session: &str, last_id: Option<&str>) -> Events {
    Events::of(stream_request(served, session, last_id)).await
}

pub(crate) fn stream_request(
    served: &Served,
    session: &str,
    last_id: Option<&str>,
) -> reqwest::RequestBuilder {
    let request = reqwest::Client::new()
        .get(&served.url)
        .header("accept", "text/event-stream")
        .header("mcp-session-id", session);
    match last_id {
        Some(last_id) => request.header("last-event-id", last_id),
        None => request,
    }
}

pub(crate) fn of_session(served: &Served, session: &str) -> Http {
    Http::of(served, "2025-11-25").with("mcp-session-id", session)
}
