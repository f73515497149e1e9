//! Parts that all operations share: reading a request, and the rules of a batch.

use std::collections::HashSet;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::names::queue_name_of_url;
use crate::sqs::error::SqsError;

pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, SqsError> {
    let text: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(text).map_err(|error| SqsError::Serialization(error.to_string()))
}

pub(super) fn queue_name(url: &str) -> Result<&str, SqsError> {
    match queue_name_of_url(url) {
        "" => Err(SqsError::MissingParameter("QueueUrl")),
        name => Ok(name),
    }
}

/// Checks that an optional number is within its limits.
pub(super) fn within(name: &str, value: Option<i64>, least: u64, most: u64) -> Result<Option<u64>, SqsError> {
    match value.map(|number| (number, u64::try_from(number))) {
        None => Ok(None),
        Some((_, Ok(number))) if (least..=most).contains(&number) => Ok(Some(number)),
        Some((number, _)) => {
            let reason = format!("Must be between {least} and {most}, if provided.");
            let problem = format!("Value {number} for parameter {name} is invalid. Reason: {reason}");
            Err(SqsError::InvalidParameterValue(problem))
        }
    }
}

/// Checks the rules of every batch: 1 to 10 entries, with ids that are well formed and distinct.
pub(super) fn check_batch<'a>(
    ids: impl Iterator<Item = &'a str>,
    entry_kind: &'static str,
) -> Result<(), SqsError> {
    let ids: Vec<_> = ids.collect();
    if ids.is_empty() {
        return Err(SqsError::EmptyBatchRequest(entry_kind));
    }
    if ids.len() > 10 {
        return Err(SqsError::TooManyEntries(ids.len()));
    }
    let mut seen = HashSet::new();
    for id in ids {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if id.is_empty() || id.len() > 80 || !id.chars().all(allowed) {
            return Err(SqsError::InvalidBatchEntryId);
        }
        if !seen.insert(id) {
            return Err(SqsError::BatchEntryIdsNotDistinct(id.to_owned()));
        }
    }
    Ok(())
}

/// The answer to a batch: one result for each entry, in an HTTP 200.
#[derive(Default)]
pub(super) struct BatchAnswer {
    successful: Vec<Value>,
    failed: Vec<Value>,
}

impl BatchAnswer {
    pub(super) fn add(&mut self, id: &str, result: Result<Value, SqsError>) {
        match result {
            Ok(mut entry) => {
                if let Some(entry) = entry.as_object_mut() {
                    entry.insert("Id".to_owned(), id.into());
                }
                self.successful.push(entry);
            }
            Err(error) => self.failed.push(json!({
                "Id": id,
                "Code": error.query_code(),
                "Message": error.to_string(),
                "SenderFault": error.is_senders_fault(),
            })),
        }
    }

    pub(super) fn into_value(self) -> Value {
        json!({ "Successful": self.successful, "Failed": self.failed })
    }
}
