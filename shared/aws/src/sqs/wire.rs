//! The entries and answers of the requests that every call needs, as SQS's JSON protocol writes them, and as types of the SDK.

use std::collections::BTreeMap;

use aws_sdk_sqs::error::BuildError;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageAttributeValue, MessageSystemAttributeName as Name, SendMessageBatchRequestEntry,
    SendMessageBatchResultEntry,
};
use serde::{Deserialize, Serialize};

use super::messages::{Deletion, Outgoing, Visibility};
use toolfleet_core::digest::Digest;

/// The group of a message in a FIFO queue that names none.
const NO_GROUP: &str = "-";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Batch<'a, E> {
    queue_url: &'a str,
    entries: &'a [E],
}

/// About how many bytes an entry takes: a receipt handle has 300 to 400, and most messages have fewer.
const ENTRY_BYTES: usize = 512;

/// The body of a request of entries.
pub(super) fn batch<E: Serialize>(url: &str, entries: &[E]) -> serde_json::Result<Vec<u8>> {
    let mut body = Vec::with_capacity(ENTRY_BYTES * (entries.len() + 1));
    serde_json::to_writer(&mut body, &Batch { queue_url: url, entries })?;
    Ok(body)
}

/// An entry about one delivery.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OfDelivery<'a> {
    id: String,
    receipt_handle: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    visibility_timeout: Option<i32>,
}

impl<'a> OfDelivery<'a> {
    pub(super) fn deletions(part: &'a [Deletion]) -> Vec<Self> {
        let entry = |(n, deletion): (usize, &'a Deletion)| Self {
            id: n.to_string(),
            receipt_handle: &deletion.receipt.0,
            visibility_timeout: None,
        };
        part.iter().enumerate().map(entry).collect()
    }

    pub(super) fn visibilities(part: &'a [Visibility]) -> Vec<Self> {
        let entry = |(n, visibility): (usize, &'a Visibility)| Self {
            id: n.to_string(),
            receipt_handle: &visibility.receipt.0,
            visibility_timeout: Some(i32::try_from(visibility.seconds).unwrap_or(43_200).min(43_200)),
        };
        part.iter().enumerate().map(entry).collect()
    }

    pub(super) fn sdk_deletion(&self) -> Result<DeleteMessageBatchRequestEntry, BuildError> {
        let entry = DeleteMessageBatchRequestEntry::builder().id(&self.id);
        entry.receipt_handle(self.receipt_handle).build()
    }

    pub(super) fn sdk_visibility(&self) -> Result<ChangeMessageVisibilityBatchRequestEntry, BuildError> {
        let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(&self.id);
        entry.receipt_handle(self.receipt_handle).set_visibility_timeout(self.visibility_timeout).build()
    }
}

/// A message to send.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Sending<'a> {
    id: String,
    message_body: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_seconds: Option<i32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    message_attributes: BTreeMap<&'a str, SentText<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_deduplication_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_group_id: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SentText<'a> {
    data_type: &'static str,
    string_value: &'a str,
}

impl<'a> Sending<'a> {
    pub(super) fn messages(part: &'a [Outgoing], fifo: bool) -> Vec<Self> {
        part.iter().enumerate().map(|(n, message)| Self::message(n, message, fifo)).collect()
    }

    fn message(n: usize, message: &'a Outgoing, fifo: bool) -> Self {
        let text = |(name, value): (&'a String, &'a String)| {
            (name.as_str(), SentText { data_type: "String", string_value: value })
        };
        let mut entry = Self {
            id: n.to_string(),
            message_body: &message.body,
            delay_seconds: None,
            message_attributes: message.attributes.iter().map(text).collect(),
            message_deduplication_id: None,
            message_group_id: message.group.as_deref(),
        };
        if fifo {
            // As content-based deduplication does: the same body within five minutes is the same message.
            let of_body = || Digest::of_text(&message.body).to_string();
            entry.message_deduplication_id = Some(message.deduplication.clone().unwrap_or_else(of_body));
            entry.message_group_id = entry.message_group_id.or(Some(NO_GROUP));
        } else if message.delay_s > 0 {
            entry.delay_seconds = Some(i32::try_from(message.delay_s).unwrap_or(900).min(900));
        }
        entry
    }

    pub(super) fn sdk(&self) -> Result<SendMessageBatchRequestEntry, BuildError> {
        let mut entry = SendMessageBatchRequestEntry::builder()
            .id(&self.id)
            .message_body(self.message_body)
            .set_delay_seconds(self.delay_seconds)
            .set_message_deduplication_id(self.message_deduplication_id.clone())
            .set_message_group_id(self.message_group_id.map(str::to_owned));
        for (name, text) in &self.message_attributes {
            let value = MessageAttributeValue::builder()
                .data_type(text.data_type)
                .string_value(text.string_value)
                .build()?;
            entry = entry.message_attributes(*name, value);
        }
        entry.build()
    }
}

/// The answer to a request of entries. An entry is in one of the two lists.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct BatchAnswer {
    pub(super) successful: Option<Vec<Success>>,
    pub(super) failed: Option<Vec<Failure>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Success {
    pub(super) id: String,
    /// Of a message that was sent.
    pub(super) message_id: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Failure {
    pub(super) id: String,
    pub(super) code: String,
    pub(super) message: Option<String>,
}

impl BatchAnswer {
    /// Of an answer that names what was done by its ids.
    pub(super) fn of_ids(
        successful: impl Iterator<Item = String>,
        failed: Vec<BatchResultErrorEntry>,
    ) -> Self {
        Self::of(successful.map(|id| Success { id, message_id: String::new() }), failed)
    }

    pub(super) fn of_sdk(
        successful: Vec<SendMessageBatchResultEntry>,
        failed: Vec<BatchResultErrorEntry>,
    ) -> Self {
        let success =
            |entry: SendMessageBatchResultEntry| Success { id: entry.id, message_id: entry.message_id };
        Self::of(successful.into_iter().map(success), failed)
    }

    fn of(successful: impl Iterator<Item = Success>, failed: Vec<BatchResultErrorEntry>) -> Self {
        let failure =
            |entry: BatchResultErrorEntry| Failure { id: entry.id, code: entry.code, message: entry.message };
        Self {
            successful: Some(successful.collect()),
            failed: Some(failed.into_iter().map(failure).collect()),
        }
    }

    /// Whether it names no entry.
    pub(super) fn is_empty(&self) -> bool {
        let none_done = self.successful.as_ref().is_none_or(Vec::is_empty);
        none_done && self.failed.as_ref().is_none_or(Vec::is_empty)
    }
}

/// A ReceiveMessage.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Receive<'a> {
    pub(super) queue_url: &'a str,
    pub(super) max_number_of_messages: i32,
    pub(super) wait_time_seconds: i32,
    pub(super) visibility_timeout: i32,
    pub(super) message_system_attribute_names: [&'static str; 1],
    pub(super) message_attribute_names: [&'static str; 1],
}

/// Its answer.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Received {
    pub(super) messages: Option<Vec<ReceivedMessage>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ReceivedMessage {
    pub(super) message_id: Option<String>,
    pub(super) receipt_handle: Option<String>,
    pub(super) body: Option<String>,
    pub(super) attributes: Option<SystemAttributes>,
    pub(super) message_attributes: Option<BTreeMap<String, ReceivedText>>,
}

/// The system attributes that are read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SystemAttributes {
    pub(super) sent_timestamp: Option<String>,
    pub(super) approximate_receive_count: Option<String>,
    pub(super) sender_id: Option<String>,
    #[serde(rename = "AWSTraceHeader")]
    pub(super) trace_header: Option<String>,
    pub(super) message_group_id: Option<String>,
    pub(super) dead_letter_queue_source_arn: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ReceivedText {
    pub(super) string_value: Option<String>,
}

impl Received {
    pub(super) fn of_sdk(messages: Option<Vec<Message>>) -> Self {
        Self { messages: messages.map(|all| all.into_iter().map(ReceivedMessage::of_sdk).collect()) }
    }
}

impl ReceivedMessage {
    fn of_sdk(message: Message) -> Self {
        let mut system = message.attributes.unwrap_or_default();
        let mut take = |name: Name| system.remove(&name);
        let texts = message.message_attributes.into_iter().flatten();
        Self {
            message_id: message.message_id,
            receipt_handle: message.receipt_handle,
            body: message.body,
            attributes: Some(SystemAttributes {
                sent_timestamp: take(Name::SentTimestamp),
                approximate_receive_count: take(Name::ApproximateReceiveCount),
                sender_id: take(Name::SenderId),
                trace_header: take(Name::AwsTraceHeader),
                message_group_id: take(Name::MessageGroupId),
                dead_letter_queue_source_arn: take(Name::DeadLetterQueueSourceArn),
            }),
            message_attributes: Some(
                texts
                    .map(|(name, value)| (name, ReceivedText { string_value: value.string_value }))
                    .collect(),
            ),
        }
    }
}
