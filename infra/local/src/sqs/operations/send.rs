//! `SendMessage` and its batch: checks a message, sends it, answers with its digests.
//!
//! **Invariant:** a message is checked completely before it is added to the queue.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::request::{BatchAnswer, check_batch, queue_name, within};
use crate::sqs::engine::Queues;
use crate::sqs::engine::attributes::{Fifo, MAX_MESSAGE_BYTES};
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

/// A checked message and the answer to its sender.
struct Outgoing {
    content: Content,
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
    let attributes = &queues.queue(name)?.attributes;
    let (most, fifo) = (attributes.max_bytes, attributes.fifo);
    if outgoing.bytes > most {
        let problem =
            format!("One or more parameters are invalid. Reason: Message must be shorter than {most} bytes.");
        return Err(SqsError::InvalidParameterValue(problem));
    }
    let Outgoing { mut content, delay_ms, mut answer, .. } = outgoing;
    match fifo {
        Some(fifo) => check_for_fifo(&mut content, delay_ms, fifo)?,
        None if content.deduplication_id.is_some() => {
            return Err(not_for_this_type("MessageDeduplicationId"));
        }
        None => {}
    }
    // Zero is no delay, and no delay of its own is all that a message of a FIFO queue may have.
    let delay_ms = delay_ms.filter(|_| fifo.is_none());
    let sent = queues.send(name, Arc::new(content), delay_ms, now_ms)?;
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("MessageId".to_owned(), sent.message_id.into());
        answer.extend(sent.sequence_number.map(|number| ("SequenceNumber".to_owned(), number.into())));
    }
    Ok(answer)
}

/// What a message needs in a FIFO queue: a group, and an id by which a repetition is known.
fn check_for_fifo(content: &mut Content, delay_ms: Option<u64>, fifo: Fifo) -> Result<(), SqsError> {
    if content.group_id.is_none() {
        return Err(SqsError::MissingParameter("MessageGroupId"));
    }
    if delay_ms.is_some_and(|delay_ms| delay_ms > 0) {
        return Err(not_for_this_type("DelaySeconds"));
    }
    if content.deduplication_id.is_none() {
        if !fifo.by_content {
            let problem = "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId \
                           provided explicitly";
            return Err(SqsError::InvalidParameterValue(problem.to_owned()));
        }
        content.deduplication_id = Some(hex::encode(Sha256::digest(content.body.as_bytes())));
    }
    Ok(())
}

fn not_for_this_type(parameter: &str) -> SqsError {
    let reason = "The request include parameter that is not valid for this queue type.";
    SqsError::InvalidParameterValue(format!("Value for parameter {parameter} is invalid. Reason: {reason}"))
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
    let group_id = checked_id("MessageGroupId", entry.message_group_id.as_ref())?;
    let deduplication_id = checked_id("MessageDeduplicationId", entry.message_deduplication_id.as_ref())?;
    let delay_ms = within("DelaySeconds", entry.delay_seconds, 0, 900)?.map(|seconds| seconds * 1000);
    let content = Content {
        message_id: uuid::Uuid::new_v4().to_string(),
        body_md5: md5::of_body(&entry.message_body),
        body: entry.message_body.clone(),
        attributes,
        trace_header,
        group_id,
        deduplication_id,
        sender_id: caller.to_owned(),
    };
    let mut answer = json!({ "MD5OfMessageBody": content.body_md5 });
    let digests = [
        ("MD5OfMessageAttributes", md5::of_attributes(&content.attributes)),
        ("MD5OfMessageSystemAttributes", md5::of_attributes(&system)),
    ];
    if let Some(answer) = answer.as_object_mut() {
        answer
            .extend(digests.into_iter().filter_map(|(name, digest)| Some((name.to_owned(), digest?.into()))));
    }
    Ok(Outgoing { bytes: entry.bytes(), content, delay_ms, answer })
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

/// The id of a group or of a message, if there is one. (A group on a standard queue makes it fair; it orders nothing.)
fn checked_id(parameter: &str, id: Option<&String>) -> Result<Option<String>, SqsError> {
    match id {
        Some(id)
            if id.is_empty() || id.len() > 128 || !id.chars().all(|letter| letter.is_ascii_graphic()) =>
        {
            let reason = format!(
                "{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length."
            );
            let problem = format!("Value {id} for parameter {parameter} is invalid. Reason: {reason}");
            Err(SqsError::InvalidParameterValue(problem))
        }
        id => Ok(id.cloned()),
    }
}
