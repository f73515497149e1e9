//! Messages of a queue: the receipt of a received one, one to send, and their sizes.

use std::collections::BTreeMap;
use std::fmt;

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

/// The visibility time-out of one delivery.
#[derive(Debug, Clone)]
pub(crate) struct Visibility {
    pub(crate) receipt: Receipt,
    pub(crate) seconds: u32,
}

/// The deletion of a message.
#[derive(Debug, Clone)]
pub(crate) struct Deletion {
    pub(crate) receipt: Receipt,
    /// Whether the next message of its group can be received only after it.
    pub(crate) frees_group: bool,
}
