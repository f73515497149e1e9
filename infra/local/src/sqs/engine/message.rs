//! A message: its immutable content, and the state of its delivery.
//!
//! **Invariant:** the content is shared, not copied, between the queue, the journal and the answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a sender sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub(crate) message_id: String,
    pub(crate) body: String,
    pub(crate) body_md5: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) attributes: BTreeMap<String, AttributeValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace_header: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group_id: Option<String>,
    /// Of a FIFO queue: sending it again within five minutes stores nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deduplication_id: Option<String>,
    pub(crate) sender_id: String,
}

/// One message attribute. Binary values stay in base64, the form in which they come and go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct AttributeValue {
    pub(crate) data_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) string_value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) binary_value: Option<String>,
}

/// Where a message's delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    Visible,
    Delayed,
    InFlight,
}

/// A message in a queue. Times are milliseconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Message {
    #[serde(serialize_with = "content_out", deserialize_with = "content_in")]
    pub(crate) content: Arc<Content>,
    pub(crate) sent_ms: u64,
    pub(crate) place: Place,
    /// When it became visible, or will.
    pub(crate) due_ms: u64,
    /// Receives over the whole life, dead-letter queues included.
    pub(crate) receive_count: u32,
    /// Receives since it came to this queue: what a redrive policy counts.
    pub(crate) receives_here: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first_received_ms: Option<u64>,
    #[serde(default)]
    pub(crate) last_received_ms: u64,
    /// The queue that gave it up, if it is a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dead_letter_of: Option<String>,
}

fn content_out<S: Serializer>(content: &Arc<Content>, serializer: S) -> Result<S::Ok, S::Error> {
    content.as_ref().serialize(serializer)
}

fn content_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<Content>, D::Error> {
    Content::deserialize(deserializer).map(Arc::new)
}

/// What a receipt handle stands for: one receive of one message of one queue.
///
/// It names the receive by its count, which is journalled, so a handle stays good over a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) queue: String,
    pub(crate) seq: u64,
    pub(crate) receive_count: u32,
    pub(crate) message_id: String,
}

impl Receipt {
    pub(crate) fn to_handle(&self) -> String {
        let Self { queue, seq, receive_count, message_id } = self;
        URL_SAFE_NO_PAD.encode(format!("{seq}/{receive_count}/{message_id}/{queue}"))
    }

    pub(crate) fn parse(handle: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(handle).ok()?).ok()?;
        let mut parts = text.splitn(4, '/');
        Some(Self {
            seq: parts.next()?.parse().ok()?,
            receive_count: parts.next()?.parse().ok()?,
            message_id: parts.next()?.to_owned(),
            queue: parts.next()?.to_owned(),
        })
    }
}
