//! An endpoint of AWS that fails as long as a test wants: what it is asked meanwhile never reaches the embedded one behind it.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A status and a body.
pub(crate) type Failure = (StatusCode, &'static str);

pub(crate) const THROTTLED: Failure = (
    StatusCode::BAD_REQUEST,
    r#"{"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "slow down"}"#,
);
pub(crate) const NO_SUCH_KEY: Failure = (
    StatusCode::NOT_FOUND,
    r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code><Message>gone</Message></Error>"#,
);

pub(crate) struct Failing {
    pub(crate) url: String,
    failure: watch::Sender<Option<Failure>>,
    count: watch::Sender<u64>,
    serving: JoinHandle<()>,
}

impl Drop for Failing {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Failing {
    pub(crate) async fn before(endpoint: &str) -> Self {
        let (failure, count) = (watch::Sender::new(None), watch::Sender::new(0));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new((failure.clone(), count.clone(), endpoint.to_owned(), reqwest::Client::new()));
        let router = Router::new().fallback(move |request: Request| {
            let state = Arc::clone(&state);
            async move {
                let (failure, count, endpoint, client) = &*state;
                let failure: Option<Failure> = *failure.borrow();
                match failure {
                    Some(failure) => {
                        count.send_modify(|count| *count += 1);
                        failure.into_response()
                    }
                    None => passed_on(client, endpoint, request).await,
                }
            }
        });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, failure, count, serving }
    }

    /// From now on.
    pub(crate) fn fails(&self, failure: Option<Failure>) {
        self.failure.send_replace(failure);
    }

    /// How often it has failed.
    pub(crate) fn count(&self) -> u64 {
        *self.count.borrow()
    }

    /// Waits until it has failed so often.
    pub(crate) async fn has_failed(&self, times: u64) {
        self.count.subscribe().wait_for(|count| *count >= times).await.unwrap();
    }
}

async fn passed_on(client: &reqwest::Client, endpoint: &str, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    parts.headers.remove(header::HOST);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let sent = client.request(parts.method, format!("{endpoint}{path}")).headers(parts.headers).body(body);
    let answer = sent.send().await.unwrap();
    let (status, headers) = (answer.status(), answer.headers().clone());
    let mut response = Response::new(Body::from(answer.bytes().await.unwrap()));
    (*response.status_mut(), *response.headers_mut()) = (status, headers);
    response
}
