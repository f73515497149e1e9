//! Errors of the service: a throttle concerns one statement, a rejection one item.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_aws::queue::Outgoing;
use toolfleet_aws::{Aws, AwsOptions, Tables};
use toolfleet_aws::{Store as _, Swap};
use toolfleet_core::ids::{CallId, CallKey, Tenant};

use crate::stub::Stub;
use crate::tables::claim;
use crate::world;

fn is_about(statement: &Value, id: &str) -> bool {
    statement.to_string().contains(&format!("acme#{id}\""))
}

/// Answers each statement: nothing wrong, or the error that `wrong` gives it.
fn responses(body: &Value, wrong: impl Fn(&Value) -> Option<&'static str>) -> (u16, Value) {
    let statements = body["Statements"].as_array().cloned().unwrap_or_default();
    let answer = |statement: &Value| match wrong(statement) {
        Some(code) => json!({"Error": {"Code": code, "Message": "scripted"}}),
        None => json!({}),
    };
    (200, json!({"Responses": statements.iter().map(answer).collect::<Vec<_>>()}))
}

#[tokio::test]
async fn a_throttled_statement_is_sent_again_alone() {
    let stub = Stub::start(|n, body| {
        responses(body, |s| (n < 3 && is_about(s, "c2")).then_some("ProvisionedThroughputExceeded"))
    })
    .await;
    let calls = stub.aws.calls(&Tables::with_prefix("toolfleet"));
    let rows: Vec<_> = (0..5).map(|n| claim(&format!("c{n}"), n)).collect();
    let started = Instant::now();
    let timed = rows.iter().map(|row| async {
        assert!(matches!(calls.swap(None, row).await.unwrap(), Swap::Stored));
        started.elapsed()
    });
    let took = join_all(timed).await;
    let sizes: Vec<_> = stub.asked().iter().map(|b| b["Statements"].as_array().map_or(0, Vec::len)).collect();
    assert_eq!(sizes, [5, 1, 1, 1]);
    let neighbours = took.iter().enumerate().filter(|(n, _)| *n != 2).map(|(_, t)| *t).max().unwrap();
    assert!(neighbours < took[2], "{took:?}");
}

#[tokio::test]
async fn retries_of_a_throttled_statement_are_bounded() {
    let stub = Stub::start(|_, body| responses(body, |_| Some("ThrottlingError"))).await;
    let calls = stub.aws.calls(&Tables::with_prefix("toolfleet"));
    let error = calls.swap(None, &claim("c1", 1)).await.unwrap_err();
    assert!(!error.is_permanent() && error.to_string().contains("toolfleet-calls"), "{error}");
    assert_eq!(stub.asked().len(), 6);
}

#[tokio::test]
async fn a_statement_for_which_a_batch_is_rejected_fails_alone() {
    let stub = Stub::start(|_, body| {
        if is_about(body, "c3") {
            return (
                400,
                json!({"__type": "com.amazon.coral.validate#ValidationException", "message": "no"}),
            );
        }
        responses(body, |_| None)
    })
    .await;
    let calls = stub.aws.calls(&Tables::with_prefix("toolfleet"));
    let rows: Vec<_> = (0..6).map(|n| claim(&format!("c{n}"), n)).collect();
    let answers = join_all(rows.iter().map(|row| calls.swap(None, row))).await;
    let failed: Vec<_> = (0..6).filter(|&n| answers[n].is_err()).collect();
    assert_eq!(failed, [3]);
    assert!(answers[3].as_ref().unwrap_err().is_permanent());
}

#[tokio::test]
async fn a_message_for_which_a_batch_is_rejected_fails_alone() {
    let stub = Stub::start(|_, body| {
        let entries = body["Entries"].as_array().cloned().unwrap_or_default();
        if entries.iter().any(|e| e["MessageBody"] == "bad") {
            return (400, json!({"__type": "com.amazonaws.sqs#InvalidMessageContents", "message": "no"}));
        }
        let sent = |e: &Value| json!({"Id": e["Id"], "MessageId": e["MessageBody"], "MD5OfMessageBody": "x"});
        (200, json!({"Successful": entries.iter().map(sent).collect::<Vec<_>>(), "Failed": []}))
    })
    .await;
    let queue = stub.aws.queue("http://localhost/1/q");
    let bodies = ["a", "bad", "c"].map(str::to_owned);
    let sends = bodies.iter().map(|body| queue.send(Outgoing { body: body.clone(), ..Outgoing::default() }));
    let answers = join_all(sends).await;
    assert_eq!(answers[0].as_deref(), Ok("a"));
    assert!(answers[1].is_err());
    assert_eq!(answers[2].as_deref(), Ok("c"));
}

#[tokio::test]
async fn unprocessed_keys_are_requested_again() {
    let stub = Stub::start(|n, body| {
        let keys = body["RequestItems"]["toolfleet-calls"]["Keys"].clone();
        let left = if n < 2 { json!({"toolfleet-calls": {"Keys": keys}}) } else { json!({}) };
        (200, json!({"Responses": {"toolfleet-calls": []}, "UnprocessedKeys": left}))
    })
    .await;
    let calls = stub.aws.calls(&Tables::with_prefix("toolfleet"));
    let key = CallKey { tenant: Tenant::parse("acme").unwrap(), call_id: CallId::parse("c1").unwrap() };
    let rows = calls.read_many(&[key.clone(), key]).await.unwrap();
    assert_eq!(rows, [None, None], "a key that was asked for twice is answered twice");
    assert_eq!(stub.asked().len(), 3);
    assert_eq!(stub.asked()[0]["RequestItems"]["toolfleet-calls"]["Keys"].as_array().unwrap().len(), 1);
    assert_eq!(stub.asked()[0]["RequestItems"]["toolfleet-calls"]["ConsistentRead"], true);
}

#[tokio::test]
async fn concurrent_readers_of_a_secret_share_one_request() {
    let stub = Stub::start(|_, body| match body["SecretId"].as_str() {
        Some("there") => (200, json!({"Name": "there", "SecretString": "s3cret"})),
        _ => (400, json!({"__type": "ResourceNotFoundException", "message": "no"})),
    })
    .await;
    let secrets = stub.aws.secrets();
    let got = join_all((0..50).map(|_| secrets.get("there"))).await;
    assert!(got.into_iter().all(|s| s.unwrap().expose() == "s3cret"));
    assert_eq!(stub.asked().len(), 1);
    let got = join_all((0..50).map(|_| secrets.get("missing"))).await;
    assert!(got.into_iter().all(|s| s.is_err_and(|t| t.is_permanent() && t.to_string().contains("missing"))));
    assert_eq!(stub.asked().len(), 2);
}

#[tokio::test]
async fn a_cached_secret_is_read_again_when_expired_or_rejected() {
    let stub = Stub::start(|n, _| (200, json!({"Name": "s", "SecretString": n.to_string()}))).await;
    let secrets = stub.aws.secrets();
    assert_eq!(secrets.get("s").await.unwrap().expose(), "0");
    assert_eq!(secrets.refresh("s").await.unwrap().expose(), "0", "it is but a moment old");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(2)).await;
    tokio::time::resume();
    assert_eq!(secrets.get("s").await.unwrap().expose(), "0");
    let anew = join_all((0..20).map(|_| secrets.refresh("s"))).await;
    assert!(anew.into_iter().all(|s| s.unwrap().expose() == "1"), "those who ask together share one reading");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(60)).await;
    tokio::time::resume();
    assert_eq!(secrets.get("s").await.unwrap().expose(), "2");
}

#[tokio::test]
async fn an_outcome_that_does_not_fit_is_a_permanent_error() {
    use toolfleet_core::outcome::Outcome;
    let world = world().await;
    let calls = world.aws.calls(&Tables::with_prefix("toolfleet"));
    let ended = async |bytes: usize| {
        let content = serde_json::value::RawValue::from_string("{}".into()).unwrap();
        let row = claim("c1", 1);
        let mut outcome = Outcome::tool_error(content, "");
        if let Some(why) = &mut outcome.error {
            // Larger than the core makes one: the row counts whatever it is given.
            why.message = "a".repeat(bytes);
        }
        let fits = toolfleet_aws::calls::Calls::fitting(outcome.clone()).await.is_ok();
        let finished = toolfleet_core::call::Finished { outcome, at: row.enqueued_at };
        (toolfleet_core::call::CallRow { finished: Some(finished), ..row }, fits)
    };
    let (large, fits) = ended(500 * 1024).await;
    assert!(!fits);
    assert!(calls.swap(None, &large).await.unwrap_err().is_permanent());
    let (most, fits) = ended(380 * 1024 - 2).await;
    assert!(fits);
    assert!(matches!(calls.swap(None, &most).await.unwrap(), Swap::Stored));
    assert_eq!(calls.read(&most.key).await.unwrap(), Some(most));
}

#[tokio::test]
async fn an_endpoint_without_listener_is_a_passing_error() {
    let aws = Aws::connect(AwsOptions {
        region: Some("us-east-1".into()),
        dynamodb_endpoint: Some("http://127.0.0.1:9".into()),
        static_credentials: Some(("AKIATEST".into(), "very-secret".into())),
        ..AwsOptions::default()
    })
    .await;
    let calls = aws.calls(&Tables::with_prefix("toolfleet"));
    let error = calls.read(&claim("c1", 1).key).await.unwrap_err();
    assert!(!error.is_permanent() && error.to_string().contains("refused"), "{error}");
    assert!(!error.to_string().contains("very-secret"));
}
