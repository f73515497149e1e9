//! Requests of ten entries: deletions, visibility time-outs and messages. Each entry has its own result.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    MessageAttributeValue, SendMessageBatchRequestEntry,
};
use toolfleet_core::digest::Digest;

use super::messages::{Outgoing, Receipt};
use crate::batch::{BatchItem, Rules, send_or_split};
use crate::error::AwsError;

/// The service's limits of one batch: ten entries, 1 MiB. While the runtime lags, a request waits two milliseconds at most.
pub(crate) const RULES: Rules =
    Rules { max_items: 10, max_bytes: 1_048_576, linger: Duration::from_millis(2), max_in_flight: 32 };
/// No call waits for the deletion of a message in a standard queue, so it may wait for nine others; not so long that many messages are
/// received again after a crash.
const DELETE_WAIT: Duration = Duration::from_millis(150);
/// The group of a message in a FIFO queue that names none.
const NO_GROUP: &str = "-";

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

impl BatchItem for Deletion {
    fn key(&self) -> Option<&str> {
        Some(&self.receipt.0)
    }
    fn bytes(&self) -> usize {
        self.receipt.0.len()
    }
    fn may_wait(&self) -> Option<Duration> {
        (!self.frees_group).then_some(DELETE_WAIT)
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

/// One result per entry, or the error of the whole request.
type Results<A> = Result<Vec<Result<A, AwsError>>, AwsError>;

pub(crate) async fn delete_batch(
    client: Client,
    url: String,
    batch: Vec<Deletion>,
) -> Vec<Result<(), AwsError>> {
    send_or_split(&batch, |part| delete_part(&client, &url, part)).await
}

fn delete_part(
    client: &Client,
    url: &str,
    part: &[Deletion],
) -> impl Future<Output = Results<()>> + Send + use<> {
    const OPERATION: &str = "DeleteMessageBatch";
    let entry = |(n, deletion): (usize, &Deletion)| {
        let entry = DeleteMessageBatchRequestEntry::builder().id(n.to_string());
        entry.receipt_handle(&deletion.receipt.0).build()
    };
    let entries = part.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
    let (request, url, count) = (client.delete_message_batch().queue_url(url), url.to_owned(), part.len());
    async move {
        let entries = entries.map_err(|e| AwsError::configuration(e.to_string()))?;
        let output = request.set_entries(Some(entries)).send().await;
        let output = output.map_err(|e| AwsError::of_sdk(OPERATION, &url, &e))?;
        Ok(results_of(OPERATION, &url, count, |_| Some(()), &output.failed))
    }
}

pub(crate) async fn change_batch(
    client: Client,
    url: String,
    batch: Vec<Visibility>,
) -> Vec<Result<(), AwsError>> {
    send_or_split(&batch, |part| change_part(&client, &url, part)).await
}

fn change_part(
    client: &Client,
    url: &str,
    part: &[Visibility],
) -> impl Future<Output = Results<()>> + Send + use<> {
    const OPERATION: &str = "ChangeMessageVisibilityBatch";
    let entry = |(n, visibility): (usize, &Visibility)| {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(n.to_string())
            .receipt_handle(&visibility.receipt.0)
            .visibility_timeout(i32::try_from(visibility.seconds).unwrap_or(43_200).min(43_200))
            .build()
    };
    let entries = part.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>();
    let request = client.change_message_visibility_batch().queue_url(url);
    let (url, count) = (url.to_owned(), part.len());
    async move {
        let entries = entries.map_err(|e| AwsError::configuration(e.to_string()))?;
        let output = request.set_entries(Some(entries)).send().await;
        let output = output.map_err(|e| AwsError::of_sdk(OPERATION, &url, &e))?;
        Ok(results_of(OPERATION, &url, count, |_| Some(()), &output.failed))
    }
}

pub(crate) async fn send_batch(
    client: Client,
    url: String,
    batch: Vec<Outgoing>,
) -> Vec<Result<String, AwsError>> {
    send_or_split(&batch, |part| send_part(&client, &url, part)).await
}

fn send_part(
    client: &Client,
    url: &str,
    part: &[Outgoing],
) -> impl Future<Output = Results<String>> + Send + use<> {
    const OPERATION: &str = "SendMessageBatch";
    let fifo = url.ends_with(".fifo");
    let entry = |(n, message): (usize, &Outgoing)| {
        let mut entry = SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(&message.body);
        for (name, value) in &message.attributes {
            let value = MessageAttributeValue::builder().data_type("String").string_value(value).build();
            entry = entry.message_attributes(name, value.map_err(|e| e.to_string())?);
        }
        if fifo {
            // As content-based deduplication does: the same body within five minutes is the same message.
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
        Ok(results_of(OPERATION, &url, count, id_of, &output.failed))
    }
}

/// One result per entry: its own error, or the result that `done` gives for its success.
fn results_of<A>(
    operation: &str,
    url: &str,
    count: usize,
    done: impl Fn(&str) -> Option<A>,
    failed: &[BatchResultErrorEntry],
) -> Vec<Result<A, AwsError>> {
    let result = |n: usize| {
        let id = n.to_string();
        match failed.iter().find(|f| f.id == id) {
            Some(f) => {
                Err(AwsError::of_code(operation, url, &f.code, f.message.as_deref().unwrap_or_default()))
            }
            None => done(&id)
                .ok_or_else(|| AwsError::passing(format!("{operation} on {url}: no result for an entry"))),
        }
    };
    (0..count).map(result).collect()
}
