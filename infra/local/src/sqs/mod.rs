//! The SQS endpoint: the JSON 1.0 protocol of standard and FIFO queues.
//!
//! `engine` decides what happens to a message; `operations` reads requests and writes answers.

pub(crate) mod engine;
pub(crate) mod error;
mod md5;
mod operations;
pub(crate) mod service;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use error::SqsError;
use service::SqsService;

/// The answer to one request. `caller` is the access key id it was signed with.
pub(crate) async fn answer(
    service: &Arc<SqsService>,
    operation: &str,
    body: &Bytes,
    caller: &str,
) -> Result<Value, SqsError> {
    operations::dispatch(service, operation, body, caller).await
}
