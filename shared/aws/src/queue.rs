//! Owns one SQS queue: receive, delete, change visibility, send. What concurrent callers want travels in batches of ten.
//!
//! **Invariant:** one message's failure in a batch is the trouble of that message alone.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageAttributeValue, MessageSystemAttributeName as System, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use toolfleet_core::digest::Digest;
use toolfleet_core::time::Timestamp;

use crate::batcher::{BatchItem, Batcher, Rules, sent};
use crate::error::AwsError;

/// The service's bounds for one batch: ten entries, 1 MiB; what concurrent calls want waits two milliseconds at most.
const RULES: Rules = Rules {
    most: 10,
    most_bytes: 1_048_576,
    linger: Duration::from_millis(2),
    patient: false,
    most_under_way: 32,
};
/// Nobody waits for a deletion: it may wait for nine others, though not so long that many messages would come again after a crash.
const DELETES: Rules = Rules { linger: Duration::from_millis(100), patient: true, ..RULES };

/// The largest message that SQS takes, its attributes included, unless the queue's own `MaximumMessageSize` is smaller.
pub const MAX_MESSAGE_BYTES: usize = 1_048_576;
/// Room for the attributes that a parked message carries beside its body.
const ATTRIBUTE_BYTES: usize = 4_096;
/// The largest body of a call: with it a message still has room for the attributes that it carries while it waits.
pub const MAX_BODY_BYTES: usize = MAX_MESSAGE_BYTES - ATTRIBUTE_BYTES;
/// The group of a message in a FIFO queue that names none.
const NO_GROUP: &str = "-";

/// What a queue is set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// How often a message is received before it goes to the dead-letter queue, where there is one.
    pub max_receives: Option<u32>,
    /// The largest body of a call that leaves room for the attributes of a parked message.
    pub max_body_bytes: usize,
}

/// One queue.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Client,
    receiving: Client,
    url: String,
    deletes: Batcher<Receipt, Result<(), AwsError>>,
    visibilities: Batcher<Visibility, Result<(), AwsError>>,
    sends: Batcher<Outgoing, Result<String, AwsError>>,
}

/// The right to delete or keep one delivery of a message.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt(String);

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
    /// The right to delete it.
    pub receipt: Receipt,
    /// When it was sent.
    pub sent_at: Timestamp,
    /// How often it was received, this time included.
    pub receive_count: u32,
    /// The SQS SenderId of whoever sent it.
    pub sender: Option<String>,
    /// Its message attributes that are texts.
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
    /// Message attributes.
    pub attributes: BTreeMap<String, String>,
    /// In a FIFO queue, what makes it another message than one with the same body; the body alone unless given.
    pub deduplication: Option<String>,
}

/// How many messages a queue holds, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be received.
    pub visible: u64,
    /// Received and not deleted.
    pub in_flight: u64,
    /// Delayed.
    pub delayed: u64,
}

#[derive(Debug, Clone)]
struct Visibility {
    receipt: Receipt,
    seconds: u32,
}

impl BatchItem for Receipt {
    fn key(&self) -> Option<&str> {
        Some(&self.0)
    }
    fn bytes(&self) -> usize {
        self.0.len()
    }
}

impl BatchItem for Visibility {
    fn key(&self) -> Option<&str> {
        Some(&self.receipt.0)
    }
    fn bytes(&self) -> usize {
        self.receipt.0.len()
    }
}

impl BatchItem for Outgoing {
    fn key(&self) -> Option<&str> {
        None
    }
    fn bytes(&self) -> usize {
        self.body.len()
            + self.attributes.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>()
    }
}

impl Queue {
    pub(crate) fn new(client: Client, receiving: Client, url: String) -> Self {
        let bind = || (client.clone(), url.clone());
        let (c, u) = bind();
        let deletes = Batcher::new(DELETES, move |batch| delete_batch(c.clone(), u.clone(), batch));
        let (c, u) = bind();
        let visibilities = Batcher::new(RULES, move |batch| change_batch(c.clone(), u.clone(), batch));
        let (c, u) = bind();
        let sends = Batcher::new(RULES, move |batch| send_batch(c.clone(), u.clone(), batch));
        Self { client, receiving, url, deletes, visibilities, sends }
    }

    /// Its name: the last part of its URL.
    pub fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or(&self.url)
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it keeps the order of the messages of a group. Such a queue takes no delay for a single message.
    pub fn is_fifo(&self) -> bool {
        self.url.ends_with(".fifo")
    }

    /// What it is set to.
    pub async fn settings(&self) -> Result<QueueSettings, AwsError> {
        let attributes = self.attributes().await?;
        let policy = redrive_policy(&attributes);
        // SQS writes the count as a number or as a text, as it was given.
        let max_receives = policy.as_ref().and_then(|policy| policy.get("maxReceiveCount"));
        let max_receives = max_receives.and_then(|count| match count.as_u64() {
            Some(count) => Some(count),
            None => count.as_str()?.parse().ok(),
        });
        let largest = attributes.get(QueueAttributeName::MaximumMessageSize.as_str());
        let largest = largest.and_then(|n| n.parse().ok()).unwrap_or(MAX_MESSAGE_BYTES);
        Ok(QueueSettings {
            max_receives: max_receives.and_then(|count| u32::try_from(count).ok()),
            max_body_bytes: largest.saturating_sub(ATTRIBUTE_BYTES).max(largest / 2),
        })
    }

    /// Receives up to `max` (1 to 10) messages, waiting up to `wait_s` seconds for one, and hides them for `visibility_s`.
    pub async fn receive(&self, max: u32, wait_s: u32, visibility_s: u32) -> Result<Vec<Delivery>, AwsError> {
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let got = self
            .receiving
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(number(max.clamp(1, 10)))
            .wait_time_seconds(number(wait_s))
            .visibility_timeout(number(visibility_s))
            .message_system_attribute_names(System::All)
            .message_attribute_names("All")
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("ReceiveMessage", &self.url, &e))?;
        Ok(got.messages.unwrap_or_default().into_iter().map(delivery).collect())
    }

    /// Deletes the message of a delivery.
    pub async fn delete(&self, receipt: &Receipt) -> Result<(), AwsError> {
        self.deletes.ask(receipt.clone()).await.unwrap_or_else(|| Err(self.given_up("DeleteMessageBatch")))
    }

    /// Hides the message of a delivery for `seconds` from now; 0 gives it back at once.
    pub async fn change_visibility(&self, receipt: &Receipt, seconds: u32) -> Result<(), AwsError> {
        let wish = Visibility { receipt: receipt.clone(), seconds };
        self.visibilities
            .ask(wish)
            .await
            .unwrap_or_else(|| Err(self.given_up("ChangeMessageVisibilityBatch")))
    }

    /// Sends a message; gives its id.
    pub async fn send(&self, message: Outgoing) -> Result<String, AwsError> {
        self.sends.ask(message).await.unwrap_or_else(|| Err(self.given_up("SendMessageBatch")))
    }

    /// How many messages it holds, about.
    pub async fn depth(&self) -> Result<Depth, AwsError> {
        let attributes = self.attributes().await?;
        let count = |name: QueueAttributeName| {
            attributes.get(name.as_str()).and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        Ok(Depth {
            visible: count(QueueAttributeName::ApproximateNumberOfMessages),
            in_flight: count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible),
            delayed: count(QueueAttributeName::ApproximateNumberOfMessagesDelayed),
        })
    }

    /// The name of its dead-letter queue, where it has one.
    pub async fn dead_letter_name(&self) -> Result<Option<String>, AwsError> {
        let attributes = self.attributes().await?;
        let policy = redrive_policy(&attributes);
        let arn = policy.as_ref().and_then(|p| p.get("deadLetterTargetArn")).and_then(|a| a.as_str());
        Ok(arn.and_then(|arn| arn.rsplit(':').next()).map(str::to_owned))
    }

    /// Its dead-letter queue, where it has one.
    pub async fn dead_letter_queue(&self) -> Result<Option<Self>, AwsError> {
        let Some(name) = self.dead_letter_name().await? else {
            return Ok(None);
        };
        let url = url_of(&self.client, &name).await?;
        Ok(Some(Self::new(self.client.clone(), self.receiving.clone(), url)))
    }

    async fn attributes(&self) -> Result<BTreeMap<String, String>, AwsError> {
        let got = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::All)
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("GetQueueAttributes", &self.url, &e))?;
        Ok(got
            .attributes
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str().to_owned(), value))
            .collect())
    }

    fn given_up(&self, operation: &str) -> AwsError {
        AwsError::passing(format!("{operation} on {} was given up by its batch", self.url))
    }
}

fn redrive_policy(attributes: &BTreeMap<String, String>) -> Option<serde_json::Value> {
    serde_json::from_str(attributes.get(QueueAttributeName::RedrivePolicy.as_str())?).ok()
}

/// The URL of the queue of that name in this account and region.
pub(crate) async fn url_of(client: &Client, name: &str) -> Result<String, AwsError> {
    let got = client.get_queue_url().queue_name(name).send().await;
    let got = got.map_err(|e| AwsError::of_sdk("GetQueueUrl", name, &e))?;
    got.queue_url.ok_or_else(|| AwsError::passing(format!("GetQueueUrl on {name}: no URL came back")))
}

fn delivery(message: Message) -> Delivery {
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

/// One answer per entry, or what befell them all.
type Answers<A> = Result<Vec<Result<A, AwsError>>, AwsError>;

async fn delete_batch(client: Client, url: String, batch: Vec<Receipt>) -> Vec<Result<(), AwsError>> {
    sent(&batch, |part| delete_part(&client, &url, part)).await
}

fn delete_part(
    client: &Client,
    url: &str,
    part: &[Receipt],
) -> impl Future<Output = Answers<()>> + Send + use<> {
    const OPERATION: &str = "DeleteMessageBatch";
    let entry = |(n, receipt): (usize, &Receipt)| {
        DeleteMessageBatchRequestEntry::builder().id(n.to_string()).receipt_handle(&receipt.0).build()
    };
    let entries = part.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
    let (request, url, count) = (client.delete_message_batch().queue_url(url), url.to_owned(), part.len());
    async move {
        let entries = entries.map_err(|e| AwsError::configuration(e.to_string()))?;
        let output = request.set_entries(Some(entries)).send().await;
        let output = output.map_err(|e| AwsError::of_sdk(OPERATION, &url, &e))?;
        Ok(sort_out(OPERATION, &url, count, |_| Some(()), &output.failed))
    }
}

async fn change_batch(client: Client, url: String, batch: Vec<Visibility>) -> Vec<Result<(), AwsError>> {
    sent(&batch, |part| change_part(&client, &url, part)).await
}

fn change_part(
    client: &Client,
    url: &str,
    part: &[Visibility],
) -> impl Future<Output = Answers<()>> + Send + use<> {
    const OPERATION: &str = "ChangeMessageVisibilityBatch";
    let entry = |(n, wish): (usize, &Visibility)| {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(n.to_string())
            .receipt_handle(&wish.receipt.0)
            .visibility_timeout(i32::try_from(wish.seconds).unwrap_or(43_200).min(43_200))
            .build()
    };
    let entries = part.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
    let request = client.change_message_visibility_batch().queue_url(url);
    let (url, count) = (url.to_owned(), part.len());
    async move {
        let entries = entries.map_err(|e| AwsError::configuration(e.to_string()))?;
        let output = request.set_entries(Some(entries)).send().await;
        let output = output.map_err(|e| AwsError::of_sdk(OPERATION, &url, &e))?;
        Ok(sort_out(OPERATION, &url, count, |_| Some(()), &output.failed))
    }
}

async fn send_batch(client: Client, url: String, batch: Vec<Outgoing>) -> Vec<Result<String, AwsError>> {
    sent(&batch, |part| send_part(&client, &url, part)).await
}

fn send_part(
    client: &Client,
    url: &str,
    part: &[Outgoing],
) -> impl Future<Output = Answers<String>> + Send + use<> {
    const OPERATION: &str = "SendMessageBatch";
    let fifo = url.ends_with(".fifo");
    let entry = |(n, message): (usize, &Outgoing)| {
        let mut entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(&message.body);
        for (name, value) in &message.attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            entry = entry.message_attributes(name, value.map_err(|e| e.to_string())?);
        }
        if fifo {
            // The same body within five minutes is the same message, as content-based deduplication has it.
            let of_body = || Digest::of_text(&message.body).to_string();
            let id = message.deduplication.clone().unwrap_or_else(of_body);
            let group = message.group.as_deref().unwrap_or(NO_GROUP);
            entry = entry.message_deduplication_id(id).message_group_id(group);
            return entry.build().map_err(|e| e.to_string());
        }
        if message.delay_s > 0 {
            entry = entry.delay_seconds(i32::try_from(message.delay_s).unwrap_or(900).min(900));
        }
        entry.set_message_group_id(message.group.clone()).build().map_err(|e| e.to_string())
    };
    let entries = part.iter().enumerate().map(entry).collect::<Result<Vec<_>, String>>();
    let (request, url, count) = (client.send_message_batch().queue_url(url), url.to_owned(), part.len());
    async move {
        let entries = entries.map_err(AwsError::configuration)?;
        let output = request.set_entries(Some(entries)).send().await;
        let output = output.map_err(|e| AwsError::of_sdk(OPERATION, &url, &e))?;
        let sent: BTreeMap<_, _> =
            output.successful.iter().map(|s| (s.id.as_str(), s.message_id.as_str())).collect();
        let id_of = |id: &str| sent.get(id).map(|m| (*m).to_owned());
        Ok(sort_out(OPERATION, &url, count, id_of, &output.failed))
    }
}

/// One answer per entry: its own failure, or what the success says.
fn sort_out<A>(
    operation: &str,
    url: &str,
    count: usize,
    done: impl Fn(&str) -> Option<A>,
    failed: &[BatchResultErrorEntry],
) -> Vec<Result<A, AwsError>> {
    let answer = |n: usize| {
        let id = n.to_string();
        match failed.iter().find(|f| f.id == id) {
            Some(f) => {
                Err(AwsError::of_code(operation, url, &f.code, f.message.as_deref().unwrap_or_default()))
            }
            None => done(&id)
                .ok_or_else(|| AwsError::passing(format!("{operation} on {url}: no answer for an entry"))),
        }
    };
    (0..count).map(answer).collect()
}
