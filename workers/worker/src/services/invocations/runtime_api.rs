//! A client of Lambda's runtime API: the next invocation, its response, its error.
//!
//! The form: AWS Lambda developer guide, "Using the Lambda runtime API for custom runtimes". Why not `lambda_runtime`: decision 0033.

use reqwest::{Client, RequestBuilder, Response};
use serde::Serialize;
use serde_json::json;
use toolfleet_core::time::Timestamp;

/// The version of the API, as its paths name it.
const VERSION: &str = "2018-06-01";

/// The API does not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("Lambda's runtime API: {0}")]
pub struct RuntimeApiError(String);

/// An invocation.
#[derive(Debug)]
pub struct Invoked {
    /// Its id.
    pub id: String,
    /// When Lambda gives it up.
    pub deadline: Timestamp,
    /// The event.
    pub event: Vec<u8>,
}

/// The runtime API of this execution environment.
#[derive(Debug, Clone)]
pub struct RuntimeApi {
    base: String,
    client: Client,
}

impl RuntimeApi {
    /// The API at that host and port (`AWS_LAMBDA_RUNTIME_API`).
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn at(address: &str) -> Result<Self, RuntimeApiError> {
        // It is on the environment's own link: no proxy, and no time-out, because the next invocation may come in days.
        let client = Client::builder().no_proxy().http1_only().build();
        let client = client.map_err(|error| RuntimeApiError(error.to_string()))?;
        Ok(Self { base: format!("http://{address}/{VERSION}/runtime"), client })
    }

    /// Waits for the next invocation. Between two, Lambda may freeze the environment.
    ///
    /// # Errors
    /// The API does not answer, or not with an invocation.
    pub async fn next(&self) -> Result<Invoked, RuntimeApiError> {
        let response = sent(self.client.get(format!("{}/invocation/next", self.base))).await?;
        let id = header(&response, "lambda-runtime-aws-request-id")?.to_owned();
        let deadline = header(&response, "lambda-runtime-deadline-ms")?;
        let deadline = deadline.parse().map(Timestamp::from_ms);
        let deadline =
            deadline.map_err(|_| RuntimeApiError("lambda-runtime-deadline-ms is no number".to_owned()))?;
        let event = response.bytes().await.map_err(|error| RuntimeApiError(text_of(&error)))?;
        Ok(Invoked { id, deadline, event: event.into() })
    }

    /// Answers an invocation.
    ///
    /// # Errors
    /// The API does not take it.
    pub async fn respond(&self, id: &str, response: &impl Serialize) -> Result<(), RuntimeApiError> {
        let request = self.client.post(format!("{}/invocation/{id}/response", self.base));
        sent(request.json(response)).await.map(drop)
    }

    /// Lets an invocation fail: all its messages stay in their queue.
    ///
    /// # Errors
    /// The API does not take it.
    pub async fn fail(&self, id: &str, kind: &str, message: &str) -> Result<(), RuntimeApiError> {
        self.error(&format!("invocation/{id}/error"), kind, message).await
    }

    /// Says that the worker cannot start.
    ///
    /// # Errors
    /// The API does not take it.
    pub async fn fail_start(&self, message: &str) -> Result<(), RuntimeApiError> {
        self.error("init/error", "Toolfleet.StartFailed", message).await
    }

    async fn error(&self, path: &str, kind: &str, message: &str) -> Result<(), RuntimeApiError> {
        let request = self.client.post(format!("{}/{path}", self.base));
        let request = request.header("lambda-runtime-function-error-type", kind);
        sent(request.json(&json!({"errorMessage": message, "errorType": kind, "stackTrace": []})))
            .await
            .map(drop)
    }
}

async fn sent(request: RequestBuilder) -> Result<Response, RuntimeApiError> {
    let response = request.send().await.map_err(|error| RuntimeApiError(text_of(&error)))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    Err(RuntimeApiError(format!("{status}: {}", body.chars().take(300).collect::<String>())))
}

fn header<'a>(response: &'a Response, name: &str) -> Result<&'a str, RuntimeApiError> {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.ok_or_else(|| RuntimeApiError(format!("an invocation without the header {name}")))
}

/// An error with its causes: reqwest's own text names only the address.
fn text_of(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
