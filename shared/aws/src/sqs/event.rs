//! The event of a Lambda function whose event source is a queue: messages that Lambda has received.
//!
//! The form: AWS Lambda developer guide, "Using Lambda with Amazon SQS".

use std::collections::BTreeMap;

use serde::Deserialize;

use super::queue::{Delivery, Queue, delivery};
use super::wire::{ReceivedMessage, ReceivedText, SystemAttributes};

/// An event that brings no messages of the queues.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// It is no event of SQS.
    #[error(
        "the event is none of SQS: {0}; accepted is what an event source mapping of a calls queue sends, with a list `Records`"
    )]
    Form(#[from] serde_json::Error),
    /// A message is from another queue.
    #[error(
        "Records[{place}].eventSourceARN: is `{arn}`, which is none of the queues that are read; accepted are {known}. Remove that event \
         source mapping, or name the queue in TOOLFLEET_QUEUE_URL, TOOLFLEET_QUEUE_URL_HIGH or TOOLFLEET_QUEUE_URL_LOW"
    )]
    UnknownQueue {
        /// Which message, from 0 on.
        place: usize,
        /// Its queue.
        arn: String,
        /// The URLs of the queues that are read.
        known: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    receipt_handle: String,
    body: String,
    attributes: SystemAttributes,
    #[serde(default)]
    message_attributes: BTreeMap<String, Text>,
    #[serde(rename = "eventSourceARN")]
    source: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    string_value: Option<String>,
}

/// The messages of an event, in their order. Each is of one of `queues`.
///
/// # Errors
/// See [`EventError`].
pub fn deliveries(event: &[u8], queues: &[&Queue]) -> Result<Vec<Delivery>, EventError> {
    let Event { records } = serde_json::from_slice(event)?;
    let of = |(place, record): (usize, Record)| {
        let Some(queue) = queues.iter().find(|queue| is_at(queue.url(), &record.source)) else {
            let known = queues.iter().map(|queue| queue.url()).collect::<Vec<_>>().join(", ");
            return Err(EventError::UnknownQueue { place, arn: record.source, known });
        };
        Ok(delivery(queue, record.into()))
    };
    records.into_iter().enumerate().map(of).collect()
}

/// Whether the queue of that URL (`https://HOST/ACCOUNT/NAME`) has that ARN (`arn:PARTITION:sqs:REGION:ACCOUNT:NAME`). One function reads
/// queues of one region.
fn is_at(url: &str, arn: &str) -> bool {
    let mut of_arn = arn.rsplit(':');
    let mut of_url = url.rsplit('/');
    let same = |(one, other): (Option<&str>, Option<&str>)| one.is_some_and(|one| Some(one) == other);
    arn.starts_with("arn:") && same((of_arn.next(), of_url.next())) && same((of_arn.next(), of_url.next()))
}

impl From<Record> for ReceivedMessage {
    fn from(record: Record) -> Self {
        let Record { message_id, receipt_handle, body, attributes, message_attributes, .. } = record;
        let text = |(name, text): (String, Text)| (name, ReceivedText { string_value: text.string_value });
        Self {
            message_id: Some(message_id),
            receipt_handle: Some(receipt_handle),
            body: Some(body),
            attributes: Some(attributes),
            message_attributes: Some(message_attributes.into_iter().map(text).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_found_by_account_and_name() {
        let url = "https://sqs.eu-central-1.amazonaws.com/123456789012/toolfleet-calls";
        assert!(is_at(url, "arn:aws:sqs:eu-central-1:123456789012:toolfleet-calls"));
        for other in [
            "arn:aws:sqs:eu-central-1:123456789012:toolfleet-calls-high",
            "arn:aws:sqs:eu-central-1:210987654321:toolfleet-calls",
            "toolfleet-calls",
            "",
        ] {
            assert!(!is_at(url, other), "{other}");
        }
    }
}
