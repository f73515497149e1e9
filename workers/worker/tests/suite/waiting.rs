//! Calls that wait: pauses, parking, breakers, cancellation, sessions and notices.

use serde_json::json;
use toolfleet_aws::queue::Outgoing;
use toolfleet_aws::{Store as _, Tables};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::{Decision, Event, HeldReason, State, decide};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::notice::Notice;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_core::session::SessionRow;
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{Cut, MockFault, Rule};
use toolfleet_worker::{Limits, pipeline};

use crate::rig::{LEASE_MS, Rig, SKEW_MS, START_MS, key, limits, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_pause_is_a_delayed_message_with_its_first_send_time() {
    let rig = Rig::new().await;
    rig.mcp.next(MockFault::status_with(429, "retry-after", "300"));
    rig.send(request("c1", "unsafe").to_string()).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!(
        (depth.visible, depth.in_flight, depth.delayed),
        (0, 0, 1),
        "parked messages do not sit in flight"
    );
    assert_eq!(rig.row("c1").await.unwrap().attempts, 0, "a pause is not an attempt");
    rig.clock.advance_ms(300_000);
    rig.deliver(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded);
    assert_eq!(seen.row.enqueued_at.as_ms(), i64::try_from(START_MS).unwrap());
    assert_eq!(rig.mcp.executions_of("c1"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_of_seconds_is_the_messages_invisibility() {
    let rig = Rig::new().await;
    rig.mcp.next(MockFault::status_with(429, "retry-after", "5"));
    rig.send(request("c1", "unsafe").to_string()).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    assert_eq!(rig.queue().depth().await.unwrap().in_flight, 1);
    rig.clock.advance_ms(5_000);
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

/// Fair queues know a message's tenant by its group, whatever its sender has set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_replaces_another_has_its_tenant_as_group() {
    for group in [None, Some("a-group-of-its-sender".to_owned())] {
        let rig = Rig::new().await;
        rig.mcp.next(MockFault::status_with(429, "retry-after", "300"));
        let body = request("c1", "unsafe").to_string();
        rig.queue().send(Outgoing { body, group, ..Outgoing::default() }).await.unwrap();
        let context = rig.context(None).await;
        rig.deliver(&context).await;
        rig.clock.advance_ms(300_000);
        let parked = rig.receive(&context).await.unwrap();
        assert_eq!(parked.group.as_deref(), Some("acme"));
    }
}

/// A hidden message counts as in flight: it would make its tenant noisy, and be received towards the dead-letter queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_without_a_seat_is_a_delayed_message_and_says_why() {
    let rig = Rig::new().await;
    // The first call runs for longer than the second waits in the worker.
    let mut catalog = rig.catalog();
    catalog["tools"][1]["timeout_ms"] = json!(60_000);
    let context = rig.fleet_of(catalog, Limits { slots: 1, ..limits() }, None).await;
    let hold = rig.mcp.hold();
    rig.send(request("c1", "unsafe").to_string()).await;
    let first = rig.receive(&context).await.unwrap();
    let running = tokio::spawn(pipeline::run(context.clone(), first, ()));
    rig.mcp.arrived("tools/call", 1).await;
    rig.send(request("c2", "unsafe").to_string()).await;
    rig.clock.advance_ms(4_000);
    rig.deliver(&context).await;
    let depth = rig.queue().depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight, depth.delayed), (0, 1, 1), "one runs, one is delayed");
    let row = rig.row("c2").await.unwrap();
    let held = row.held().expect("it is held visibly");
    assert_eq!((held.reason, row.attempts), (HeldReason::Share, 0));
    let detail = held.detail.as_deref().unwrap();
    assert!(detail.starts_with("tenant acme holds 1 of this worker's 3 slots"), "{detail}");
    drop(hold);
    running.await.unwrap();
    rig.clock.advance_ms(15_000);
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_counts_from_the_first_message_when_parked() {
    let rig = Rig::new().await;
    rig.mcp.next(MockFault::status_with(429, "retry-after", "300"));
    let mut body = request("c1", "unsafe");
    body["timeout_ms"] = json!(310_000);
    rig.send(body.to_string()).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    rig.clock.advance_ms(311_000);
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Expired);
    assert_eq!(rig.mcp.executions_of("c1"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_older_than_the_fleets_memory_is_refused() {
    let rig = Rig::new().await;
    // Parked by the fleet itself more than 28 days ago.
    let first_sent = START_MS - 29 * 24 * 3_600_000;
    let attributes =
        std::collections::BTreeMap::from([("toolfleet-first-sent-ms".to_owned(), first_sent.to_string())]);
    let body = request("old", "unsafe").to_string();
    rig.queue()
        .send(toolfleet_aws::queue::Outgoing { body, attributes, ..Default::default() })
        .await
        .unwrap();
    rig.settle().await;
    assert_eq!(rig.outcome("old").await.code, Some("too_old"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_a_failing_or_paused_server_are_held_visibly() {
    let pause = MockFault::status_with(429, "retry-after", "300");
    for (fault, reason) in
        [(MockFault::status(503), HeldReason::ServerFailing), (pause, HeldReason::ServerPause)]
    {
        let rig = Rig::new().await;
        let context = rig.context(None).await;
        rig.mcp.always_for("tools/call", fault);
        for n in 0..10 {
            rig.send(request(&format!("c{n}"), "unsafe").to_string()).await;
            rig.deliver(&context).await;
        }
        let asked = rig.mcp.requests_of("tools/call").len();
        rig.send(request("waits", "unsafe").to_string()).await;
        rig.deliver(&context).await;
        assert_eq!(rig.mcp.requests_of("tools/call").len(), asked, "nothing is sent meanwhile");
        let row = rig.row("waits").await.unwrap();
        let held = row.held().expect("a wait of seconds is told");
        assert_eq!((held.reason, held.server.as_ref().map(|s| s.as_str())), (reason, Some("mock")));
        assert!(held.next_try_at > held.since && held.last_fault.is_some());
        assert_eq!((row.state, row.attempts), (State::Pending, 0));
        rig.mcp.behave();
        rig.settle_with(&context).await;
        assert_eq!(rig.outcome("waits").await.kind, OutcomeKind::Succeeded);
    }
}

pub(crate) async fn cancel(rig: &Rig, id: &str) {
    let calls = rig.direct.calls(&Tables::with_prefix("toolfleet"));
    let seen = rig.row(id).await;
    let now = Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap());
    let event = Event::Cancel { key: key("acme", id), now, expires_at: now.plus_ms(1_000_000) };
    let Decision::Write { row, .. } = decide(seen.as_ref(), &event) else {
        panic!("a cancellation to write")
    };
    calls.swap(seen.as_ref(), &row).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_that_overtakes_its_message_is_obeyed() {
    let rig = Rig::new().await;
    cancel(&rig, "c1").await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle().await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::Cancelled, Some(MayHaveRun::No)));
    assert_eq!(rig.mcp.executions_of("c1"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_of_a_running_call_is_seen_by_its_heartbeat() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    let limits = toolfleet_worker::Limits {
        // A third of this is the pause between heartbeats, in real time.
        lease: std::time::Duration::from_millis(1_500),
        ..crate::rig::limits()
    };
    let context = rig.fleet_of(rig.catalog(), limits, None).await;
    let delivery = rig.receive(&context).await.unwrap();
    let _hold = rig.mcp.hold();
    let running = tokio::spawn(toolfleet_worker::pipeline::run(context, delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    cancel(&rig, "c1").await;
    running.await.unwrap();
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.may_have_run), (OutcomeKind::Cancelled, Some(MayHaveRun::Unknown)));
    rig.mcp.hung_up(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_keeps_a_long_call_from_every_other_worker() {
    let rig = Rig::new().await;
    rig.send(request("c1", "unsafe").to_string()).await;
    let limits =
        toolfleet_worker::Limits { lease: std::time::Duration::from_secs(2), ..crate::rig::limits() };
    let context = rig.fleet_of(rig.catalog(), limits, None).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let running = tokio::spawn(toolfleet_worker::pipeline::run(context.clone(), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    let first = rig.row("c1").await.unwrap();
    rig.clock.advance_ms(500);
    // Each heartbeat is one write to the row.
    while rig.row("c1").await.unwrap().rev == first.rev {
        tokio::task::yield_now().await;
    }
    assert!(rig.row("c1").await.unwrap().lease_until > first.lease_until);
    drop(hold);
    running.await.unwrap();
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_kept_its_end_and_its_grants_hold() {
    let rig = Rig::new().await;
    let sessions = rig.direct.sessions(&Tables::with_prefix("toolfleet"));
    let acme = Tenant::parse("acme").unwrap();
    let now = Timestamp::from_ms(i64::try_from(START_MS).unwrap());
    let narrow = SessionRow { expires_at: now.plus_ms(600_000), grants: vec!["safe".into()], user: None };
    sessions.create(&acme, &SessionId::parse("narrow").unwrap(), &narrow).await.unwrap();
    let over = SessionRow { expires_at: now, grants: vec!["*".into()], user: None };
    sessions.create(&acme, &SessionId::parse("over").unwrap(), &over).await.unwrap();
    for (id, tool, session) in [
        ("a", "safe", "narrow"),
        ("b", "unsafe", "narrow"),
        ("c", "safe", "over"),
        ("d", "safe", "met-first"),
    ] {
        let mut body = request(id, tool);
        body["session"] = json!(session);
        rig.send(body.to_string()).await;
    }
    rig.settle().await;
    assert_eq!(rig.outcome("a").await.kind, OutcomeKind::Succeeded);
    let refused = rig.outcome("b").await;
    assert_eq!(refused.code, Some("session_invalid"));
    assert!(refused.message.contains("does not grant `unsafe`"), "{}", refused.message);
    assert_eq!(rig.outcome("c").await.code, Some("session_invalid"));
    assert_eq!(rig.outcome("d").await.kind, OutcomeKind::Succeeded);
    let met = sessions.read(&acme, &SessionId::parse("met-first").unwrap()).await.unwrap().unwrap();
    assert_eq!(met.grants, ["*"]);
    let of_session = rig.direct.history(&Tables::with_prefix("toolfleet"));
    let all = (Timestamp::from_ms(0), Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap()));
    let records = of_session.by_session(&acme, &SessionId::parse("narrow").unwrap(), all, 10).await.unwrap();
    assert_eq!(records.len(), 2);
    let failures = of_session.failures(&acme, now, now.plus_ms(LEASE_MS * 100), 10).await.unwrap();
    assert_eq!(failures.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_names_call_and_outcome_and_has_no_content() {
    let rig = Rig::new().await;
    let reply = rig.local.queue_url("toolfleet-replies");
    let mut body = request("c1", "unsafe");
    body["reply"] = json!({"sqs_queue_url": reply});
    body["group"] = json!({"id": "turn-1", "index": 0, "size": 1});
    rig.send(body.to_string()).await;
    rig.settle().await;
    let replies = rig.direct.queue(reply);
    let mut notices = replies.receive(10, 0, 30).await.unwrap();
    // The other one is of its group.
    notices.retain(|notice| !notice.body.contains("group_decided"));
    assert_eq!(notices.len(), 1);
    let notice: Notice = serde_json::from_str(&notices[0].body).unwrap();
    assert_eq!((notice.call_id.as_str(), notice.outcome), ("c1", OutcomeKind::Succeeded));
    assert_eq!(notice.group.unwrap().as_str(), "turn-1");
    assert!(!notices[0].body.contains("content"));
}

/// `toolfleet-loadtest chaos` found it: a notice was lost for good if SQS failed when it was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_sqs_did_not_take_is_sent_at_the_next_delivery() {
    let rig = Rig::new().await;
    let reply = rig.local.queue_url("toolfleet-replies");
    let mut body = request("c1", "unsafe");
    body["reply"] = json!({"sqs_queue_url": reply});
    rig.send(body.to_string()).await;
    // As often as the SDK tries.
    rig.sqs.cut(Rule::new(Cut::BeforeRequest, "SendMessage", 1).times(3));
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    let replies = rig.direct.queue(reply);
    assert!(replies.receive(10, 0, 0).await.unwrap().is_empty());
    rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
    rig.settle_with(&context).await;
    assert_eq!(replies.receive(10, 0, 30).await.unwrap().len(), 1);
    assert_eq!((rig.mcp.executions_of("c1"), rig.audit_of("c1", AuditKind::Call).await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_to_a_queue_that_is_gone_is_given_up() {
    let rig = Rig::new().await;
    let gone = rig.local.queue_url("gone");
    let mut catalog = rig.catalog();
    catalog["reply_queues"] = json!([gone]);
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    let mut body = request("c1", "unsafe");
    body["reply"] = json!({"sqs_queue_url": gone});
    rig.send(body.to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    let depth = rig.direct.queue(rig.local.queue_url("toolfleet-calls")).depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_sessions_stay_ended_and_a_grant_opens_only_its_tool() {
    let rig = Rig::new().await;
    let sessions = rig.direct.sessions(&Tables::with_prefix("toolfleet"));
    let acme = Tenant::parse("acme").unwrap();
    let now = Timestamp::from_ms(i64::try_from(START_MS).unwrap());
    let row = SessionRow { expires_at: now.plus_ms(3_600_000), grants: vec!["safe".into()], user: None };
    sessions.create(&acme, &SessionId::parse("s").unwrap(), &row).await.unwrap();
    let mut catalog = rig.catalog();
    catalog["tools"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": "safe.delete", "server": "mock", "name": "unsafe"}));
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    let mut body = request("other", "safe.delete");
    body["session"] = json!("s");
    rig.send(body.to_string()).await;
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("other").await.code, Some("session_invalid"));

    rig.clock.advance_ms(3 * 24 * 3_600_000);
    rig.local.delete_expired_rows().unwrap();
    let fresh = rig.context(None).await;
    let mut body = request("late", "safe");
    body["session"] = json!("s");
    rig.send(body.to_string()).await;
    rig.settle_with(&fresh).await;
    assert_eq!(rig.outcome("late").await.code, Some("session_invalid"));
}
