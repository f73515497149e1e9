//! Requests, answers and errors of the S3 endpoint.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Method, StatusCode};
use bytes::Bytes;

/// A request, its path and query decoded.
pub(super) struct Asked<'a> {
    pub(super) method: &'a Method,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) query: BTreeMap<String, String>,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: Bytes,
}

impl Asked<'_> {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(super) fn asks(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

/// What a request is answered by.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn new(status: StatusCode) -> Self {
        Self { status, ..Self::default() }
    }

    pub(super) fn xml(text: String) -> Self {
        let headers = vec![("content-type".to_owned(), "application/xml".to_owned())];
        let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{text}");
        Self { status: StatusCode::OK, headers, body: body.into() }
    }

    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// A refusal as S3 words it.
#[derive(Debug)]
pub(super) struct S3Error {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl S3Error {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn no_bucket(bucket: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "NoSuchBucket",
            format!("The specified bucket does not exist: {bucket}"),
        )
    }

    pub(super) fn no_key() -> Self {
        Self::new(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.")
    }

    pub(super) fn not_served(what: &str) -> Self {
        let message = format!("{what} is not served by the local endpoints");
        Self::new(StatusCode::NOT_IMPLEMENTED, "NotImplemented", message)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes the error by value")]
pub(super) fn not_written(error: std::io::Error) -> S3Error {
    S3Error::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string())
}
