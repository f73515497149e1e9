//! Audit records name the first caller, one record for each message, and show no value of an argument.

use serde_json::{Value, json};
use toolfleet_aws::Aws;
use toolfleet_aws::queue::Outgoing;
use toolfleet_aws::{Store as _, Tables};
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::notice::Notice;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::session::SessionRow;
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::MockFault;

use crate::rig::{LEASE_MS, Rig, SENDER, SKEW_MS, connect, limits, request};

/// Another producer of the same tenant.
const OTHER: &str = "AKIAOTHER";

fn catalog(rig: &Rig) -> Value {
    let mut catalog = rig.catalog();
    catalog["tenants"]["senders"][OTHER] = json!(["acme"]);
    catalog
}

async fn other(rig: &Rig) -> Aws {
    connect(rig.local.sqs_url(), rig.local.dynamodb_url(), rig.local.secretsmanager_url(), OTHER).await
}

async fn send_as(rig: &Rig, aws: &Aws, body: &Value) {
    let message = Outgoing { body: body.to_string(), ..Outgoing::default() };
    aws.queue(rig.local.queue_url("toolfleet-calls")).send(message).await.unwrap();
}

fn asked_by(who: &str, id: &str, tool: &str) -> Value {
    let mut body = request(id, tool);
    body["session"] = json!(format!("session-{who}"));
    body["user"] = json!({"id": format!("user-{who}"), "type": "staff", "roles": [who]});
    body["agent"] = json!(format!("agent-{who}"));
    body["group"] = json!({"id": format!("group-{who}"), "index": 0, "size": 2});
    body
}

fn who(record: &AuditRecord) -> String {
    let user = record.user.as_ref().map(|user| format!("{} {:?} {:?}", user.id, user.kind, user.roles));
    let group = record.group.as_ref().map(|group| format!("{} {}", group.id, group.size));
    let session = record.session.as_ref().map(ToString::to_string);
    format!("{session:?} {user:?} {:?} {group:?} {:?}", record.agent, record.sender)
}

fn is_of(record: &AuditRecord, name: &str, sender: &str) -> bool {
    let expected = format!(
        "Some(\"session-{name}\") Some(\"user-{name} Some(\\\"staff\\\") [\\\"{name}\\\"]\") Some(\"agent-{name}\") \
         Some(\"group-{name} 2\") Some(\"{sender}\")"
    );
    who(record) == expected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_of_a_call_names_its_first_sender() {
    use toolfleet_worker::pipeline::steps::Step;
    for step in [Step::Claimed, Step::ResultStored] {
        let rig = Rig::new().await;
        rig.send(asked_by("ann", "c1", "safe").to_string()).await;
        rig.crash_after(step).await;
        let row = rig.row("c1").await.unwrap();
        assert_eq!(row.caller.as_ref().unwrap().sender.as_deref(), Some(SENDER), "{step:?}");
        assert_eq!(row.caller.unwrap().session.unwrap().as_str(), "session-ann");
        // The same question, by another session, user, agent and sender, before the first message comes again.
        send_as(&rig, &other(&rig).await, &asked_by("bob", "c1", "safe")).await;
        let context = rig.fleet_of(catalog(&rig), limits(), None).await;
        rig.deliver(&context).await;
        rig.settle_with(&context).await;
        let calls = rig.audit_of("c1", AuditKind::Call).await;
        assert!(calls.len() == 1 && is_of(&calls[0], "ann", SENDER), "{step:?}: {calls:?}");
        let second = rig.audit_of("c1", AuditKind::Duplicate).await;
        assert!(second.len() == 1 && is_of(&second[0], "bob", OTHER), "{step:?}: {second:?}");
        assert_eq!(second[0].outcome, OutcomeKind::Succeeded, "it may know");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_made_by_a_refusal_or_an_expiry_keeps_its_caller() {
    let rig = Rig::new().await;
    rig.send(asked_by("ann", "refused", "paused").to_string()).await;
    let mut late = asked_by("ann", "late", "safe");
    late["deadline"] = json!("2020-01-01T00:00:00Z");
    rig.send(late.to_string()).await;
    rig.settle().await;
    for id in ["refused", "late"] {
        let caller = rig.row(id).await.unwrap().caller.unwrap();
        assert_eq!(caller.user.unwrap().id, "user-ann", "{id}");
        assert!(caller.message_id.is_some() && caller.sender.as_deref() == Some(SENDER), "{id}");
        assert!(is_of(&rig.audit_of(id, AuditKind::Call).await[0], "ann", SENDER), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_comes_again_is_no_second_message() {
    use toolfleet_worker::pipeline::steps::Step;
    for step in Step::ALL {
        let rig = Rig::new().await;
        rig.send(request("c1", "safe").to_string()).await;
        rig.crash_after(step).await;
        rig.settle().await;
        assert!(rig.audit_of("c1", AuditKind::Duplicate).await.is_empty(), "{step:?}");
        assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1, "{step:?}");
    }
    // Parked, it is another message for SQS.
    let rig = Rig::new().await;
    rig.mcp.next(MockFault::status_with(429, "retry-after", "300"));
    rig.send(request("c1", "unsafe").to_string()).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    let first = rig.row("c1").await.unwrap().caller.unwrap().message_id;
    assert_eq!(rig.queue().depth().await.unwrap().delayed, 1);
    rig.clock.advance_ms(300_000);
    rig.settle_with(&context).await;
    let record = rig.audit_of("c1", AuditKind::Call).await.remove(0);
    assert_eq!((record.outcome, record.message_id), (OutcomeKind::Succeeded, first));
    assert!(rig.audit_of("c1", AuditKind::Duplicate).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_further_message_under_an_id_has_one_record_of_its_own() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle().await;
    let original = rig.row("c1").await.unwrap();
    // At the same instant, so that only the messages' ids tell them apart; and each is delivered twice.
    let mut other_arguments = request("c1", "unsafe");
    other_arguments["arguments"] = json!({"call": "other"});
    for _ in 0..2 {
        rig.send(request("c1", "unsafe").to_string()).await;
        rig.send(other_arguments.to_string()).await;
    }
    for _ in 0..4 {
        rig.crash_after(toolfleet_worker::pipeline::steps::Step::Recorded).await;
    }
    rig.settle().await;
    assert_eq!(rig.audit_of("c1", AuditKind::Duplicate).await.len(), 2);
    assert_eq!(rig.audit_of("c1", AuditKind::IdempotencyMismatch).await.len(), 2);
    assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1);
    assert_eq!((rig.row("c1").await.unwrap(), rig.mcp.executions("unsafe")), (original, 1));
}

async fn notices(rig: &Rig) -> Vec<Notice> {
    let queue = rig.direct.queue(rig.local.queue_url("toolfleet-replies"));
    let received = queue.receive(10, 0, 30).await.unwrap();
    let bodies = received.iter().map(|notice| serde_json::from_str::<Value>(&notice.body).unwrap());
    // A refused member of a group decides that, which has a notice of its own.
    let of_calls = bodies.filter(|body| body.get("call_id").is_some());
    of_calls.map(|body| serde_json::from_value(body).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unauthorised_sender_learns_nothing_and_ends_no_call() {
    let rig = Rig::new().await;
    let sessions = rig.direct.sessions(&Tables::with_prefix("toolfleet"));
    let narrow = SessionRow {
        expires_at: Timestamp::from_ms(i64::MAX / 2),
        grants: vec!["something-else".into()],
        user: None,
    };
    let (acme, bobs) = (Tenant::parse("acme").unwrap(), SessionId::parse("session-bob").unwrap());
    sessions.create(&acme, &bobs, &narrow).await.unwrap();
    let mut second = asked_by("bob", "c1", "unsafe");
    second["reply"] = json!({"sqs_queue_url": rig.local.queue_url("toolfleet-replies")});
    let context = rig.fleet_of(catalog(&rig), limits(), None).await;

    // While the call waits for its server and is not claimed.
    rig.mcp.next(MockFault::status_with(429, "retry-after", "20"));
    rig.send(asked_by("ann", "c1", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    let waiting = rig.row("c1").await.unwrap();
    assert!(waiting.finished.is_none());
    send_as(&rig, &other(&rig).await, &second).await;
    rig.deliver(&context).await;
    assert_eq!(rig.row("c1").await.unwrap(), waiting, "the original is untouched");
    // A message whose own time has passed ends no call of somebody else either.
    let mut late = asked_by("cleo", "c1", "unsafe");
    late["deadline"] = json!("2020-01-01T00:00:00Z");
    send_as(&rig, &other(&rig).await, &late).await;
    rig.deliver(&context).await;
    assert_eq!(rig.row("c1").await.unwrap(), waiting, "the original is untouched");

    rig.clock.advance_ms(LEASE_MS + SKEW_MS);
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("c1"), 1);

    // And after it has ended.
    send_as(&rig, &other(&rig).await, &second).await;
    rig.settle_with(&context).await;
    let told = notices(&rig).await;
    assert_eq!(told.len(), 2, "{told:?}");
    for notice in &told {
        assert_eq!(notice.outcome, OutcomeKind::Refused, "{notice:?}");
        assert_eq!(notice.code.map(|code| code.as_str()), Some("session_invalid"));
        assert_eq!(notice.session, Some(bobs.clone()));
    }
    let records = rig.audit_of("c1", AuditKind::Duplicate).await;
    assert_eq!(records.iter().filter(|record| is_of(record, "bob", OTHER)).count(), 2, "{records:?}");
    assert!(
        records
            .iter()
            .filter(|r| is_of(r, "bob", OTHER))
            .all(|r| r.code.as_deref() == Some("session_invalid"))
    );
    assert!(is_of(&rig.audit_of("c1", AuditKind::Call).await[0], "ann", SENDER));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_equal_as_doubles_are_different_questions() {
    let rig = Rig::new().await;
    let send = async |id: &str, number: &str| {
        let body = request(id, "unsafe")
            .to_string()
            .replace(r#""call":"c1""#, &format!(r#""call":"c1","n":{number}"#));
        rig.send(body).await;
        rig.settle().await;
    };
    send("c1", "123456789012345678901").await;
    send("c1", "123456789012345678999").await;
    assert_eq!(rig.audit_of("c1", AuditKind::IdempotencyMismatch).await.len(), 1);
    send("c1", "123456789012345678901.0").await;
    assert_eq!(rig.audit_of("c1", AuditKind::Duplicate).await.len(), 1, "the same number");
    assert_eq!(rig.mcp.executions("unsafe"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_an_earlier_version_wrote_is_the_same_call() {
    let rig = Rig::new().await;
    let mut body = request("c1", "safe");
    body["arguments"] = json!({"call": "c1", "n": 1.0});
    rig.send(body.to_string()).await;
    rig.crash_after(toolfleet_worker::pipeline::steps::Step::Claimed).await;
    // As earlier versions named the question, and without a caller.
    let calls = rig.direct.calls(&Tables::with_prefix("toolfleet"));
    let mut row = rig.row("c1").await.unwrap();
    let seen = row.clone();
    row.digest = Some(Digest::of_text(r#"["tools/call","safe",{"call":"c1","n":1.0},null]"#));
    row.caller = None;
    row.rev += 1;
    calls.swap(Some(&seen), &row).await.unwrap();
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert!(rig.audit_of("c1", AuditKind::IdempotencyMismatch).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_shows_only_the_values_that_the_tool_allows() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["tools"][0]["audit_arguments"] = json!(["city", "order.id"]);
    let context = rig.fleet_of(catalog, limits(), None).await;
    let mut body = request("c1", "safe");
    body["arguments"] = json!({"call": "c1", "city": "Oslo", "note": "Zq7 note", "order": {"id": 7, "iban": "Zq7 iban"},
        "password": "Zq7 password", "by": {"bo@example.com": "Zq7"}});
    rig.send(body.to_string()).await;
    rig.settle_with(&context).await;
    let record = rig.audit_of("c1", AuditKind::Call).await.remove(0);
    let shape: Value = serde_json::from_str(record.arguments.as_deref().unwrap()).unwrap();
    let expected = json!({"call": "string(2)", "city": "Oslo", "note": "string(8)", "order": {"id": 7, "iban": "string(8)"},
        "password": "[redacted]", "by": {"+": "1 more"}});
    assert_eq!(shape, expected);
    assert!(!serde_json::to_string(&record).unwrap().contains("Zq7"), "{record:?}");
}
