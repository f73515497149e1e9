//! Owns the names of the operations and what they share: reading a request and the rules of a batch.
//!
//! **Invariant:** an operation that is not there says so; none pretends to have done something.

mod deliver;
mod moves;
mod queues;
mod send;

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::SqsError;
use super::service::SqsService;
use crate::names::queue_name_of_url;

pub(super) async fn dispatch(
    service: &Arc<SqsService>,
    operation: &str,
    body: &Bytes,
    caller: &str,
) -> Result<Value, SqsError> {
    match operation {
        "SendMessage" => send::one(service, &read(body)?, caller),
        "SendMessageBatch" => send::batch(service, read(body)?, caller),
        "ReceiveMessage" => deliver::receive(service, read(body)?).await,
        "DeleteMessage" => deliver::delete(service, &read(body)?),
        "DeleteMessageBatch" => deliver::delete_batch(service, read(body)?),
        "ChangeMessageVisibility" => deliver::change_visibility(service, &read(body)?),
        "ChangeMessageVisibilityBatch" => deliver::change_visibility_batch(service, read(body)?),
        "CreateQueue" => queues::create(service, read(body)?),
        "GetQueueUrl" => queues::url(service, &read(body)?),
        "ListQueues" => queues::list(service, &read(body)?),
        "GetQueueAttributes" => queues::attributes(service, &read(body)?),
        "SetQueueAttributes" => queues::set_attributes(service, read(body)?),
        "PurgeQueue" => queues::purge(service, &read(body)?),
        "DeleteQueue" => queues::delete(service, &read(body)?),
        "ListDeadLetterSourceQueues" => queues::dead_letter_sources(service, &read(body)?),
        "TagQueue" => queues::tag(service, read(body)?),
        "UntagQueue" => queues::untag(service, read(body)?),
        "ListQueueTags" => queues::tags(service, &read(body)?),
        "StartMessageMoveTask" => moves::start(service, read(body)?),
        "ListMessageMoveTasks" => moves::list(service, &read(body)?),
        "CancelMessageMoveTask" => moves::cancel(service, &read(body)?),
        "AddPermission" | "RemovePermission" => {
            let problem = format!("The local endpoints do not offer {operation}.");
            Err(SqsError::Unsupported(problem))
        }
        _ => Err(SqsError::UnknownOperation(operation.to_owned())),
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, SqsError> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(text).map_err(|error| SqsError::Serialization(error.to_string()))
}

fn queue_name(url: &str) -> Result<&str, SqsError> {
    match queue_name_of_url(url) {
        "" => Err(SqsError::MissingParameter("QueueUrl")),
        name => Ok(name),
    }
}

/// A number within its limits, given or not.
fn within(name: &str, value: Option<i64>, least: u64, most: u64) -> Result<Option<u64>, SqsError> {
    match value.map(|number| (number, u64::try_from(number))) {
        None => Ok(None),
        Some((_, Ok(number))) if (least..=most).contains(&number) => Ok(Some(number)),
        Some((number, _)) => {
            let reason = format!("Must be between {least} and {most}, if provided.");
            let problem = format!("Value {number} for parameter {name} is invalid. Reason: {reason}");
            Err(SqsError::InvalidParameterValue(problem))
        }
    }
}

/// Checks what holds for every batch: 1 to 10 entries, with ids that are well formed and distinct.
fn check_batch<'a>(ids: impl Iterator<Item = &'a str>, entry_kind: &'static str) -> Result<(), SqsError> {
    let ids: Vec<_> = ids.collect();
    if ids.is_empty() {
        return Err(SqsError::EmptyBatchRequest(entry_kind));
    }
    if ids.len() > 10 {
        return Err(SqsError::TooManyEntries(ids.len()));
    }
    let mut seen = HashSet::new();
    for id in ids {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if id.is_empty() || id.len() > 80 || !id.chars().all(allowed) {
            return Err(SqsError::InvalidBatchEntryId);
        }
        if !seen.insert(id) {
            return Err(SqsError::BatchEntryIdsNotDistinct(id.to_owned()));
        }
    }
    Ok(())
}

/// The answer to a batch: each entry's own result, in an HTTP 200.
#[derive(Default)]
struct BatchAnswer {
    successful: Vec<Value>,
    failed: Vec<Value>,
}

impl BatchAnswer {
    fn add(&mut self, id: &str, result: Result<Value, SqsError>) {
        match result {
            Ok(mut entry) => {
                if let Some(entry) = entry.as_object_mut() {
                    entry.insert("Id".to_owned(), id.into());
                }
                self.successful.push(entry);
            }
            Err(error) => self.failed.push(json!({
                "Id": id,
                "Code": error.query_code(),
                "Message": error.to_string(),
                "SenderFault": error.is_senders_fault(),
            })),
        }
    }

    fn into_value(self) -> Value {
        json!({ "Successful": self.successful, "Failed": self.failed })
    }
}
