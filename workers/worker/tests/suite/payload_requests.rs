//! Requests with referenced payloads: loaded, checked by digest, limited by tenant, and refused without an attempt if unavailable.

use serde_json::{Value, json};
use toolfleet_config::payload::PayloadConfig;
use toolfleet_core::audit::AuditKind;
use toolfleet_core::digest::sha256;
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::payload::Sources;
use toolfleet_core::request::CallRequest;
use toolfleet_testkit::{Cut, Rule};
use toolfleet_worker::pipeline::steps::Step;

use crate::rig::{Rig, SENDER, key};

const BUCKET: &str = "toolfleet-payloads-000000000000-us-east-1";

async fn rig() -> Rig {
    let sources = Sources::parse(Some(BUCKET), "shared-bucket/in/, by-tenant/{tenant}/x/").unwrap();
    let payloads = PayloadConfig { bucket: Some(BUCKET.to_owned()), sources, ..PayloadConfig::default() };
    let rig = Rig { payloads, ..Rig::new().await };
    for bucket in ["shared-bucket", "by-tenant", "unlisted"] {
        make_bucket(&rig, bucket).await;
    }
    rig
}

pub(crate) async fn make_bucket(rig: &Rig, bucket: &str) {
    let made = reqwest::Client::new().put(format!("{}/{bucket}", rig.local.s3_url())).send().await.unwrap();
    assert!(made.status().is_success());
}

pub(crate) async fn store(rig: &Rig, bucket: &str, path: &str, bytes: impl Into<Vec<u8>>) {
    let url = format!("{}/{bucket}/{path}", rig.local.s3_url());
    let stored = reqwest::Client::new().put(url).body(bytes.into()).send().await.unwrap();
    assert!(stored.status().is_success());
}

fn by_reference(id: &str, tool: &str, reference: Value) -> String {
    json!({"v": 1, "call_id": id, "tenant": "acme", "tool": tool, "arguments_ref": reference}).to_string()
}

fn reference(bucket: &str, path: &str, bytes: &str) -> Value {
    json!({"bucket": bucket, "key": path, "sha256": sha256(bytes.as_bytes())})
}

fn pointer(bucket: &str, path: &str) -> String {
    json!(["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3BucketName": bucket, "s3Key": path}])
        .to_string()
}

async fn nothing_left(rig: &Rig) -> bool {
    let depth = rig.queue().depth().await.unwrap();
    depth.visible + depth.in_flight + depth.delayed == 0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inline_and_referenced_arguments_have_the_same_digest() {
    let rig = rig().await;
    let context = rig.context(None).await;
    let text = r#" {"call": "c1", "n": 1.50}"#;
    store(&rig, BUCKET, "acme/args", text).await;
    rig.send(by_reference("c1", "unsafe", reference(BUCKET, "acme/args", text))).await;
    rig.deliver(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    assert_eq!(rig.mcp.executions_of("c1"), 1);
    let inline = json!({"v": 1, "call_id": "c1", "tenant": "acme", "tool": "unsafe", "arguments": {"n": 1.5, "call": "c1"}});
    assert_eq!(seen.row.digest.unwrap(), CallRequest::decode(&inline.to_string()).unwrap().digest);
    rig.send(inline.to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.audit_of("c1", AuditKind::Duplicate).await.len(), 1, "the same question");
    assert_eq!(rig.mcp.executions_of("c1"), 1);
    let record = &rig.audit_of("c1", AuditKind::Call).await[0];
    assert_eq!(record.arguments.as_deref(), Some(r#"{"call":"string(2)","n":"number"}"#));
    assert!(nothing_left(&rig).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_arguments_and_a_digest_in_base64_are_read() {
    use base64::Engine as _;
    let rig = rig().await;
    let context = rig.context(None).await;
    let text = format!(r#"{{"call": "c1", "text": "{}"}}"#, "x".repeat(3_000_000));
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    let bytes = encoder.finish().unwrap();
    let digest = base64::engine::general_purpose::STANDARD.encode(hex::decode(sha256(&bytes)).unwrap());
    let length = bytes.len();
    store(&rig, "shared-bucket", "in/a.gz", bytes).await;
    let reference = json!({"bucket": "shared-bucket", "key": "in/a.gz", "sha256": digest, "bytes": length, "encoding": "gzip"});
    rig.mcp.tool("unsafe", |arguments| {
        json!({"content": [{"type": "text", "text": arguments["text"].as_str().unwrap_or_default().len().to_string()}]})
    });
    rig.send(by_reference("c1", "unsafe", reference)).await;
    rig.deliver(&context).await;
    let seen = rig.outcome("c1").await;
    assert!(seen.content.is_some_and(|content| content.contains("3000000")), "{}", seen.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unavailable_payload_is_refused_with_its_own_code() {
    let rig = rig().await;
    let context = rig.context(None).await;
    let text = r#"{"call": "c"}"#;
    for (bucket, path) in [
        (BUCKET, "acme/a"),
        (BUCKET, "beta/a"),
        ("unlisted", "acme/a"),
        ("by-tenant", "acme/x/a"),
        ("by-tenant", "beta/x/a"),
    ] {
        store(&rig, bucket, path, text).await;
    }
    store(&rig, BUCKET, "acme/array", "[1]").await;
    let with = |field: &str, value: Value| {
        let mut reference = reference(BUCKET, "acme/a", text);
        reference[field] = value;
        reference
    };
    let cases = [
        ("missing", reference(BUCKET, "acme/nobody", text), "payload_missing"),
        ("of-another", reference(BUCKET, "beta/a", text), "payload_not_allowed"),
        ("no-prefix", reference(BUCKET, "a", text), "payload_not_allowed"),
        ("unlisted", reference("unlisted", "acme/a", text), "payload_not_allowed"),
        ("of-another-too", reference("by-tenant", "beta/x/a", text), "payload_not_allowed"),
        ("no-bucket", reference("nobodys", "acme/a", text), "payload_not_allowed"),
        ("altered", reference(BUCKET, "acme/a", "other"), "payload_altered"),
        ("longer", with("bytes", json!(14)), "payload_altered"),
        ("not-gzip", with("encoding", json!("gzip")), "payload_altered"),
        ("version", with("version_id", json!("v7")), "payload_missing"),
        ("array", reference(BUCKET, "acme/array", "[1]"), "undecodable"),
        ("traversal", with("key", json!("acme/../beta/a")), "undecodable"),
        ("digest", with("sha256", json!("abc")), "undecodable"),
        ("field", with("colour", json!(1)), "undecodable"),
    ];
    for (id, reference, code) in cases {
        rig.send(by_reference(id, "unsafe", reference)).await;
        rig.deliver(&context).await;
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some(code)), "{id}: {}", seen.message);
        assert!(!seen.message.contains("hunter2"));
    }
    rig.send(by_reference("allowed", "unsafe", reference("by-tenant", "acme/x/a", text))).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("allowed").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("c"), 1);
    let both = json!({"v": 1, "call_id": "both", "tenant": "acme", "tool": "unsafe", "arguments": {},
        "arguments_ref": reference(BUCKET, "acme/a", text)});
    rig.send(both.to_string()).await;
    rig.deliver(&context).await;
    assert!(rig.outcome("both").await.message.contains("give one of the two"));
    assert!(nothing_left(&rig).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_sender_makes_no_worker_read_an_object() {
    let rig = rig().await;
    let context = rig.context(None).await;
    let body =
        by_reference("c1", "unsafe", reference(BUCKET, "beta/a", "{}")).replace("\"acme\"", "\"beta\"");
    rig.send(body).await;
    rig.deliver(&context).await;
    assert_eq!(rig.s3.count("GET"), 0);
    assert_eq!(rig.audit(&Tenant::tenant_not_allowed()).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unavailable_bucket_requeues_until_the_deadline() {
    let rig = rig().await;
    let context = rig.context(None).await;
    let text = r#"{"call": "c1"}"#;
    store(&rig, BUCKET, "acme/a", text).await;
    rig.s3.cut(Rule::new(Cut::BeforeRequest, "GET /", 1).times(3));
    rig.send(by_reference("c1", "unsafe", reference(BUCKET, "acme/a", text))).await;
    rig.deliver(&context).await;
    assert!(rig.row("c1").await.is_none() && !nothing_left(&rig).await, "it waits");
    rig.settle().await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 1));

    rig.s3.cut(Rule::new(Cut::BeforeRequest, "GET /", 1).times(1_000));
    rig.send(by_reference("c2", "unsafe", reference(BUCKET, "acme/a", text))).await;
    rig.clock.advance_ms(3_600_001);
    let cut = rig.s3.cuts();
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Expired);
    assert_eq!(
        rig.s3.cuts(),
        cut,
        "a bucket that hangs must keep no call beyond its deadline, so it is not asked"
    );
    assert!(nothing_left(&rig).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_stands_although_its_arguments_are_gone_by_then() {
    for step in [Step::ResultStored, Step::Recorded, Step::Claimed] {
        let rig = rig().await;
        let text = r#"{"call": "c1"}"#;
        store(&rig, BUCKET, "acme/a", text).await;
        rig.send(by_reference("c1", "unsafe", reference(BUCKET, "acme/a", text))).await;
        rig.crash_after(step).await;
        let url = format!("{}/{BUCKET}/acme/a", rig.local.s3_url());
        assert!(reqwest::Client::new().delete(url).send().await.unwrap().status().is_success());
        rig.settle().await;
        let kind = crate::crashes::assert_settled(&rig, "c1", &format!("{step:?}")).await;
        let expected = if step == Step::Claimed { OutcomeKind::Refused } else { OutcomeKind::Succeeded };
        assert!(
            kind == expected || kind == OutcomeKind::OutcomeUnknown && step == Step::Claimed,
            "{step:?}: {kind}"
        );
        assert!(rig.audit_of("c1", AuditKind::IdempotencyMismatch).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_goes_back_with_its_reference() {
    let rig = rig().await;
    let mut catalog = rig.catalog();
    catalog["servers"][0]["url"] = json!("http://127.0.0.1:9/mcp");
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    let text = r#"{"call": "c1"}"#;
    store(&rig, BUCKET, "acme/a", text).await;
    let body = by_reference("c1", "unsafe", reference(BUCKET, "acme/a", text));
    rig.send(body.clone()).await;
    for _ in 0..6 {
        if let Some(delivery) = rig.receive(&context).await {
            assert_eq!(delivery.body, body);
            toolfleet_worker::pipeline::run(context.clone(), delivery, ()).await;
        }
        rig.clock.advance_ms(40_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extended_clients_body_is_read_from_allowed_places() {
    let rig = rig().await;
    let context = rig.context(None).await;
    rig.mcp.tool("unsafe", |_| json!({"content": []}));
    let body = |id: &str, tenant: &str| {
        json!({"v": 1, "call_id": id, "tenant": tenant, "tool": "unsafe", "arguments": {"call": id, "x": "y".repeat(1_500_000)}}).to_string()
    };
    for (bucket, path, id) in
        [("shared-bucket", "in/1", "c1"), (BUCKET, "acme/2", "c2"), ("by-tenant", "acme/x/3", "c3")]
    {
        store(&rig, bucket, path, body(id, "acme")).await;
        rig.send(pointer(bucket, path)).await;
        rig.deliver(&context).await;
        assert_eq!(
            (rig.outcome(id).await.kind, rig.mcp.executions_of(id)),
            (OutcomeKind::Succeeded, 1),
            "{id}"
        );
    }
    store(&rig, "by-tenant", "beta/x/4", body("c4", "acme")).await;
    store(&rig, "unlisted", "5", body("c5", "acme")).await;
    store(&rig, BUCKET, "acme/6", pointer(BUCKET, "acme/2")).await;
    store(&rig, BUCKET, "acme/7", r#"{"v": 1, "tenant": "acme", "call_id": "c7"}"#).await;
    let wrong = [
        ("by-tenant", "beta/x/4"),
        ("unlisted", "5"),
        (BUCKET, "acme/6"),
        (BUCKET, "acme/7"),
        (BUCKET, "acme/nobody"),
    ];
    for (bucket, path) in wrong {
        rig.send(pointer(bucket, path)).await;
    }
    rig.settle().await;
    for id in ["c4", "c5"] {
        assert!(rig.row(id).await.is_none(), "{id}");
    }
    assert_eq!(rig.outcome("c7").await.code, Some("undecodable"), "the id that it names has its answer");
    assert_eq!(rig.mcp.executions_of("c2"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_sends_by_reference_what_is_too_large_for_a_message() {
    let rig = rig().await;
    let context = rig.context(None).await;
    rig.mcp.tool("unsafe", |arguments| {
        json!({"content": [{"type": "text", "text": arguments["x"].as_str().unwrap_or_default().len().to_string()}]})
    });
    let clock = rig.clock.clone();
    let now = move || toolfleet_core::time::Timestamp::from_ms(i64::try_from(clock.now_ms()).unwrap());
    let tables = toolfleet_aws::Tables::with_prefix("toolfleet");
    let queue = rig.local.queue_url("toolfleet-calls");
    let client = toolfleet_client::Client::new(&rig.direct, queue, &tables, std::sync::Arc::new(now));
    let call = toolfleet_client::RequestBuilder::tool("acme", "unsafe")
        .arguments(json!({"call": "c1", "x": "y".repeat(2_000_000)}))
        .call_id("c1")
        .build()
        .unwrap();
    let error = client.send(&call, None).await.unwrap_err().to_string();
    assert!(error.contains("TOOLFLEET_PAYLOAD_BUCKET"), "{error}");
    let client = client.with_payload_bucket(BUCKET);
    client.send(&call, None).await.unwrap();
    rig.deliver(&context).await;
    let end = client.wait(&key("acme", "c1"), std::time::Duration::from_secs(5)).await.unwrap();
    assert!(end.outcome.content().unwrap().get().contains("2000000"), "{end:?}");
    assert!(end.answers(&call));
    assert_eq!(rig.row("c1").await.unwrap().caller.unwrap().sender.as_deref(), Some(SENDER));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_with_a_referenced_body_is_ended_or_kept() {
    let rig = rig().await;
    let context = rig.context(None).await;
    let dead = context.dead_letters.clone().unwrap();
    let body =
        json!({"v": 1, "call_id": "c1", "tenant": "acme", "tool": "unsafe", "arguments": {"call": "c1"}})
            .to_string();
    store(&rig, BUCKET, "acme/1", body).await;
    let gone = by_reference("c2", "unsafe", reference(BUCKET, "acme/nobody", "{}"));
    for body in [pointer(BUCKET, "acme/1"), gone, pointer(BUCKET, "acme/nobody")] {
        let message =
            toolfleet_aws::queue::Outgoing { body, group: Some("acme".into()), ..Default::default() };
        dead.queue.send(message).await.unwrap();
    }
    for _ in 0..3 {
        let delivery = dead.queue.receive(1, 0, 30).await.unwrap().pop().unwrap();
        toolfleet_worker::pipeline::reap(context.clone(), dead.clone(), delivery).await;
    }
    assert_eq!(rig.outcome("c1").await.code, Some("dead_lettered"));
    assert_eq!(rig.outcome("c2").await.code, Some("payload_missing"));
    let depth = dead.queue.depth().await.unwrap();
    assert_eq!(depth.visible + depth.in_flight, 1, "what cannot be read is kept");
    assert_eq!(rig.mcp.executions_of("c1"), 0);
}
