//! Records when the result of each call was stored: when DynamoDB answered the write that set the call's row to `done`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

/// The state of a row with a result, as the SDKs write a text.
const DONE: &str = r#"{"S":"done"}"#;

/// When the results of one tenant's calls were stored. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct StoredTimes {
    /// The first part of the partition key of a row: `tenant#`, with the quotation mark before it.
    prefix: Arc<str>,
    times: Arc<Mutex<HashMap<String, Instant>>>,
}

impl StoredTimes {
    pub(crate) fn of(tenant: &str) -> Self {
        Self { prefix: format!("\"{tenant}#").into(), times: Arc::default() }
    }

    /// Records the calls whose result was written by that request, which has just been answered.
    pub(crate) fn answered(&self, operation: &str, request: &[u8]) {
        let Ok(request) = std::str::from_utf8(request) else { return };
        let now = Instant::now();
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let mut record = |write: &str| {
            if let Some(call) = self.stored_call(write) {
                times.entry(call.to_owned()).or_insert(now);
            }
        };
        match operation {
            "BatchExecuteStatement" => {
                let batch = serde_json::from_str::<Batch<'_>>(request);
                batch.iter().flat_map(|batch| &batch.statements).for_each(|write| record(write.get()));
            }
            "UpdateItem" | "PutItem" => record(request),
            _ => {}
        }
    }

    /// The time of each call so far; forgets them.
    pub(crate) fn take(&self) -> HashMap<String, Instant> {
        std::mem::take(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The call whose result one write stores.
    fn stored_call<'a>(&self, write: &'a str) -> Option<&'a str> {
        let write = write.contains(DONE).then_some(write)?;
        let (_, rest) = write.split_once(&*self.prefix)?;
        rest.split_once('"').map(|(call, _)| call)
    }
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(rename = "Statements", borrow)]
    statements: Vec<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_writes_that_store_a_result_are_recorded() {
        let stored = StoredTimes::of("t");
        let batch = r#"{"Statements":[
            {"Statement":"INSERT","Parameters":[{"S":"t#claimed-1"},{"S":"claimed"}]},
            {"Statement":"UPDATE","Parameters":[{"S":"done"},{"N":"2"},{"S":"t#ended-1"}]},
            {"Statement":"INSERT","Parameters":[{"S":"t#ended-2"},{"S":"done"}]},
            {"Statement":"INSERT","Parameters":[{"S":"t#2026-11-29T09#0"},{"S":"call"}]}]}"#;
        stored.answered("BatchExecuteStatement", batch.as_bytes());
        let put = r#"{"TableName":"calls","Key":{"pk":{"S":"t#ended-3"}},"ExpressionAttributeValues":{":done":{"S":"done"}}}"#;
        stored.answered("UpdateItem", put.as_bytes());
        stored.answered("GetItem", put.replace("ended-3", "read-1").as_bytes());
        let mut calls: Vec<_> = stored.take().into_keys().collect();
        calls.sort();
        assert_eq!(calls, ["ended-1", "ended-2", "ended-3"]);
        assert!(stored.take().is_empty());
    }
}
