//! Large results: uploaded before the row says done, read byte for byte, and not lost while the bucket is unavailable.

use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_aws::payloads::PayloadError;
use toolfleet_client::{CallStatus, Client, WaitError};
use toolfleet_config::payload::PayloadConfig;
use toolfleet_core::outcome::{Code, MayHaveRun, OutcomeKind};
use toolfleet_core::payload::{PayloadRef, Sources};
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{Cut, Rule};
use toolfleet_worker::Limits;
use toolfleet_worker::pipeline::steps::Step;

use crate::crashes::assert_settled;
use crate::rig::{LEASE_MS, Rig, key, limits, request};

const BUCKET: &str = "toolfleet-payloads-000000000000-us-east-1";

async fn rig(bucket: Option<&str>) -> Rig {
    let sources = Sources::parse(bucket, "").unwrap();
    let payloads = PayloadConfig { bucket: bucket.map(str::to_owned), sources, ..PayloadConfig::default() };
    Rig { payloads, ..Rig::new().await }
}

fn client(rig: &Rig) -> Client {
    let clock = rig.clock.clone();
    let now = move || Timestamp::from_ms(i64::try_from(clock.now_ms()).unwrap());
    let tables = toolfleet_aws::Tables::with_prefix("toolfleet");
    Client::new(&rig.direct, rig.local.queue_url("toolfleet-calls"), &tables, std::sync::Arc::new(now))
}

/// Text that gzip makes hardly smaller.
fn noise(bytes: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + 2 + u8::try_from(state % 90).unwrap())
    };
    std::iter::repeat_with(next).filter(|c| !matches!(c, '"' | '\\')).take(bytes).collect()
}

fn answers(rig: &Rig, tool: &str, text: String) -> Value {
    let result = json!({"content": [{"type": "text", "text": text}]});
    let answer = result.clone();
    rig.mcp.tool(tool, move |_| answer.clone());
    result
}

fn roomy() -> Limits {
    Limits { max_answer_bytes: 32 * 1024 * 1024, ..limits() }
}

async fn stored(rig: &Rig, id: &str) -> Option<PayloadRef> {
    let outcome = rig.row(id).await.unwrap().finished.unwrap().outcome;
    outcome.stored().cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_of_every_size_are_read_as_the_tool_gave_them() {
    let rig = rig(Some(BUCKET)).await;
    let context = rig.fleet_of(rig.catalog(), roomy(), None).await;
    for bytes in [1, 9_000, 20_000, 300_000, 2_000_000] {
        let (id, result) = (format!("c-{bytes}"), answers(&rig, "unsafe", noise(bytes)));
        rig.send(request(&id, "unsafe").to_string()).await;
        rig.deliver(&context).await;
        assert_eq!(stored(&rig, &id).await.is_some(), bytes > 9_000, "{bytes}");
        let end = client(&rig).wait(&key("acme", &id), Duration::from_secs(5)).await.unwrap();
        assert_eq!(end.outcome.kind, OutcomeKind::Succeeded);
        let read: Value = serde_json::from_str(end.outcome.content().unwrap().get()).unwrap();
        assert!(read["content"] == result["content"], "{bytes} bytes come back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bucket_a_large_result_ends_with_a_clear_code() {
    let rig = rig(None).await;
    let context = rig.fleet_of(rig.catalog(), roomy(), None).await;
    answers(&rig, "unsafe", noise(600_000));
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.code, seen.may_have_run), (Some(Code::ResultTooLarge.as_str()), Some(MayHaveRun::Yes)));
    assert!(seen.message.contains("TOOLFLEET_PAYLOAD_BUCKET"), "{}", seen.message);
    assert_eq!(rig.s3.count(""), 0, "S3 is not asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_around_the_upload_leaves_one_end_and_no_dangling_ref() {
    for step in [Step::PayloadStored, Step::Executed, Step::ResultStored, Step::Recorded] {
        for tool in ["safe", "unsafe"] {
            let context = format!("crash after {step:?} of a call of `{tool}`");
            let rig = rig(Some(BUCKET)).await;
            answers(&rig, tool, noise(50_000));
            rig.send(request("c1", tool).to_string()).await;
            rig.crash_after(step).await;
            rig.settle().await;
            let kind = assert_settled(&rig, "c1", &context).await;
            let status = client(&rig).status(&key("acme", "c1")).await.unwrap();
            let CallStatus::Ended(end) = status else { panic!("{context}: {status:?}") };
            let lost = tool == "unsafe" && matches!(step, Step::PayloadStored | Step::Executed);
            let expected = if lost { OutcomeKind::OutcomeUnknown } else { OutcomeKind::Succeeded };
            assert_eq!(kind, expected, "{context}");
            assert_eq!(end.outcome.content().is_some(), !lost, "{context}: what the row refers to is there");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_cut_or_whose_answer_is_lost_is_made_again() {
    for cut in [Cut::BeforeRequest, Cut::AfterAnswer] {
        let rig = rig(Some(BUCKET)).await;
        let context = rig.context(None).await;
        answers(&rig, "unsafe", noise(50_000));
        rig.s3.cut(Rule::new(cut, "PUT /", 1));
        rig.send(request("c1", "unsafe").to_string()).await;
        rig.deliver(&context).await;
        assert_eq!(rig.s3.cuts(), 1);
        assert!(stored(&rig, "c1").await.is_some(), "{cut:?}");
        assert_eq!(rig.mcp.executions_of("c1"), 1);
        client(&rig).wait(&key("acme", "c1"), Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_results_of_two_workers_are_one_object() {
    let rig = rig(Some(BUCKET)).await;
    answers(&rig, "unsafe", noise(50_000));
    let (one, two) = (rig.context(None).await, rig.context(None).await);
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.send(request("c2", "unsafe").to_string()).await;
    tokio::join!(rig.deliver(&one), rig.deliver(&two));
    let (one, two) = (stored(&rig, "c1").await.unwrap(), stored(&rig, "c2").await.unwrap());
    assert_eq!(one, two);
    for id in ["c1", "c2"] {
        client(&rig).wait(&key("acme", id), Duration::from_secs(5)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_leaves_a_result_in_the_row_if_it_fits() {
    let rig = rig(Some(BUCKET)).await;
    let context = rig.context(None).await;
    answers(&rig, "unsafe", noise(50_000));
    rig.s3.cut(Rule::new(Cut::BeforeRequest, "PUT /", 1).times(1_000));
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, rig.mcp.executions_of("c1")), (OutcomeKind::Succeeded, 1));
    assert!(seen.content.unwrap().len() > 50_000 && stored(&rig, "c1").await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_fits_into_no_row_waits_in_hand_for_the_bucket() {
    let rig = rig(Some(BUCKET)).await;
    let context = rig.fleet_of(rig.catalog(), roomy(), None).await;
    answers(&rig, "unsafe", noise(600_000));
    // The SDK itself tries three times.
    rig.s3.cut(Rule::new(Cut::BeforeRequest, "PUT /", 1).times(7));
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.s3.cuts(), 7);
    assert!(stored(&rig, "c1").await.is_some());
    assert_eq!((rig.outcome("c1").await.kind, rig.mcp.executions_of("c1")), (OutcomeKind::Succeeded, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_without_the_bucket_records_what_became_of_the_result() {
    for (tool, kind) in [("unsafe", Some(OutcomeKind::Failed)), ("safe", None)] {
        let rig = rig(Some("no-such-bucket")).await;
        let context = rig.fleet_of(rig.catalog(), roomy(), None).await;
        answers(&rig, tool, noise(600_000));
        rig.send(request("c1", tool).to_string()).await;
        let delivery = rig.receive(&context).await.unwrap();
        let running = tokio::spawn(toolfleet_worker::pipeline::run(context.clone(), delivery, ()));
        while rig.s3.count("PUT /") == 0 {
            tokio::task::yield_now().await;
        }
        context.shutdown.begin(Duration::ZERO);
        running.await.unwrap();
        let row = rig.row("c1").await.unwrap();
        assert_eq!(row.finished.as_ref().map(|finished| finished.outcome.kind), kind, "{tool}: {row:?}");
        if kind.is_some() {
            let seen = rig.outcome("c1").await;
            assert_eq!((seen.code, seen.may_have_run), (Some("result_not_stored"), Some(MayHaveRun::Yes)));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_altered_result_object_is_never_returned() {
    let rig = rig(Some(BUCKET)).await;
    let context = rig.context(None).await;
    for (id, code) in [("gone", "payload_missing"), ("altered", "payload_altered")] {
        answers(&rig, "unsafe", noise(50_000 + id.len()));
        rig.send(request(id, "unsafe").to_string()).await;
        rig.deliver(&context).await;
        let at = stored(&rig, id).await.unwrap().at;
        let url = format!("{}/{}/{}", rig.local.s3_url(), at.bucket, at.key);
        let asking = reqwest::Client::new();
        let changed = match code {
            "payload_missing" => asking.delete(url).send().await,
            _ => asking.put(url).body("{}").send().await,
        };
        assert!(changed.unwrap().status().is_success());
        let client = client(&rig);
        let error = client.wait(&key("acme", id), Duration::from_secs(5)).await.unwrap_err();
        let WaitError::Unreadable(error) = error else { panic!("{error:?}") };
        assert_eq!(error.code(), Some(code));
        assert!(client.row(&key("acme", id)).await.is_err_and(|error| error.code() == Some(code)));
        let statuses = client.status_many(&[key("acme", id), key("acme", "nobody")]).await.unwrap();
        assert!(matches!(&statuses[..], [CallStatus::Unreadable(_), CallStatus::Unknown]), "{statuses:?}");
        assert!(matches!(*error, PayloadError::Missing(_) | PayloadError::Altered { .. }));
    }
    rig.clock.advance_ms(LEASE_MS);
}
