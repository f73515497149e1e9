//! The operations of receivers: `ReceiveMessage`, `DeleteMessage`, `ChangeMessageVisibility` and their batches.
//!
//! **Invariant:** an answer has the requested attributes only, and the digest of exactly these.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::request::{BatchAnswer, check_batch, queue_name, within};
use crate::sqs::engine::Delivery;
use crate::sqs::error::SqsError;
use crate::sqs::md5;
use crate::sqs::service::{Ask, SqsService};

/// The longest visibility timeout, in seconds (SQS quota).
const MAX_VISIBILITY_SECONDS: u64 = 43_200;

const SYSTEM_ATTRIBUTES: [&str; 10] = [
    "All",
    "AWSTraceHeader",
    "ApproximateFirstReceiveTimestamp",
    "ApproximateReceiveCount",
    "DeadLetterQueueSourceArn",
    "MessageDeduplicationId",
    "MessageGroupId",
    "SenderId",
    "SentTimestamp",
    "SequenceNumber",
];

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ReceiveRequest {
    #[serde(default)]
    queue_url: String,
    #[serde(default)]
    attribute_names: Vec<String>,
    #[serde(default)]
    message_system_attribute_names: Vec<String>,
    #[serde(default)]
    message_attribute_names: Vec<String>,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
}

pub(super) async fn receive(service: &Arc<SqsService>, request: ReceiveRequest) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    let max = within("MaxNumberOfMessages", request.max_number_of_messages, 1, 10)?.unwrap_or(1);
    let visibility = within("VisibilityTimeout", request.visibility_timeout, 0, MAX_VISIBILITY_SECONDS)?;
    let asked = || request.attribute_names.iter().chain(&request.message_system_attribute_names);
    if let Some(unknown) = asked().find(|attribute| !SYSTEM_ATTRIBUTES.contains(&attribute.as_str())) {
        return Err(SqsError::InvalidAttributeName(unknown.clone()));
    }
    let ask = Ask {
        max: usize::try_from(max).unwrap_or(10),
        visibility_ms: visibility.map(|seconds| seconds * 1000),
        wait_seconds: within("WaitTimeSeconds", request.wait_time_seconds, 0, 20)?,
    };
    let deliveries = service.receive(name, ask).await?;
    if deliveries.is_empty() {
        return Ok(json!({}));
    }
    let wants = |attribute: &str| asked().any(|name| name == "All" || name == attribute);
    let shown = |delivery| message(delivery, &wants, &request.message_attribute_names);
    Ok(json!({ "Messages": deliveries.iter().map(shown).collect::<Vec<_>>() }))
}

fn message(delivery: &Delivery, wants: &dyn Fn(&str) -> bool, wanted_attributes: &[String]) -> Value {
    let content = &delivery.message.content;
    let mut shown = Map::new();
    let mut add = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    add("MessageId", content.message_id.as_str().into());
    add("ReceiptHandle", delivery.handle.as_str().into());
    add("MD5OfBody", content.body_md5.as_str().into());
    add("Body", content.body.as_str().into());
    let system = system_attributes(delivery, wants);
    if !system.is_empty() {
        add("Attributes", Value::Object(system));
    }
    let selected = |(name, _): &(&String, &_)| wanted_attributes.iter().any(|pattern| selects(pattern, name));
    let attributes: BTreeMap<_, _> = content.attributes.iter().filter(selected).collect();
    if let Some(digest) = md5::of_attributes(attributes.iter().map(|(name, value)| (*name, *value))) {
        add("MD5OfMessageAttributes", digest.into());
        add("MessageAttributes", json!(attributes));
    }
    Value::Object(shown)
}

/// `All`, `.*`, a name, or a prefix followed by `.*`.
fn selects(pattern: &str, name: &str) -> bool {
    match pattern {
        "All" | ".*" => true,
        _ => pattern.strip_suffix(".*").map_or(pattern == name, |prefix| name.starts_with(prefix)),
    }
}

fn system_attributes(delivery: &Delivery, wants: &dyn Fn(&str) -> bool) -> Map<String, Value> {
    let message = &delivery.message;
    let facts = [
        ("SenderId", Some(message.content.sender_id.clone())),
        ("SentTimestamp", Some(message.sent_ms.to_string())),
        ("ApproximateReceiveCount", Some(message.receive_count.to_string())),
        ("ApproximateFirstReceiveTimestamp", message.first_received_ms.map(|at_ms| at_ms.to_string())),
        ("AWSTraceHeader", message.content.trace_header.clone()),
        ("MessageGroupId", message.content.group_id.clone()),
        ("MessageDeduplicationId", message.content.deduplication_id.clone()),
        ("SequenceNumber", delivery.sequence_number.clone()),
        ("DeadLetterQueueSourceArn", message.dead_letter_of.clone()),
    ];
    let present = facts.into_iter().filter_map(|(name, value)| Some((name, value?)));
    present.filter(|(name, _)| wants(name)).map(|(name, value)| (name.to_owned(), value.into())).collect()
}

#[derive(Deserialize)]
pub(super) struct HandleRequest {
    #[serde(rename = "QueueUrl", default)]
    queue_url: String,
    #[serde(flatten)]
    entry: HandleEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HandleBatch {
    #[serde(default)]
    queue_url: String,
    #[serde(default)]
    entries: Vec<HandleEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HandleEntry {
    #[serde(default)]
    id: String,
    #[serde(default)]
    receipt_handle: String,
    visibility_timeout: Option<i64>,
}

impl HandleEntry {
    fn handle(&self) -> Result<&str, SqsError> {
        match self.receipt_handle.as_str() {
            "" => Err(SqsError::MissingParameter("ReceiptHandle")),
            handle => Ok(handle),
        }
    }

    fn timeout_ms(&self) -> Result<u64, SqsError> {
        let seconds = within("VisibilityTimeout", self.visibility_timeout, 0, MAX_VISIBILITY_SECONDS)?;
        seconds.map(|seconds| seconds * 1000).ok_or(SqsError::MissingParameter("VisibilityTimeout"))
    }
}

pub(super) fn delete(service: &SqsService, request: &HandleRequest) -> Result<Value, SqsError> {
    let (name, handle) = (queue_name(&request.queue_url)?, request.entry.handle()?);
    service.run(|queues, now_ms| queues.delete(name, handle, now_ms))?;
    Ok(json!({}))
}

pub(super) fn delete_batch(service: &SqsService, request: HandleBatch) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    service.run(|queues, now_ms| {
        queues.queue(name)?;
        check_batch(request.entries.iter().map(|entry| entry.id.as_str()), "DeleteMessageBatchRequestEntry")?;
        let mut answer = BatchAnswer::default();
        for entry in &request.entries {
            let deleted = entry.handle().and_then(|handle| queues.delete(name, handle, now_ms));
            answer.add(&entry.id, deleted.map(|()| json!({})));
        }
        Ok(answer.into_value())
    })
}

pub(super) fn change_visibility(service: &SqsService, request: &HandleRequest) -> Result<Value, SqsError> {
    let (name, entry) = (queue_name(&request.queue_url)?, &request.entry);
    let (handle, timeout_ms) = (entry.handle()?, entry.timeout_ms()?);
    service.run(|queues, now_ms| queues.change_visibility(name, handle, timeout_ms, now_ms))?;
    Ok(json!({}))
}

pub(super) fn change_visibility_batch(service: &SqsService, request: HandleBatch) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    service.run(|queues, now_ms| {
        queues.queue(name)?;
        let ids = request.entries.iter().map(|entry| entry.id.as_str());
        check_batch(ids, "ChangeMessageVisibilityBatchRequestEntry")?;
        let mut answer = BatchAnswer::default();
        for entry in &request.entries {
            let changed = entry
                .handle()
                .and_then(|handle| queues.change_visibility(name, handle, entry.timeout_ms()?, now_ms));
            answer.add(&entry.id, changed.map(|()| json!({})));
        }
        Ok(answer.into_value())
    })
}
