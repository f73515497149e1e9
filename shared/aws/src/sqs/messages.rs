//! Messages of a queue: one that was received, one to send, and their sizes.

use std::collections::BTreeMap;
use std::fmt;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as System};
use toolfleet_core::time::Timestamp;

/// The largest message that SQS takes, its attributes included, unless the queue's own `MaximumMessageSize` is smaller.
pub const MAX_MESSAGE_BYTES: usize = 1_048_576;
/// Room for the attributes that a waiting message carries beside its body.
pub(crate) const ATTRIBUTE_BYTES: usize = 4_096;
/// The largest body of a call: with it a message still has room for the attributes that it carries while it waits.
pub const MAX_BODY_BYTES: usize = MAX_MESSAGE_BYTES - ATTRIBUTE_BYTES;

/// The receipt handle of one delivery of a message: with it the message is deleted or hidden.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt(pub(crate) String);

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receipt({}..)", self.0.chars().take(8).collect::<String>())
    }
}

/// One delivery of one message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The body.
    pub body: String,
    /// The message's id.
    pub message_id: String,
    /// Its receipt handle.
    pub receipt: Receipt,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// How often it was received, this time included.
    pub receive_count: u32,
    /// The SQS SenderId of its sender.
    pub sender: Option<String>,
    /// Its message attributes of type String.
    pub attributes: BTreeMap<String, String>,
    /// The AWSTraceHeader.
    pub trace_header: Option<String>,
    /// The MessageGroupId.
    pub group: Option<String>,
}

/// A message to send.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The body.
    pub body: String,
    /// How long it stays hidden, in seconds; 900 at most.
    pub delay_s: u32,
    /// The MessageGroupId: the tenant, for fair queues.
    pub group: Option<String>,
    /// Message attributes, all of type String.
    pub attributes: BTreeMap<String, String>,
    /// In a FIFO queue, the deduplication id; the digest of the body unless given.
    pub deduplication: Option<String>,
}

pub(crate) fn delivery(message: Message) -> Delivery {
    let system = message.attributes.unwrap_or_default();
    let read = |name: System| system.get(&name).cloned();
    let number = |name: System| read(name).and_then(|n| n.parse::<i64>().ok());
    let texts = message.message_attributes.into_iter().flatten();
    Delivery {
        body: message.body.unwrap_or_default(),
        message_id: message.message_id.unwrap_or_default(),
        receipt: Receipt(message.receipt_handle.unwrap_or_default()),
        sent_at: Timestamp::from_ms(number(System::SentTimestamp).unwrap_or(0)),
        receive_count: number(System::ApproximateReceiveCount)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(1),
        sender: read(System::SenderId),
        attributes: texts.filter_map(|(name, value)| Some((name, value.string_value?))).collect(),
        trace_header: read(System::AwsTraceHeader),
        group: read(System::MessageGroupId),
    }
}
