//! Counts the workers' requests to AWS: requests, entries of batches, and the units that DynamoDB consumed.
//!
//! DynamoDB reports units on request (`ReturnConsumedCapacity`). The workers do not request them, so the counting proxy adds the member.
//! A refused write is in the total of its table and in no index. For a request whose writes were all refused DynamoDB reports nothing, but
//! charges them, so their units are computed here.
//!
//! **Invariant:** entries are not counted inside of strings, where quotation marks are escaped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::receives::{self, Receive};
use crate::stored::StoredTimes;

/// SQS bills each 64 KiB of a payload as one request.
const SQS_CHUNK_BYTES: usize = 64 * 1024;
/// The size of a write unit.
const WRITE_UNIT_BYTES: usize = 1024;
/// Makes DynamoDB report the consumed units by index.
const RETURN_CAPACITY: &[u8] = br#""ReturnConsumedCapacity":"INDEXES","#;

/// The requests of one operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Entries of batches (statements, receipts, received messages); 1 for a request that is not a batch.
    pub entries: u64,
    /// Requests that SQS bills; 0 for DynamoDB, which bills units.
    pub billed: u64,
    /// Write request units.
    pub write_units: f64,
    /// Read request units.
    pub read_units: f64,
    /// The most write request units of one request to one table.
    pub most_write_units: f64,
}

/// The requests of all workers to AWS.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// By operation.
    pub operations: BTreeMap<String, Count>,
    /// Write request units by table, index (`table/index`), and refused writes (`table, refused`).
    pub write_units: BTreeMap<String, f64>,
}

impl Traffic {
    /// All operations together.
    pub fn total(&self) -> Count {
        self.operations.values().fold(Count::default(), |all, one| Count {
            requests: all.requests + one.requests,
            entries: all.entries + one.entries,
            billed: all.billed + one.billed,
            write_units: all.write_units + one.write_units,
            read_units: all.read_units + one.read_units,
            most_write_units: all.most_write_units.max(one.most_write_units),
        })
    }
}

/// The traffic of a run, shared by its proxies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    traffic: Arc<Mutex<Traffic>>,
    /// Every receive in order, where they are recorded.
    receives: Option<Arc<Mutex<Vec<Receive>>>>,
    /// When each result was stored, where that is recorded.
    stored: Option<StoredTimes>,
}

impl Counts {
    /// Counts that also record which worker received which call.
    pub(crate) fn with_receives() -> Self {
        Self { receives: Some(Arc::default()), ..Self::default() }
    }

    /// Counts that also record when the result of each call was stored.
    pub(crate) fn with_stored(stored: StoredTimes) -> Self {
        Self { stored: Some(stored), ..Self::default() }
    }

    pub(crate) fn now(&self) -> Traffic {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The receives so far; none where they are not recorded.
    pub(crate) fn receives(&self) -> Vec<Receive> {
        let receives = self.receives.as_ref();
        receives.map_or_else(Vec::new, |all| all.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Resets the counts: requests before the load do not count. Receives are kept.
    pub(crate) fn reset(&self) {
        *self.traffic.lock().unwrap_or_else(PoisonError::into_inner) = Traffic::default();
    }

    /// Records the messages in the answer to a receive of that worker.
    pub(crate) fn received(&self, worker: &str, answer: &[u8]) {
        if let Some(receives) = &self.receives {
            let got = receives::in_answer(worker, answer);
            receives.lock().unwrap_or_else(PoisonError::into_inner).extend(got);
        }
    }

    /// Counts a request before it is forwarded.
    pub(crate) fn request(&self, operation: &str, body: &[u8]) {
        let entries = match operation {
            // The messages of a receive are counted in its answer.
            "ReceiveMessage" => 0,
            "BatchExecuteStatement" => occurrences(body, b"\"Statement\":"),
            "BatchGetItem" => occurrences(body, b"\"pk\":"),
            batch if batch.ends_with("Batch") => occurrences(body, b"\"Id\":"),
            _ => 1,
        };
        self.add(operation, |count| {
            count.requests += 1;
            count.entries += entries;
            // A receive is billed by the size of its answer.
            if is_of_sqs(operation) && operation != "ReceiveMessage" {
                count.billed += chunks(body);
            }
        });
    }

    /// Counts an answer.
    pub(crate) fn answer(&self, operation: &str, request: &[u8], body: &[u8]) {
        if let Some(stored) = &self.stored {
            stored.answered(operation, request);
        }
        if operation == "ReceiveMessage" {
            let messages = occurrences(body, b"\"ReceiptHandle\":");
            return self.add(operation, |count| {
                count.entries += messages;
                count.billed += chunks(body);
            });
        }
        if is_of_sqs(operation) {
            return;
        }
        let Ok(answer) = serde_json::from_slice::<Answer>(body) else { return };
        let consumed = match answer.consumed_capacity {
            Some(consumed) => consumed.all(),
            None => refused(request, &answer.responses),
        };
        let reads = matches!(operation, "GetItem" | "BatchGetItem" | "Query" | "Scan");
        for capacity in consumed {
            if reads {
                self.add(operation, |count| count.read_units += capacity.units);
                continue;
            }
            self.add(operation, |count| {
                count.write_units += capacity.units;
                count.most_write_units = count.most_write_units.max(capacity.units);
            });
            let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
            for (place, units) in capacity.places() {
                *traffic.write_units.entry(place).or_default() += units;
            }
        }
    }

    fn add(&self, operation: &str, add: impl FnOnce(&mut Count)) {
        let mut traffic = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        add(traffic.operations.entry(operation.to_owned()).or_default());
    }
}

/// Adds the request for consumed units to the body, where the operation allows it.
pub(crate) fn with_return_capacity(operation: &str, body: Vec<u8>) -> Vec<u8> {
    let counted = [
        "BatchExecuteStatement",
        "BatchGetItem",
        "DeleteItem",
        "GetItem",
        "PutItem",
        "Query",
        "TransactWriteItems",
        "UpdateItem",
    ];
    if !counted.contains(&operation) || occurrences(&body, b"\"ReturnConsumedCapacity\":") > 0 {
        return body;
    }
    match body.strip_prefix(b"{\"") {
        Some(rest) => [b"{", RETURN_CAPACITY, b"\"", rest].concat(),
        None => body,
    }
}

fn is_of_sqs(operation: &str) -> bool {
    operation.contains("Message") || operation.contains("Queue")
}

fn chunks(body: &[u8]) -> u64 {
    u64::try_from(body.len().div_ceil(SQS_CHUNK_BYTES)).unwrap_or(u64::MAX).max(1)
}

/// Counts a member's name with its quotation marks. Inside of a string the marks are escaped, so it is not counted there.
fn occurrences(body: &[u8], member: &[u8]) -> u64 {
    let found = body.windows(member.len()).filter(|window| *window == member).count();
    u64::try_from(found).unwrap_or(u64::MAX)
}

/// The units that DynamoDB charges for a request whose writes were all refused: the size of each write, one unit at least.
fn refused(request: &[u8], responses: &[Response]) -> Vec<Capacity> {
    let Ok(Statements { statements }) = serde_json::from_slice(request) else { return Vec::new() };
    let charged = |response: &Response| {
        let code = response.error.as_ref().map(|error| error.code.as_str());
        matches!(code, Some("DuplicateItem" | "ConditionalCheckFailed"))
    };
    let refused = statements.iter().zip(responses).filter(|(_, response)| charged(response));
    let capacity = |(statement, _): (&Statement<'_>, _)| {
        let inserts = statement.text.starts_with("INSERT");
        // Statement and parameters are a little larger than the item, so this is an upper bound.
        let bytes = if inserts { statement.text.len() + statement.parameters.get().len() } else { 0 };
        let table = statement.text.split('"').nth(1).unwrap_or("(no table)").to_owned();
        let units = bytes.div_ceil(WRITE_UNIT_BYTES).max(1) as f64;
        Capacity { table, units, own: None, indexes: BTreeMap::new() }
    };
    refused.map(capacity).collect()
}

#[derive(Deserialize)]
struct Statements<'a> {
    #[serde(rename = "Statements", borrow)]
    statements: Vec<Statement<'a>>,
}

#[derive(Deserialize)]
struct Statement<'a> {
    #[serde(rename = "Statement")]
    text: String,
    #[serde(rename = "Parameters", borrow)]
    parameters: &'a RawValue,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "ConsumedCapacity")]
    consumed_capacity: Option<Consumed>,
    /// Those of a batch of statements; other operations answer in other shapes.
    #[serde(rename = "Responses", default, deserialize_with = "statements_alone")]
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Response {
    #[serde(rename = "Error")]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(rename = "Code")]
    code: String,
}

/// BatchGetItem answers with an object where a batch of statements answers with a list.
fn statements_alone<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Response>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<Response>),
        Other(IgnoredAny),
    }
    Ok(match Either::deserialize(from)? {
        Either::List(list) => list,
        Either::Other(_) => Vec::new(),
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Consumed {
    Many(Vec<Capacity>),
    One(Capacity),
}

impl Consumed {
    fn all(self) -> Vec<Capacity> {
        match self {
            Self::Many(all) => all,
            Self::One(one) => vec![one],
        }
    }
}

#[derive(Deserialize)]
struct Capacity {
    #[serde(rename = "TableName")]
    table: String,
    #[serde(rename = "CapacityUnits")]
    units: f64,
    #[serde(rename = "Table")]
    own: Option<Arm>,
    #[serde(rename = "GlobalSecondaryIndexes", default)]
    indexes: BTreeMap<String, Arm>,
}

#[derive(Deserialize)]
struct Arm {
    #[serde(rename = "CapacityUnits")]
    units: f64,
}

impl Capacity {
    fn places(&self) -> Vec<(String, f64)> {
        let own = self.own.as_ref().map_or(0.0, |own| own.units);
        let indexes = self.indexes.iter().map(|(name, arm)| (format!("{}/{name}", self.table), arm.units));
        let mut places: Vec<_> = indexes.collect();
        let refused = self.units - own - places.iter().map(|(_, units)| units).sum::<f64>();
        places.push((self.table.clone(), own));
        places.push((format!("{}, refused", self.table), refused));
        places.retain(|(_, units)| *units > 0.0);
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_in_batches_and_not_inside_of_strings() {
        let counts = Counts::default();
        let deletes = br#"{"Entries":[{"Id":"0","ReceiptHandle":"\"Id\":"},{"Id":"1"}]}"#;
        counts.request("DeleteMessageBatch", deletes);
        counts.request("BatchExecuteStatement", br#"{"Statements":[{"Statement":"x"}]}"#);
        counts.request("SendMessage", br#"{"Id":"0","Id":"1"}"#);
        counts.request("ReceiveMessage", b"{}");
        counts.answer(
            "ReceiveMessage",
            b"{}",
            br#"{"Messages":[{"ReceiptHandle":"a","Body":"\"ReceiptHandle\":"}]}"#,
        );
        let entries = |name: &str| counts.now().operations.get(name).map(|c| c.entries);
        assert_eq!(entries("DeleteMessageBatch"), Some(2));
        assert_eq!(entries("BatchExecuteStatement"), Some(1));
        assert_eq!(entries("SendMessage"), Some(1));
        assert_eq!(entries("ReceiveMessage"), Some(1));
    }

    #[test]
    fn sqs_bills_every_64_kib_of_a_request_and_an_empty_receive() {
        let counts = Counts::default();
        counts.request("SendMessageBatch", &[b' '; 64 * 1024 + 1]);
        counts.request("ReceiveMessage", b"{}");
        counts.answer("ReceiveMessage", b"{}", b"{}");
        assert_eq!(counts.now().operations.get("SendMessageBatch").map(|c| c.billed), Some(2));
        assert_eq!(counts.now().operations.get("ReceiveMessage").map(|c| c.billed), Some(1));
    }

    #[test]
    fn units_are_counted_by_table_index_and_refusal() {
        let counts = Counts::default();
        let answer = br#"{"Responses":[],"ConsumedCapacity":[{"TableName":"h","CapacityUnits":4.0,"Table":{"CapacityUnits":2.0},"GlobalSecondaryIndexes":{"by_session":{"CapacityUnits":1.0}}}]}"#;
        counts.answer("BatchExecuteStatement", b"{}", answer);
        counts.answer("GetItem", b"{}", br#"{"ConsumedCapacity":{"TableName":"h","CapacityUnits":0.5}}"#);
        let traffic = counts.now();
        let expected =
            [("h".to_owned(), 2.0), ("h, refused".to_owned(), 1.0), ("h/by_session".to_owned(), 1.0)];
        assert_eq!(traffic.write_units, BTreeMap::from(expected));
        assert_eq!((traffic.total().write_units, traffic.total().read_units), (4.0, 0.5));
    }

    #[test]
    fn writes_that_were_all_refused_are_charged_without_a_report() {
        let counts = Counts::default();
        let long = "x".repeat(1_500);
        let asked = format!(
            r#"{{"Statements":[{{"Statement":"INSERT INTO \"calls\" VALUE {{'pk': ?}}","Parameters":[{{"S":"{long}"}}]}},
            {{"Statement":"UPDATE \"calls\" SET a=?","Parameters":[{{"S":"{long}"}}]}},
            {{"Statement":"INSERT INTO \"h\" VALUE {{'pk': ?}}","Parameters":[{{"S":"a"}}]}}]}}"#
        );
        let answer = br#"{"Responses":[{"Error":{"Code":"DuplicateItem"}},{"Error":{"Code":"ConditionalCheckFailed"}},{"Error":{"Code":"ThrottlingError"}}]}"#;
        counts.answer("BatchExecuteStatement", asked.as_bytes(), answer);
        assert_eq!(counts.now().write_units, BTreeMap::from([("calls, refused".to_owned(), 3.0)]));
        assert_eq!(counts.now().total().write_units, 3.0);
    }

    #[test]
    fn units_are_requested_of_dynamodb_only_and_once() {
        let asked = with_return_capacity("GetItem", br#"{"TableName":"t"}"#.to_vec());
        assert_eq!(asked, br#"{"ReturnConsumedCapacity":"INDEXES","TableName":"t"}"#);
        assert_eq!(with_return_capacity("GetItem", asked.clone()), asked);
        assert_eq!(with_return_capacity("ReceiveMessage", b"{\"a\":1}".to_vec()), b"{\"a\":1}");
        assert_eq!(with_return_capacity("GetItem", b"{}".to_vec()), b"{}");
    }
}
