//! Owns `SendMessage` and its batch: what a message may hold, and what the sender is told.
//!
//! **Invariant:** a message is checked whole before the queue sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{BatchAnswer, check_batch, queue_name, within};
use crate::sqs::engine::Queues;
use crate::sqs::engine::attributes::MAX_MESSAGE_BYTES;
use crate::sqs::engine::message::{AttributeValue, Content};
use crate::sqs::error::SqsError;
use crate::sqs::md5;
use crate::sqs::service::SqsService;

/// The most attributes of one message (SQS quota).
const MAX_ATTRIBUTES: usize = 10;

#[derive(Deserialize)]
pub(super) struct Request {
    #[serde(rename = "QueueUrl", default)]
    queue_url: String,
    #[serde(flatten)]
    entry: Entry,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BatchRequest {
    #[serde(default)]
    queue_url: String,
    #[serde(default)]
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(default)]
    id: String,
    #[serde(default)]
    message_body: String,
    delay_seconds: Option<i64>,
    message_attributes: Option<BTreeMap<String, AttributeValue>>,
    message_system_attributes: Option<BTreeMap<String, AttributeValue>>,
    message_group_id: Option<String>,
    message_deduplication_id: Option<String>,
}

/// A checked message with what its sender is told.
struct Outgoing {
    content: Arc<Content>,
    delay_ms: Option<u64>,
    answer: Value,
    bytes: usize,
}

pub(super) fn one(service: &SqsService, request: &Request, caller: &str) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    let outgoing = check(&request.entry, caller)?;
    service.run(|queues, now_ms| put(queues, name, outgoing, now_ms))
}

pub(super) fn batch(service: &SqsService, request: BatchRequest, caller: &str) -> Result<Value, SqsError> {
    let name = queue_name(&request.queue_url)?;
    service.run(|queues, _| queues.queue(name).map(drop))?;
    check_batch(request.entries.iter().map(|entry| entry.id.as_str()), "SendMessageBatchRequestEntry")?;
    let sent: usize = request.entries.iter().map(Entry::bytes).sum();
    if sent > MAX_MESSAGE_BYTES {
        return Err(SqsError::BatchRequestTooLong { limit: MAX_MESSAGE_BYTES, sent });
    }
    let checked: Vec<_> = request.entries.iter().map(|entry| check(entry, caller)).collect();
    service.run(|queues, now_ms| {
        let mut answer = BatchAnswer::default();
        for (entry, outgoing) in request.entries.iter().zip(checked) {
            answer.add(&entry.id, outgoing.and_then(|outgoing| put(queues, name, outgoing, now_ms)));
        }
        Ok(answer.into_value())
    })
}

fn put(queues: &mut Queues, name: &str, outgoing: Outgoing, now_ms: u64) -> Result<Value, SqsError> {
    let most = queues.queue(name)?.attributes.max_bytes;
    if outgoing.bytes > most {
        let problem =
            format!("One or more parameters are invalid. Reason: Message must be shorter than {most} bytes.");
        return Err(SqsError::InvalidParameterValue(problem));
    }
    queues.send(name, outgoing.content, outgoing.delay_ms, now_ms)?;
    Ok(outgoing.answer)
}

impl Entry {
    /// What counts against the limits: the body, and name, type and value of each attribute.
    fn bytes(&self) -> usize {
        let attributes = self.message_attributes.iter().flatten();
        let of_attribute = |(name, value): (&String, &AttributeValue)| {
            let text = value.string_value.as_ref().map_or(0, String::len);
            let binary = value.binary_value.as_ref().map_or(0, |base64| decoded_bytes(base64));
            name.len().saturating_add(value.data_type.len()).saturating_add(text).saturating_add(binary)
        };
        attributes.map(of_attribute).fold(self.message_body.len(), usize::saturating_add)
    }
}

fn decoded_bytes(base64: &str) -> usize {
    STANDARD.decode(base64).map_or(base64.len(), |binary| binary.len())
}

fn check(entry: &Entry, caller: &str) -> Result<Outgoing, SqsError> {
    if entry.message_body.is_empty() {
        return Err(SqsError::MissingParameter("MessageBody"));
    }
    if !entry.message_body.chars().all(is_allowed) {
        return Err(SqsError::InvalidMessageContents);
    }
    let attributes = entry.message_attributes.clone().unwrap_or_default();
    check_attributes(&attributes)?;
    let system = entry.message_system_attributes.clone().unwrap_or_default();
    let trace_header = trace_header(&system)?;
    let group_id = group_id(entry)?;
    let delay_ms = within("DelaySeconds", entry.delay_seconds, 0, 900)?.map(|seconds| seconds * 1000);
    let content = Content {
        message_id: uuid::Uuid::new_v4().to_string(),
        body_md5: md5::of_body(&entry.message_body),
        body: entry.message_body.clone(),
        attributes,
        trace_header,
        group_id,
        sender_id: caller.to_owned(),
    };
    let mut answer = json!({ "MessageId": content.message_id, "MD5OfMessageBody": content.body_md5 });
    let digests = [
        ("MD5OfMessageAttributes", md5::of_attributes(&content.attributes)),
        ("MD5OfMessageSystemAttributes", md5::of_attributes(&system)),
    ];
    if let Some(answer) = answer.as_object_mut() {
        answer
            .extend(digests.into_iter().filter_map(|(name, digest)| Some((name.to_owned(), digest?.into()))));
    }
    Ok(Outgoing { bytes: entry.bytes(), content: Arc::new(content), delay_ms, answer })
}

/// The characters of XML 1.0, the only ones SQS takes.
fn is_allowed(letter: char) -> bool {
    matches!(letter, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

fn check_attributes(attributes: &BTreeMap<String, AttributeValue>) -> Result<(), SqsError> {
    if attributes.len() > MAX_ATTRIBUTES {
        let problem =
            format!("Number of message attributes [{}] exceeds the allowed maximum [10].", attributes.len());
        return Err(SqsError::InvalidParameterValue(problem));
    }
    attributes.iter().try_for_each(|(name, value)| check_attribute(name, value))
}

fn check_attribute(name: &str, value: &AttributeValue) -> Result<(), SqsError> {
    let refused = |problem: String| Err(SqsError::InvalidParameterValue(problem));
    let lower = name.to_ascii_lowercase();
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let reserved = lower.starts_with("aws.") || lower.starts_with("amazon.");
    let dotted = name.starts_with('.') || name.ends_with('.') || name.contains("..");
    if name.is_empty() || name.len() > 256 || !name.chars().all(allowed) || reserved || dotted {
        return refused(format!("The message attribute name '{name}' is invalid."));
    }
    let base = value.data_type.split('.').next().unwrap_or_default();
    let text = value.string_value.as_deref().filter(|text| !text.is_empty());
    match (base, text, value.binary_value.as_deref()) {
        ("String", Some(text), None) if text.chars().all(is_allowed) => Ok(()),
        ("Number", Some(text), None) if text.parse::<f64>().is_ok_and(f64::is_finite) => Ok(()),
        ("Binary", None, Some(base64)) if !base64.is_empty() && STANDARD.decode(base64).is_ok() => Ok(()),
        ("String" | "Number" | "Binary", _, _) => {
            refused(format!("The message attribute '{name}' must contain a non-empty value of type {base}."))
        }
        _ => refused(format!(
            "The message attribute '{name}' has an invalid message attribute type, the set of supported type prefixes is \
             Binary, Number, and String."
        )),
    }
}

fn trace_header(system: &BTreeMap<String, AttributeValue>) -> Result<Option<String>, SqsError> {
    match system.keys().find(|name| name.as_str() != "AWSTraceHeader") {
        Some(other) => {
            let problem = format!("Message system attribute name '{other}' is invalid.");
            Err(SqsError::InvalidParameterValue(problem))
        }
        None => Ok(system.get("AWSTraceHeader").and_then(|value| value.string_value.clone())),
    }
}

/// A group on a standard queue makes it fair; it orders nothing.
fn group_id(entry: &Entry) -> Result<Option<String>, SqsError> {
    if entry.message_deduplication_id.is_some() {
        let reason = "The request includes a parameter that is not valid for this queue type.";
        let problem = format!("Value for parameter MessageDeduplicationId is invalid. Reason: {reason}");
        return Err(SqsError::InvalidParameterValue(problem));
    }
    match &entry.message_group_id {
        Some(group)
            if group.is_empty()
                || group.len() > 128
                || !group.chars().all(|letter| letter.is_ascii_graphic()) =>
        {
            let reason = "MessageGroupId can only include alphanumeric and punctuation characters. 1 to 128 in length.";
            let problem = format!("Value {group} for parameter MessageGroupId is invalid. Reason: {reason}");
            Err(SqsError::InvalidParameterValue(problem))
        }
        group => Ok(group.clone()),
    }
}
