//! Owns what is counted of the workers' requests to AWS: how many, with how many entries, and what DynamoDB says they consumed.
//!
//! DynamoDB counts units itself when it is asked to, so every request to it is asked to here, on the way; the workers do not ask.
//! What it charges for a write that was refused stands in a table's total and in no index; of a request whose writes were all refused
//! it says nothing and charges them all the same, so these are sized here.
//!
//! **Invariant:** an entry is never counted within a text, where quotation marks are escaped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// SQS bills a request once for each 64 KiB of what it carries.
const SQS_CHUNK_BYTES: usize = 64 * 1024;
/// A write unit holds so much.
const WRITE_UNIT_BYTES: usize = 1024;
/// What makes DynamoDB say what a request consumed, index by index.
const ASKING: &[u8] = br#""ReturnConsumedCapacity":"INDEXES","#;

/// How often an operation was asked for, and for how much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Entries of batches (statements, receipts, messages received); one for a request that is no batch.
    pub entries: u64,
    /// As how many requests SQS bills them; 0 for DynamoDB, which bills units.
    pub billed: u64,
    /// Write request units.
    pub write_units: f64,
    /// Read request units.
    pub read_units: f64,
}

/// What the workers asked AWS for.
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
        })
    }
}

/// The traffic of a run, shared by its proxies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<Traffic>>);

impl Counts {
    pub(crate) fn now(&self) -> Traffic {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins anew: what was asked for before the load is not the load's.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Traffic::default();
    }

    /// A request that is about to be handed on.
    pub(crate) fn asked(&self, operation: &str, body: &[u8]) {
        let entries = match operation {
            // What a receive brings stands in its answer.
            "ReceiveMessage" => 0,
            "BatchExecuteStatement" => occurrences(body, b"\"Statement\":"),
            "BatchGetItem" => occurrences(body, b"\"pk\":"),
            batch if batch.ends_with("Batch") => occurrences(body, b"\"Id\":"),
            _ => 1,
        };
        self.add(operation, |count| {
            count.requests += 1;
            count.entries += entries;
            // An operation that says what it brought is billed by its answer.
            if is_of_sqs(operation) && operation != "ReceiveMessage" {
                count.billed += chunks(body);
            }
        });
    }

    /// Its answer.
    pub(crate) fn answered(&self, operation: &str, asked: &[u8], body: &[u8]) {
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
            None => refused(asked, &answer.responses),
        };
        let reads = matches!(operation, "GetItem" | "BatchGetItem" | "Query" | "Scan");
        for capacity in consumed {
            if reads {
                self.add(operation, |count| count.read_units += capacity.units);
                continue;
            }
            self.add(operation, |count| count.write_units += capacity.units);
            let mut traffic = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (place, units) in capacity.places() {
                *traffic.write_units.entry(place).or_default() += units;
            }
        }
    }

    fn add(&self, operation: &str, add: impl FnOnce(&mut Count)) {
        let mut traffic = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        add(traffic.operations.entry(operation.to_owned()).or_default());
    }
}

/// The body of a request, asking for its units where that is known to be possible.
pub(crate) fn asking_for_units(operation: &str, body: Vec<u8>) -> Vec<u8> {
    let counted = ["BatchExecuteStatement", "GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem"];
    if !counted.contains(&operation) || occurrences(&body, b"\"ReturnConsumedCapacity\":") > 0 {
        return body;
    }
    match body.strip_prefix(b"{\"") {
        Some(rest) => [b"{", ASKING, b"\"", rest].concat(),
        None => body,
    }
}

fn is_of_sqs(operation: &str) -> bool {
    operation.contains("Message") || operation.contains("Queue")
}

fn chunks(body: &[u8]) -> u64 {
    u64::try_from(body.len().div_ceil(SQS_CHUNK_BYTES)).unwrap_or(u64::MAX).max(1)
}

/// A quotation mark within a text is escaped, so a name with its marks is a member's name.
fn occurrences(body: &[u8], member: &[u8]) -> u64 {
    let found = body.windows(member.len()).filter(|window| *window == member).count();
    u64::try_from(found).unwrap_or(u64::MAX)
}

/// What DynamoDB charges for the writes of a request that it refused as a whole: what each would have written, a unit at least.
fn refused(asked: &[u8], responses: &[Response]) -> Vec<Capacity> {
    let Ok(Asked { statements }) = serde_json::from_slice(asked) else { return Vec::new() };
    let charged = |response: &Response| {
        let code = response.error.as_ref().map(|error| error.code.as_str());
        matches!(code, Some("DuplicateItem" | "ConditionalCheckFailed"))
    };
    let refused = statements.iter().zip(responses).filter(|(_, response)| charged(response));
    let capacity = |(statement, _): (&Statement<'_>, _)| {
        let inserts = statement.text.starts_with("INSERT");
        // Names stand in the text and values in the parameters, both with some marks around them: a little too much.
        let bytes = if inserts { statement.text.len() + statement.parameters.get().len() } else { 0 };
        let table = statement.text.split('"').nth(1).unwrap_or("(no table)").to_owned();
        let units = bytes.div_ceil(WRITE_UNIT_BYTES).max(1) as f64;
        Capacity { table, units, own: None, indexes: BTreeMap::new() }
    };
    refused.map(capacity).collect()
}

#[derive(Deserialize)]
struct Asked<'a> {
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
    fn entries_are_counted_in_batches_alone_and_never_within_texts() {
        let counts = Counts::default();
        let deletes = br#"{"Entries":[{"Id":"0","ReceiptHandle":"\"Id\":"},{"Id":"1"}]}"#;
        counts.asked("DeleteMessageBatch", deletes);
        counts.asked("BatchExecuteStatement", br#"{"Statements":[{"Statement":"x"}]}"#);
        counts.asked("SendMessage", br#"{"Id":"0","Id":"1"}"#);
        counts.asked("ReceiveMessage", b"{}");
        counts.answered(
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
        counts.asked("SendMessageBatch", &[b' '; 64 * 1024 + 1]);
        counts.asked("ReceiveMessage", b"{}");
        counts.answered("ReceiveMessage", b"{}", b"{}");
        assert_eq!(counts.now().operations.get("SendMessageBatch").map(|c| c.billed), Some(2));
        assert_eq!(counts.now().operations.get("ReceiveMessage").map(|c| c.billed), Some(1));
    }

    #[test]
    fn units_are_told_apart_by_table_index_and_refusal() {
        let counts = Counts::default();
        let answer = br#"{"Responses":[],"ConsumedCapacity":[{"TableName":"h","CapacityUnits":4.0,"Table":{"CapacityUnits":2.0},"GlobalSecondaryIndexes":{"by_session":{"CapacityUnits":1.0}}}]}"#;
        counts.answered("BatchExecuteStatement", b"{}", answer);
        counts.answered("GetItem", b"{}", br#"{"ConsumedCapacity":{"TableName":"h","CapacityUnits":0.5}}"#);
        let traffic = counts.now();
        let expected =
            [("h".to_owned(), 2.0), ("h, refused".to_owned(), 1.0), ("h/by_session".to_owned(), 1.0)];
        assert_eq!(traffic.write_units, BTreeMap::from(expected));
        assert_eq!((traffic.total().write_units, traffic.total().read_units), (4.0, 0.5));
    }

    #[test]
    fn writes_that_were_all_refused_are_charged_though_nothing_is_said_of_them() {
        let counts = Counts::default();
        let long = "x".repeat(1_500);
        let asked = format!(
            r#"{{"Statements":[{{"Statement":"INSERT INTO \"calls\" VALUE {{'pk': ?}}","Parameters":[{{"S":"{long}"}}]}},
            {{"Statement":"UPDATE \"calls\" SET a=?","Parameters":[{{"S":"{long}"}}]}},
            {{"Statement":"INSERT INTO \"h\" VALUE {{'pk': ?}}","Parameters":[{{"S":"a"}}]}}]}}"#
        );
        let answer = br#"{"Responses":[{"Error":{"Code":"DuplicateItem"}},{"Error":{"Code":"ConditionalCheckFailed"}},{"Error":{"Code":"ThrottlingError"}}]}"#;
        counts.answered("BatchExecuteStatement", asked.as_bytes(), answer);
        assert_eq!(counts.now().write_units, BTreeMap::from([("calls, refused".to_owned(), 3.0)]));
        assert_eq!(counts.now().total().write_units, 3.0);
    }

    #[test]
    fn only_dynamodb_is_asked_for_units_and_only_once() {
        let asked = asking_for_units("GetItem", br#"{"TableName":"t"}"#.to_vec());
        assert_eq!(asked, br#"{"ReturnConsumedCapacity":"INDEXES","TableName":"t"}"#);
        assert_eq!(asking_for_units("GetItem", asked.clone()), asked);
        assert_eq!(asking_for_units("ReceiveMessage", b"{\"a\":1}".to_vec()), b"{\"a\":1}");
        assert_eq!(asking_for_units("GetItem", b"{}".to_vec()), b"{}");
    }
}
