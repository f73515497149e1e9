//! Requests that are sent without the SDK's orchestrator: they are those of the SDK, and what fails is the SDK's again.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toolfleet_aws::identity::{Keys, ToSign, signature};
use toolfleet_aws::queue::{Outgoing, Queue, Receipt};
use toolfleet_aws::{Store as _, Swap, Tables, Units};
use toolfleet_core::time::Timestamp;

use crate::stub::{Asked, Stub};
use crate::tables::claim;

/// Answers every request of a call as the services do.
fn success(body: &Value) -> Value {
    if let Some(statements) = body["Statements"].as_array() {
        let units = json!([{"TableName": "toolfleet-calls", "CapacityUnits": 2.0}]);
        let units = if body["ReturnConsumedCapacity"] == "TOTAL" { units } else { Value::Null };
        return json!({"Responses": vec![json!({}); statements.len()], "ConsumedCapacity": units});
    }
    if let Some(entries) = body["Entries"].as_array() {
        let sent = |e: &Value| json!({"Id": e["Id"], "MessageId": format!("m-{}", e["MessageBody"]), "MD5OfMessageBody": "x"});
        return json!({"Successful": entries.iter().map(sent).collect::<Vec<_>>(), "Failed": []});
    }
    json!({"Messages": [{
        "MessageId": "m1", "ReceiptHandle": "r1", "Body": "{\"a\":\"\u{e9}\"}", "MD5OfBody": "x",
        "Attributes": {
            "SentTimestamp": "1795000000000", "ApproximateReceiveCount": "3", "SenderId": "AIDA", "MessageGroupId": "acme",
            "AWSTraceHeader": "Root=1", "ApproximateFirstReceiveTimestamp": "1795000000001",
            "DeadLetterQueueSourceArn": "arn:aws:sqs:us-east-1:1:toolfleet-calls"
        },
        "MessageAttributes": {"traceparent": {"DataType": "String", "StringValue": "00-abc"}, "raw": {"DataType": "Binary", "BinaryValue": "AA=="}}
    }, {"MessageId": "m2", "ReceiptHandle": "r2", "Body": "", "MD5OfBody": "x"}]})
}

fn is_of_the_sdk(asked: &Asked) -> bool {
    asked.headers.contains_key("amz-sdk-invocation-id")
}

/// The headers but those of a single request, or of the SDK's attempts.
fn of_every_request(asked: &Asked) -> BTreeMap<&str, &str> {
    let single = ["authorization", "x-amz-date", "amz-sdk-invocation-id", "amz-sdk-request"];
    let headers = asked.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    headers.filter(|(name, _)| !single.contains(name)).collect()
}

fn message() -> Outgoing {
    Outgoing {
        body: "{\"tool\":\"\u{1f600}\"}".into(),
        delay_s: 7,
        group: Some("acme".into()),
        attributes: BTreeMap::from([("traceparent".to_owned(), "00-abc".to_owned())]),
        deduplication: None,
    }
}

async fn received(queue: &Queue) -> String {
    let all = queue.receive(7, 20, 30).await.unwrap();
    format!("{all:?}")
}

/// One request of each operation.
async fn each(stub: &Stub) -> Vec<String> {
    let (queue, fifo) = (stub.aws.queue("http://localhost/1/q"), stub.aws.queue("http://localhost/1/q.fifo"));
    let receipt: Receipt = queue.receive(1, 0, 30).await.unwrap().remove(0).receipt;
    queue.delete_at_once();
    let stored = stub.aws.calls(&Tables::with_prefix("toolfleet")).swap(None, &claim("c1", 1)).await.unwrap();
    assert!(matches!(stored, Swap::Stored));
    vec![
        received(&queue).await,
        queue.send(message()).await.unwrap(),
        fifo.send(message()).await.unwrap(),
        format!("{:?}", queue.delete(&receipt).await),
        format!("{:?}", queue.change_visibility(&receipt, 90_000).await),
    ]
}

#[tokio::test]
async fn requests_after_the_first_are_those_of_the_sdk_but_not_sent_by_it() {
    let stub = Stub::start(|_, body| (200, success(body))).await;
    let by_sdk = each(&stub).await;
    let count = stub.requests().len();
    let direct = each(&stub).await;
    assert_eq!(direct, by_sdk);
    assert!(by_sdk[0].contains("given_up_by: Some(\"toolfleet-calls\")") && by_sdk[0].contains("00-abc"));
    let requests = stub.requests();
    let (first, second) = requests.split_at(count);
    let operations =
        |all: &[Asked]| all.iter().map(|a| a.headers["x-amz-target"].clone()).collect::<Vec<_>>();
    assert_eq!(operations(second), operations(first));
    for (sdk, direct) in first.iter().zip(second) {
        assert_eq!(direct.body, sdk.body);
        assert!(!is_of_the_sdk(direct), "{direct:?}");
        assert_eq!(of_every_request(direct), of_every_request(sdk));
        assert_is_signed(sdk);
        assert_is_signed(direct);
    }
    // One of each operation was needed to see how it is sent.
    assert_eq!(first.iter().filter(|asked| is_of_the_sdk(asked)).count(), 5, "{first:?}");
}

fn header<'a>(asked: &'a Asked, name: &str) -> &'a str {
    asked.headers.get(name).map_or("", String::as_str)
}

/// The signature is that of AWS's own signer for what arrived.
fn assert_is_signed(asked: &Asked) {
    let given = header(asked, "authorization");
    let names = given.split_once("SignedHeaders=").unwrap().1.split_once(',').unwrap().0;
    for name in ["content-type", "host", "x-amz-date", "x-amz-target"] {
        assert!(names.split(';').any(|signed| signed == name), "{name} in {names}");
    }
    let date = header(asked, "x-amz-date");
    let part = |from, to| &date[from..to];
    let at = [
        part(0, 4),
        "-",
        part(4, 6),
        "-",
        part(6, 8),
        "T",
        part(9, 11),
        ":",
        part(11, 13),
        ":",
        part(13, 15),
        "Z",
    ];
    let signed = names.split(';').filter(|name| !["host", "x-amz-date"].contains(name));
    let keys = Keys {
        access_key_id: "AKIATEST".into(),
        secret_access_key: "very-secret".into(),
        session_token: None,
    };
    let service = if header(asked, "x-amz-target").starts_with("AmazonSQS") { "sqs" } else { "dynamodb" };
    let headers = signature(
        &keys,
        &ToSign {
            method: "POST",
            url: &format!("http://{}/", header(asked, "host")),
            headers: signed.map(|name| (name, header(asked, name))).collect(),
            body: &asked.raw,
            service,
            region: "us-east-1",
            at: Timestamp::parse(&at.concat()).unwrap(),
        },
    );
    let headers: BTreeMap<String, String> = headers.unwrap().into_iter().collect();
    assert_eq!(headers.get("authorization").map(String::as_str), Some(given));
}

#[tokio::test]
async fn what_fails_is_repeated_by_the_sdk_which_then_sends_for_a_while() {
    let stub = Stub::start(|n, body| match n {
        1 => (500, json!({"__type": "InternalServerError"})),
        _ => (200, success(body)),
    })
    .await;
    let queue = stub.aws.queue("http://localhost/1/q");
    for _ in 0..3 {
        queue.send(message()).await.unwrap();
    }
    let senders: Vec<bool> = stub.requests().iter().map(is_of_the_sdk).collect();
    assert_eq!(senders, [true, false, true, true]);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_asked_for_again() {
    let stub = Stub::start(|n, body| (200, if n == 1 { json!("nonsense") } else { success(body) })).await;
    let queue = stub.aws.queue("http://localhost/1/q");
    assert_eq!(received(&queue).await, received(&queue).await);
    assert_eq!(stub.requests().iter().map(is_of_the_sdk).collect::<Vec<_>>(), [true, false, true]);
}

#[tokio::test]
async fn a_request_that_goes_on_failing_has_the_attempts_of_the_sdk_beside_its_own() {
    let stub = Stub::start(|n, body| match n {
        0 => (200, success(body)),
        _ => (503, json!({"__type": "ServiceUnavailable"})),
    })
    .await;
    let queue = stub.aws.queue("http://localhost/1/q");
    queue.send(message()).await.unwrap();
    let error = queue.send(message()).await.unwrap_err();
    assert!(!error.is_permanent() && error.to_string().contains("SendMessageBatch"), "{error}");
    assert_eq!(stub.requests().len(), 1 + 1 + 3);
}

#[tokio::test]
async fn a_throttled_request_has_no_more_attempts_than_those_of_the_sdk() {
    let stub = Stub::start(|n, body| match n {
        0 => (200, success(body)),
        1..=3 => (400, json!({"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slower"})),
        _ => (200, success(body)),
    })
    .await;
    let queue = stub.aws.queue("http://localhost/1/q");
    queue.send(message()).await.unwrap();
    let error = queue.send(message()).await.unwrap_err();
    assert!(!error.is_permanent(), "{error}");
    let senders: Vec<bool> = stub.requests().iter().map(is_of_the_sdk).collect();
    assert_eq!(senders, [true, false, true, true]);
}

#[tokio::test]
async fn an_operation_rests_after_a_throttled_request() {
    let stub = Stub::start(|n, body| match n {
        1 => (400, json!({"__type": "com.amazonaws.sqs#RequestThrottled", "message": "slower"})),
        _ => (200, success(body)),
    })
    .await;
    let queue = stub.aws.queue("http://localhost/1/q");
    for _ in 0..3 {
        queue.send(message()).await.unwrap();
    }
    let senders: Vec<bool> = stub.requests().iter().map(is_of_the_sdk).collect();
    assert_eq!(senders, [true, false, true, true]);
}

#[tokio::test]
async fn a_rejected_request_is_explained_by_the_sdk_and_stops_no_other() {
    let stub = Stub::start(|n, body| match n {
        1 | 2 => (400, json!({"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no"})),
        _ => (200, success(body)),
    })
    .await;
    let queue = stub.aws.queue("http://localhost/1/q");
    queue.send(message()).await.unwrap();
    let error = queue.send(message()).await.unwrap_err();
    assert!(error.to_string().contains("TOOLFLEET_QUEUE_URL"), "{error}");
    queue.send(message()).await.unwrap();
    assert_eq!(stub.requests().iter().map(is_of_the_sdk).collect::<Vec<_>>(), [true, false, true, false]);
}

#[tokio::test]
async fn what_is_dropped_closes_its_connections() {
    let stub = Stub::start(|_, body| (200, success(body))).await;
    each(&stub).await;
    stub.all_closed().await;
}

#[tokio::test]
async fn requests_and_units_are_counted_whoever_sends() {
    let stub = Stub::start(|_, body| (200, success(body))).await;
    let (usage, calls) = (stub.aws.usage(), stub.aws.calls(&Tables::with_prefix("toolfleet")));
    usage.begin();
    for _ in 0..3 {
        assert!(matches!(calls.swap(None, &claim("c1", 1)).await.unwrap(), Swap::Stored));
    }
    assert_eq!(stub.requests().iter().map(is_of_the_sdk).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(usage.requests(), [("DynamoDB/BatchExecuteStatement".to_owned(), 3)]);
    assert_eq!(usage.units(), [("toolfleet-calls".to_owned(), Units::Write, 6.0)]);
}

/// The first request is the SDK's, the second is sent without it.
#[tokio::test]
async fn an_entry_that_an_answer_does_not_name_was_not_done() {
    let named = json!({"Successful": [{"Id": "another"}], "Failed": []});
    for (answer, is_done) in
        [(named, false), (json!({}), true), (json!({"Successful": [], "Failed": []}), true)]
    {
        let stub = Stub::start(move |n, body| match n {
            0 => (200, success(body)),
            _ => (200, answer.clone()),
        })
        .await;
        let queue = stub.aws.queue("http://localhost/1/q");
        let receipt: Receipt = queue.receive(1, 0, 30).await.unwrap().remove(0).receipt;
        queue.delete_at_once();
        for _ in 0..2 {
            assert_eq!(queue.delete(&receipt).await.is_ok(), is_done);
            assert_eq!(queue.change_visibility(&receipt, 30).await.is_ok(), is_done);
        }
        let senders: Vec<bool> = stub.requests().iter().map(is_of_the_sdk).collect();
        assert_eq!(senders, [true, true, true, false, false]);
    }
}
