//! Bad input ends as the contract says, with its record, while its neighbour in the same batch succeeds.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toolfleet_aws::Tables;
use toolfleet_aws::queue::{MAX_BODY_BYTES, Outgoing};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::ids::Tenant;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

use crate::rig::{Rig, connect, request};

fn with(mut request: Value, field: &str, value: Value) -> Value {
    request[field] = value;
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_request_is_refused_and_its_neighbour_succeeds() {
    let rig = Rig::new().await;
    let cases = [
        (with(request("v9", "safe"), "v", json!(9)), "undecodable", "v: is 9"),
        (with(request("colour", "safe"), "colour", json!("red")), "undecodable", "unknown field `colour`"),
        (with(request("args", "safe"), "arguments", json!([1])), "undecodable", "accepted is a JSON object"),
        (request("tool", "nothing"), "unknown_tool", "registered are"),
        (request("paused", "paused"), "paused", "paused by an operator"),
        (request("closed", "closed"), "access_denied", "access rules"),
        (
            with(request("schema", "strict"), "arguments", json!({"n": "x"})),
            "invalid_arguments",
            "arguments/n",
        ),
        (
            with(request("reply", "safe"), "reply", json!({"sqs_queue_url": "http://127.0.0.1/0/elsewhere"})),
            "reply_not_allowed",
            "is not on the list of reply queues of tenant `acme`",
        ),
        (
            with(request("resume", "safe"), "resume", json!({"call_id": "nobody"})),
            "not_resumable",
            "has no call `nobody`",
        ),
        (
            with(request("list", "safe"), "operation", json!("tools/list")),
            "undecodable",
            "tool: belongs to `tools/call`",
        ),
        (with(request("urgent", "safe"), "priority", json!("high")), "unsupported", "priority"),
        (
            json!({"v":1,"call_id":"server","tenant":"acme","server":"nowhere","name":"x","arguments":{}}),
            "unknown_server",
            "registered are mock",
        ),
        (
            json!({"v":1,"call_id":"listed","tenant":"acme","server":"mock","name":"nothing","arguments":{}}),
            "unknown_tool",
            "it lists",
        ),
    ];
    for (body, ..) in &cases {
        rig.send(body.to_string()).await;
    }
    rig.send(with(request("late", "safe"), "deadline", json!("2020-01-01T00:00:00Z")).to_string()).await;
    rig.send(
        request("twice", "strict").to_string().replace(r#""arguments":{"#, r#""arguments":{"n":"x","n":1,"#),
    )
    .await;
    rig.send(request("neighbour", "safe").to_string()).await;
    rig.work_off(cases.len() + 3).await;

    for (body, code, sentence) in &cases {
        let id = body["call_id"].as_str().unwrap();
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some(*code)), "{id}: {}", seen.message);
        assert_eq!(seen.may_have_run, Some(MayHaveRun::No), "{id}");
        assert!(seen.message.contains(sentence), "{id}: {}", seen.message);
        let kind = if *code == "undecodable" { AuditKind::Undecodable } else { AuditKind::Call };
        let records = rig.audit_of(id, kind).await;
        assert_eq!(records.len(), 1, "{id}");
        let registered = ["paused", "access_denied", "invalid_arguments"].contains(code);
        assert!(!registered || records[0].definition.is_some(), "{id}: {records:?}");
    }
    let twice = rig.outcome("twice").await;
    assert_eq!((twice.kind, twice.code), (OutcomeKind::Refused, Some("invalid_arguments")));
    assert!(twice.message.contains("`n` is duplicated"), "{}", twice.message);
    let late = rig.outcome("late").await;
    assert_eq!((late.kind, late.code), (OutcomeKind::Expired, Some("deadline_exceeded")));
    assert_eq!(rig.outcome("neighbour").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.audit_of("neighbour", AuditKind::Call).await.len(), 1);
    let undecodable = rig.audit(&Tenant::undecodable()).await;
    assert_eq!(undecodable.len(), 4, "each is also accounted for under its message: {undecodable:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_group_or_reply_is_refused_under_the_calls_id() {
    let rig = Rig::new().await;
    let replies = rig.direct.queue(rig.local.queue_url("toolfleet-replies"));
    let reply = json!({"sqs_queue_url": replies.url()}).to_string();
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let bad = [r#"{"id":"\ud800"}"#, r#"{"id":1e999}"#, deep.as_str()];
    for (n, bad) in bad.iter().enumerate() {
        for (member, other) in [("group", format!(r#","reply":{reply}"#)), ("reply", String::new())] {
            let added = format!(r#""{member}":{bad}{other},"v":"#);
            rig.send(request(&format!("{member}{n}"), "safe").to_string().replace(r#""v":"#, &added)).await;
        }
    }
    rig.work_off(bad.len() * 2).await;
    for n in 0..bad.len() {
        for member in ["group", "reply"] {
            let seen = rig.outcome(&format!("{member}{n}")).await;
            assert_eq!(
                (seen.kind, seen.code),
                (OutcomeKind::Refused, Some("undecodable")),
                "{}",
                seen.message
            );
        }
    }
    assert_eq!(replies.depth().await.unwrap().visible, 3, "a notice for each whose reply can be read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_is_no_request_is_audited_under_its_message() {
    let rig = Rig::new().await;
    let bodies = ["not json", "{\"v\":1", "[]", "{\"v\":1,\"tenant\":\"acme\"}", "\u{1F980}"];
    for body in bodies {
        rig.send(body).await;
    }
    rig.send(request("neighbour", "safe").to_string()).await;
    rig.work_off(bodies.len() + 1).await;
    let records = rig.audit(&Tenant::undecodable()).await;
    assert_eq!(records.len(), bodies.len());
    assert!(
        records.iter().all(|r| r.code.as_deref() == Some("undecodable") && r.message.is_some()),
        "{records:?}"
    );
    assert_eq!(rig.outcome("neighbour").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_body_that_is_taken_harms_nobody() {
    let rig = Rig::new().await;
    let frame = request("big", "safe").to_string().len();
    let filler = "x".repeat(MAX_BODY_BYTES - frame - 32);
    rig.send(with(request("big", "safe"), "arguments", json!({"call": "big", "f": filler})).to_string())
        .await;
    rig.send(request("neighbour", "safe").to_string()).await;
    rig.work_off(2).await;
    // The mock echoes it, and the rig takes answers of 100 kB: the tool ran, the answer is dropped.
    let big = rig.outcome("big").await;
    assert_eq!((big.kind, big.code), (OutcomeKind::Failed, Some("answer_too_large")), "{}", big.message);
    assert_eq!(big.may_have_run, Some(MayHaveRun::Unknown));
    assert_eq!(rig.outcome("neighbour").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_id_is_refused_and_leaves_no_row_there() {
    let rig = Rig::new().await;
    rig.send(with(request("c1", "safe"), "tenant", json!("globex")).to_string()).await;
    // Broken, too: not even the refusal may stand under a tenant the sender may not speak for.
    rig.send(with(with(request("c2", "safe"), "tenant", json!("globex")), "colour", json!(1)).to_string())
        .await;
    rig.work_off(2).await;
    let calls = rig.direct.calls(&Tables::with_prefix("toolfleet"));
    for id in ["c1", "c2"] {
        assert!(calls.read(&crate::rig::key("globex", id)).await.unwrap().is_none(), "{id}");
    }
    assert!(rig.audit(&Tenant::parse("globex").unwrap()).await.is_empty());
    let records = rig.audit(&Tenant::tenant_not_allowed()).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].code.as_deref(), Some("tenant_not_allowed"));
    assert_eq!(rig.mcp.executions("safe"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_parked_message_of_another_sender_is_refused() {
    let rig = Rig::new().await;
    let other_sender = connect(
        rig.local.sqs_url(),
        rig.local.dynamodb_url(),
        rig.local.secretsmanager_url(),
        "AKIASTRANGER",
    )
    .await;
    let attributes = BTreeMap::from([("toolfleet-first-sender".to_owned(), crate::rig::SENDER.to_owned())]);
    let body = request("forged", "safe").to_string();
    let queue = other_sender.queue(rig.local.queue_url("toolfleet-calls"));
    queue.send(Outgoing { body, attributes, ..Outgoing::default() }).await.unwrap();
    rig.work_off(1).await;
    assert!(rig.row("forged").await.is_none());
    assert_eq!(rig.audit(&Tenant::tenant_not_allowed()).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_with_other_arguments_is_a_mismatch() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle().await;
    let original = rig.row("c1").await.unwrap();
    rig.send(with(request("c1", "unsafe"), "arguments", json!({"call": "other"})).to_string()).await;
    rig.send(with(request("c1", "unsafe"), "colour", json!(1)).to_string()).await;
    rig.settle().await;
    assert_eq!(rig.row("c1").await.unwrap(), original);
    assert_eq!(rig.mcp.executions("unsafe"), 1);
    let audited = rig.audit_of("c1", AuditKind::IdempotencyMismatch).await;
    assert_eq!(audited.len(), 1);
    assert_eq!(audited[0].code.as_deref(), Some("idempotency_mismatch"));
    assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_record_holds_the_shape_of_arguments_and_no_result() {
    let rig = Rig::new().await;
    let arguments =
        json!({"call": "c1", "query": "visible", "password": "hunter2", "nested": {"api_key": "k-123"}});
    rig.send(with(request("c1", "safe"), "arguments", arguments).to_string()).await;
    rig.settle().await;
    let record = rig.audit_of("c1", AuditKind::Call).await.remove(0);
    let text = serde_json::to_string(&record).unwrap();
    assert!(text.contains("query") && text.contains("string(7)"), "{text}");
    assert!(!["visible", "hunter2", "k-123"].iter().any(|value| text.contains(value)), "{text}");
}
