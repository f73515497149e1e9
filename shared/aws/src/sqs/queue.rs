//! One SQS queue: receive, delete, change the visibility time-out, send. Requests of concurrent callers are batched in tens.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{MessageSystemAttributeName as System, QueueAttributeName};
use toolfleet_core::time::Timestamp;

use super::batches::{RULES, Requests, repeating};
use super::messages::{ATTRIBUTE_BYTES, Deletion, Visibility};
pub use super::messages::{MAX_BODY_BYTES, MAX_MESSAGE_BYTES, Outgoing, Receipt};
use super::wire::{Receive, Received, ReceivedMessage};
use crate::batch::{BatchItem, Batcher, RunQueue, SendPart, send_or_split};
use crate::direct::Clients;
use crate::error::AwsError;

/// The settings of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueSettings {
    /// How often a message is received before it is moved to the dead-letter queue, if there is one.
    pub max_receives: Option<u32>,
    /// The largest body of a call that leaves room for the attributes of a waiting message.
    pub max_body_bytes: usize,
    /// Whether its messages are encrypted where they are stored.
    pub is_encrypted: bool,
    /// For how long it hides a message whose receiver asks for no other time, in seconds.
    pub visibility_s: Option<u64>,
}

/// One queue. A clone is the same queue: it shares the batches.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    requests: Arc<Requests>,
    receiving: Clients<Client>,
    run_queue: RunQueue,
    deletes: Batcher<Deletion, Result<(), AwsError>>,
    visibilities: Batcher<Visibility, Result<(), AwsError>>,
    sends: Batcher<Outgoing, Result<String, AwsError>>,
}

/// One delivery of one message.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The queue that it was received from: its receipt handle is one of that queue.
    pub queue: Queue,
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
    /// The name of the queue that gave it up, where SQS moved it to a dead-letter queue.
    pub given_up_by: Option<String>,
}

/// About how many messages a queue holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be received.
    pub visible: u64,
    /// Received and not deleted.
    pub in_flight: u64,
    /// Delayed.
    pub delayed: u64,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({})", self.url())
    }
}

impl Queue {
    pub(crate) fn new(
        clients: Clients<Client>,
        receiving: Clients<Client>,
        url: String,
        run_queue: RunQueue,
    ) -> Self {
        let requests = Arc::new(Requests { clients, url });
        Self(Arc::new(Inner {
            deletes: batcher(&requests, &run_queue),
            visibilities: batcher(&requests, &run_queue),
            sends: batcher(&requests, &run_queue),
            requests,
            receiving,
            run_queue,
        }))
    }

    /// Its name: the last part of its URL.
    pub fn name(&self) -> &str {
        self.url().rsplit('/').next().unwrap_or(self.url())
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.0.requests.url
    }

    /// Whether it keeps the order of the messages of a group. Such a queue takes no delay for a single message.
    pub fn is_fifo(&self) -> bool {
        self.url().ends_with(".fifo")
    }

    /// Its settings.
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
        let attribute = |name: &QueueAttributeName| attributes.get(name.as_str()).map(String::as_str);
        let own_key = attribute(&QueueAttributeName::KmsMasterKeyId).is_some_and(|key| !key.is_empty());
        let is_encrypted = own_key || attribute(&QueueAttributeName::SqsManagedSseEnabled) == Some("true");
        Ok(QueueSettings {
            is_encrypted,
            visibility_s: attribute(&QueueAttributeName::VisibilityTimeout).and_then(|s| s.parse().ok()),
            max_receives: max_receives.and_then(|count| u32::try_from(count).ok()),
            max_body_bytes: largest.saturating_sub(ATTRIBUTE_BYTES).max(largest / 2),
        })
    }

    /// Receives up to `max` (1 to 10) messages, waiting up to `wait_s` seconds for one, and hides them for `visibility_s`.
    pub async fn receive(&self, max: u32, wait_s: u32, visibility_s: u32) -> Result<Vec<Delivery>, AwsError> {
        const OPERATION: &str = "ReceiveMessage";
        let number = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        let request = Receive {
            queue_url: self.url(),
            max_number_of_messages: number(max.clamp(1, 10)),
            wait_time_seconds: number(wait_s),
            visibility_timeout: number(visibility_s),
            message_system_attribute_names: ["All"],
            message_attribute_names: ["All"],
        };
        let direct = self.0.receiving.direct.post(OPERATION, || serde_json::to_vec(&request));
        let received: Received = match direct.await {
            Ok(received) => received,
            Err(why) => {
                let got = self.0.receiving.sdk.receive_message().queue_url(request.queue_url);
                let got = got
                    .max_number_of_messages(request.max_number_of_messages)
                    .wait_time_seconds(request.wait_time_seconds)
                    .visibility_timeout(request.visibility_timeout)
                    .message_system_attribute_names(System::All)
                    .message_attribute_names("All")
                    .customize()
                    .config_override(repeating(why))
                    .send()
                    .await;
                Received::of_sdk(got.map_err(|e| AwsError::of_sdk(OPERATION, self.url(), &e))?.messages)
            }
        };
        Ok(received.messages.unwrap_or_default().into_iter().map(|message| delivery(self, message)).collect())
    }

    /// Deletes the message of a delivery. In a standard queue it may wait a moment for others to be deleted with it.
    pub async fn delete(&self, receipt: &Receipt) -> Result<(), AwsError> {
        let deletion = Deletion { receipt: receipt.clone(), frees_group: self.is_fifo() };
        self.0.deletes.send(deletion).await.unwrap_or_else(|| Err(self.batch_failed("DeleteMessageBatch")))
    }

    /// Sends the deletions that wait for others, and lets none wait from now on.
    pub fn delete_at_once(&self) {
        self.0.deletes.send_at_once();
    }

    /// Hides the message of a delivery for `seconds` from now; 0 makes it visible at once.
    pub async fn change_visibility(&self, receipt: &Receipt, seconds: u32) -> Result<(), AwsError> {
        let visibility = Visibility { receipt: receipt.clone(), seconds };
        self.0
            .visibilities
            .send(visibility)
            .await
            .unwrap_or_else(|| Err(self.batch_failed("ChangeMessageVisibilityBatch")))
    }

    /// Sends a message; returns its id.
    pub async fn send(&self, message: Outgoing) -> Result<String, AwsError> {
        self.0.sends.send(message).await.unwrap_or_else(|| Err(self.batch_failed("SendMessageBatch")))
    }

    /// About how many messages it holds.
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

    /// The name of its dead-letter queue, if it has one.
    pub async fn dead_letter_name(&self) -> Result<Option<String>, AwsError> {
        let attributes = self.attributes().await?;
        let policy = redrive_policy(&attributes);
        let arn = policy.as_ref().and_then(|p| p.get("deadLetterTargetArn")).and_then(|a| a.as_str());
        Ok(arn.and_then(name_of_arn))
    }

    /// The queue of that name in the same account and region.
    pub async fn sibling(&self, name: &str) -> Result<Self, AwsError> {
        let url = url_of(self.client(), name).await?;
        Ok(Self::new(
            self.0.requests.clients.clone(),
            self.0.receiving.clone(),
            url,
            self.0.run_queue.clone(),
        ))
    }

    /// Its dead-letter queue, if it has one.
    pub async fn dead_letter_queue(&self) -> Result<Option<Self>, AwsError> {
        let Some(name) = self.dead_letter_name().await? else {
            return Ok(None);
        };
        Ok(Some(self.sibling(&name).await?))
    }

    /// Starts a task of SQS that moves all visible messages of this dead-letter queue back to the queues that gave them up, at most
    /// `per_second` (1 to 500) a second. SQS gives each a new id and a new time. Returns the task's handle.
    pub async fn start_message_move(&self, per_second: Option<u32>) -> Result<String, AwsError> {
        let attributes = self.attributes().await?;
        let arn = attributes.get(QueueAttributeName::QueueArn.as_str()).cloned();
        let rate = per_second.map(|rate| i32::try_from(rate.clamp(1, 500)).unwrap_or(500));
        let started = self.client().start_message_move_task().set_source_arn(arn);
        let started = started.set_max_number_of_messages_per_second(rate).send().await;
        let started = started.map_err(|e| AwsError::of_sdk("StartMessageMoveTask", self.url(), &e))?;
        Ok(started.task_handle.unwrap_or_default())
    }

    async fn attributes(&self) -> Result<BTreeMap<String, String>, AwsError> {
        let got = self
            .client()
            .get_queue_attributes()
            .queue_url(self.url())
            .attribute_names(QueueAttributeName::All)
            .send()
            .await
            .map_err(|e| AwsError::of_sdk("GetQueueAttributes", self.url(), &e))?;
        Ok(got
            .attributes
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str().to_owned(), value))
            .collect())
    }

    fn client(&self) -> &Client {
        &self.0.requests.clients.sdk
    }

    fn batch_failed(&self, operation: &str) -> AwsError {
        AwsError::passing(format!(
            "{operation} on {} failed: the task that sent its batch panicked",
            self.url()
        ))
    }
}

/// A batcher of those items; what the service rejects as a whole is sent one by one.
fn batcher<I, R>(requests: &Arc<Requests>, run_queue: &RunQueue) -> Batcher<I, Result<R, AwsError>>
where
    I: BatchItem + Sync,
    R: Send + 'static,
    Requests: SendPart<I, R>,
{
    let requests = requests.clone();
    Batcher::new(RULES, run_queue.clone(), move |batch| {
        let requests = requests.clone();
        async move { send_or_split(&batch, &*requests).await }
    })
}

pub(super) fn delivery(queue: &Queue, message: ReceivedMessage) -> Delivery {
    let system = message.attributes.unwrap_or_default();
    let number = |text: Option<String>| text.and_then(|n| n.parse::<i64>().ok());
    let texts = message.message_attributes.into_iter().flatten();
    Delivery {
        queue: queue.clone(),
        body: message.body.unwrap_or_default(),
        message_id: message.message_id.unwrap_or_default(),
        receipt: Receipt(message.receipt_handle.unwrap_or_default()),
        sent_at: Timestamp::from_ms(number(system.sent_timestamp).unwrap_or(0)),
        receive_count: number(system.approximate_receive_count)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(1),
        sender: system.sender_id,
        attributes: texts.filter_map(|(name, value)| Some((name, value.string_value?))).collect(),
        trace_header: system.trace_header,
        group: system.message_group_id,
        given_up_by: system.dead_letter_queue_source_arn.and_then(|arn| name_of_arn(&arn)),
    }
}

fn redrive_policy(attributes: &BTreeMap<String, String>) -> Option<serde_json::Value> {
    serde_json::from_str(attributes.get(QueueAttributeName::RedrivePolicy.as_str())?).ok()
}

fn name_of_arn(arn: &str) -> Option<String> {
    arn.rsplit(':').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// The URL of the queue of that name in this account and region.
pub(crate) async fn url_of(client: &Client, name: &str) -> Result<String, AwsError> {
    let got = client.get_queue_url().queue_name(name).send().await;
    let got = got.map_err(|e| AwsError::of_sdk("GetQueueUrl", name, &e))?;
    got.queue_url.ok_or_else(|| AwsError::passing(format!("GetQueueUrl on {name}: the reply has no URL")))
}
