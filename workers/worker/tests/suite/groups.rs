//! Groups: one decision and one notice, whoever dies, whatever comes twice, late or never.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use toolfleet_aws::Tables;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::queue::Outgoing;
use toolfleet_core::group::{GroupMessage, GroupNotice, GroupResult, GroupRow};
use toolfleet_core::ids::{GroupId, Tenant};
use toolfleet_core::message_attributes::GROUP;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_core::request::GroupKey;
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{Cut, Rule};
use toolfleet_worker::pipeline::steps::Step;

use crate::limits::{limited, server, worker};
use crate::rig::{LEASE_MS, Rig, SKEW_MS, request};

pub(crate) fn fleet(rig: &Rig) -> Fleet {
    rig.direct.fleet(&Tables::with_prefix("toolfleet"))
}

pub(crate) fn key(tenant: &str) -> GroupKey {
    GroupKey { tenant: Tenant::parse(tenant).unwrap(), id: GroupId::parse("turn").unwrap(), round: 1 }
}

pub(crate) async fn row(rig: &Rig) -> GroupRow {
    fleet(rig).group(&key("acme")).await.unwrap().expect("the group has a row")
}

/// A member of the group `turn`, which asks for the group's notice and none of its own.
pub(crate) fn member(rig: &Rig, id: &str, tool: &str, (index, size): (u32, u32), policy: Value) -> Value {
    let mut body = request(id, tool);
    let reply = json!({"sqs_queue_url": rig.local.queue_url("toolfleet-replies")});
    body["group"] = json!({"id": "turn", "index": index, "size": size, "policy": policy, "reply": reply});
    body
}

pub(crate) async fn send(rig: &Rig, body: &Value) {
    rig.send(body.to_string()).await;
}

/// The notices of groups that were sent.
pub(crate) async fn notices(rig: &Rig) -> Vec<GroupNotice> {
    let queue = rig.direct.queue(rig.local.queue_url("toolfleet-replies"));
    let mut notices = Vec::new();
    loop {
        let got = queue.receive(10, 0, 600).await.unwrap();
        if got.is_empty() {
            return notices;
        }
        for delivery in got {
            notices.push(serde_json::from_str::<GroupNotice>(&delivery.body).unwrap());
            queue.delete(&delivery.receipt).await.unwrap();
        }
    }
}

/// One decision; one notice, perhaps more than once, that says the same.
pub(crate) async fn assert_decided(
    rig: &Rig,
    result: GroupResult,
    (succeeded, failed): (u32, u32),
    context: &str,
) {
    let row = row(rig).await;
    let decision = row.decision.unwrap_or_else(|| panic!("{context}: not decided: {row:?}"));
    assert_eq!(
        (decision.result, decision.succeeded, decision.failed),
        (result, succeeded, failed),
        "{context}"
    );
    let notices = notices(rig).await;
    assert!(!notices.is_empty(), "{context}: the notice is lost");
    for notice in &notices {
        assert_eq!(*notice, notices[0], "{context}");
        assert_eq!((notice.result, notice.decided_at), (result, decision.at), "{context}");
    }
}

pub(crate) fn after(rig: &Rig, ms: u64) -> Timestamp {
    Timestamp::from_ms(i64::try_from(rig.clock.now_ms() + ms).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_members_end_and_one_notice_says_so() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    for (index, id) in (0..).zip(["a", "b", "c"]) {
        send(&rig, &member(&rig, id, "unsafe", (index, 3), json!("all"))).await;
        rig.deliver(&context).await;
        assert_eq!(row(&rig).await.decision.is_some(), index == 2);
    }
    assert_eq!(notices(&rig).await.len(), 1);
    rig.settle().await;
    assert!(notices(&rig).await.is_empty(), "the timer finds the decision and sends nothing");
    assert_eq!(row(&rig).await.decision.unwrap().result, GroupResult::Succeeded);
    let members = fleet(&rig).group_members(&key("acme")).await.unwrap();
    let members: Vec<_> = members.iter().map(|(index, call)| (*index, call.as_str())).collect();
    assert_eq!(members, [(0, "a"), (1, "b"), (2, "c")]);
}

/// celery #4207: the chord's callback is lost or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_any_step_loses_no_notice_and_decides_once() {
    for step in Step::ALL.into_iter().chain(Step::OF_GROUPS) {
        for first in [true, false] {
            let context =
                format!("crash after {step:?} of the {} member", if first { "first" } else { "last" });
            let only_last = matches!(step, Step::GroupDecided | Step::GroupNotified);
            let only_first = matches!(step, Step::GroupMade | Step::TimerSent);
            if (first && only_last) || (!first && only_first) {
                continue;
            }
            let rig = Rig::new().await;
            send(&rig, &member(&rig, "a", "safe", (0, 2), json!("all"))).await;
            if !first {
                rig.deliver(&rig.context(None).await).await;
                send(&rig, &member(&rig, "b", "safe", (1, 2), json!("all"))).await;
            }
            rig.crash_after(step).await;
            if first {
                send(&rig, &member(&rig, "b", "safe", (1, 2), json!("all"))).await;
            }
            rig.settle().await;
            for id in ["a", "b"] {
                assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded, "{context}");
            }
            assert_decided(&rig, GroupResult::Succeeded, (2, 0), &context).await;
            assert!(row(&rig).await.timer_sent, "{context}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_count_or_decision_changes_nothing() {
    for (name, part) in [("count", "ADD ok"), ("decision", "SET decision")] {
        let rig = Rig::new().await;
        send(&rig, &member(&rig, "a", "unsafe", (0, 1), json!("all"))).await;
        rig.dynamodb.cut(Rule::new(Cut::AfterAnswer, "UpdateItem", 1).with_body(part));
        rig.settle().await;
        assert_eq!((rig.dynamodb.cuts(), rig.mcp.executions_of("a")), (1, 1), "{name}");
        assert_decided(&rig, GroupResult::Succeeded, (1, 0), name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_success_ends_the_rest_before_they_start() {
    let rig = Rig::new().await;
    for (index, id) in (0..).zip(["a", "b", "c"]) {
        send(&rig, &member(&rig, id, "unsafe", (index, 3), json!("first_success"))).await;
    }
    rig.settle().await;
    assert_eq!(rig.mcp.executions("unsafe"), 1);
    let mut cancelled = 0;
    for id in ["a", "b", "c"] {
        let seen = rig.outcome(id).await;
        if seen.kind == OutcomeKind::Cancelled {
            assert_eq!((seen.code, seen.may_have_run), (Some("group_decided"), Some(MayHaveRun::No)));
            assert!(seen.message.contains("`turn` was decided (succeeded)"), "{}", seen.message);
            cancelled += 1;
        }
    }
    assert_eq!(cancelled, 2);
    assert_decided(&rig, GroupResult::Succeeded, (1, 0), "first success").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_member_is_cancelled_at_its_heartbeat() {
    let rig = Rig::new().await;
    send(&rig, &member(&rig, "slow", "unsafe", (0, 2), json!("any"))).await;
    let limits =
        toolfleet_worker::Limits { lease: std::time::Duration::from_secs(3), ..crate::rig::limits() };
    let context = rig.fleet_of(rig.catalog(), limits, None).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hold = rig.mcp.hold();
    let running = tokio::spawn(toolfleet_worker::pipeline::run(context, delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    // It is refused and ends: so it decides a group of the policy `any`.
    send(&rig, &member(&rig, "b", "paused", (1, 2), json!("any"))).await;
    rig.deliver(&rig.context(None).await).await;
    running.await.unwrap();
    drop(hold);
    let seen = rig.outcome("slow").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Cancelled, Some("group_decided")));
    assert_eq!(seen.may_have_run, Some(MayHaveRun::Unknown));
    assert_decided(&rig, GroupResult::Failed, (0, 1), "any").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_never_comes_is_decided_at_the_deadline() {
    let rig = Rig::new().await;
    let deadline = after(&rig, 2_000_000);
    let of = |id: &str, index| {
        let mut body = member(&rig, id, "unsafe", (index, 3), json!("all"));
        body["group"]["deadline"] = json!(deadline);
        body
    };
    send(&rig, &of("a", 0)).await;
    send(&rig, &of("b", 1)).await;
    rig.settle().await;
    assert!(rig.clock.now_ms() >= u64::try_from(deadline.as_ms()).unwrap());
    assert_decided(&rig, GroupResult::Incomplete, (2, 0), "deadline").await;
    // It comes after all.
    send(&rig, &of("c", 2)).await;
    rig.settle().await;
    let late = rig.outcome("c").await;
    assert_eq!((late.kind, late.code), (OutcomeKind::Cancelled, Some("group_decided")));
    assert_eq!((rig.mcp.executions_of("c"), notices(&rig).await.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_comes_twice_counts_once() {
    let rig = Rig::new().await;
    let a = member(&rig, "a", "unsafe", (0, 2), json!("all"));
    send(&rig, &a).await;
    send(&rig, &a).await;
    let context = rig.context(None).await;
    rig.deliver(&context).await;
    rig.deliver(&context).await;
    let seen = row(&rig).await;
    assert_eq!((seen.decision, seen.ok.len(), rig.mcp.executions_of("a")), (None, 1, 1));
    send(&rig, &member(&rig, "b", "unsafe", (1, 2), json!("all"))).await;
    rig.settle().await;
    assert_decided(&rig, GroupResult::Succeeded, (2, 0), "twice").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused_and_does_not_count() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["tenants"]["senders"] = json!({crate::rig::SENDER: ["acme", "globex"]});
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    send(&rig, &member(&rig, "a", "unsafe", (0, 2), json!("all"))).await;
    rig.deliver(&context).await;
    for (id, place, policy, field) in [
        ("size", (1, 3), json!("all"), "group.size"),
        ("index", (0, 2), json!("all"), "group.index"),
        ("policy", (1, 2), json!("any"), "group.policy"),
    ] {
        send(&rig, &member(&rig, id, "unsafe", place, policy)).await;
        rig.deliver(&context).await;
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some("group_mismatch")), "{id}");
        assert!(seen.message.starts_with(field), "{}", seen.message);
    }
    // Another tenant's call of the same group id is another group's.
    let mut stranger = member(&rig, "stranger", "unsafe", (1, 2), json!("all"));
    stranger["tenant"] = json!("globex");
    send(&rig, &stranger).await;
    rig.deliver(&context).await;
    let (own, other) = (row(&rig).await, fleet(&rig).group(&key("globex")).await.unwrap().unwrap());
    assert_eq!((own.decision, own.ok.len(), own.failed.len()), (None, 1, 0));
    assert_eq!((other.decision, other.ok.len()), (None, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_end_without_the_pipeline_are_counted() {
    let rig = Rig::new().await;
    let of = |id: &str, tool: &str, index| member(&rig, id, tool, (index, 5), json!("all"));
    // Refused by the catalog; its arguments are no object; superseded; cancelled by its caller; a dead letter.
    send(&rig, &of("refused", "paused", 0)).await;
    let mut unread = of("unread", "unsafe", 1);
    unread["arguments"] = json!(7);
    send(&rig, &unread).await;
    let mut older = of("older", "unsafe", 2);
    older["supersede"] = json!("k");
    older["not_before"] = json!(after(&rig, 60_000));
    send(&rig, &older).await;
    let context = rig.context(None).await;
    for _ in 0..3 {
        rig.deliver(&context).await;
    }
    rig.clock.advance_ms(1_000);
    let mut newer = request("newer", "unsafe");
    newer["supersede"] = json!("k");
    send(&rig, &newer).await;
    send(&rig, &of("cancelled", "unsafe", 3)).await;
    let (now, expires_at) = (after(&rig, 0), after(&rig, 1_000_000));
    let cancel =
        toolfleet_core::call::Event::Cancel { key: crate::rig::key("acme", "cancelled"), now, expires_at };
    toolfleet_aws::apply(&context.calls, None, &cancel).await.unwrap();
    let dead = rig.direct.queue(rig.local.queue_url("toolfleet-calls-dlq"));
    let body = of("dead", "unsafe", 4).to_string();
    dead.send(Outgoing { body, group: Some("acme".into()), ..Outgoing::default() }).await.unwrap();
    for _ in 0..2 {
        rig.deliver(&context).await;
    }
    rig.clock.advance_ms(60_000);
    rig.deliver(&context).await;
    assert_eq!(row(&rig).await.failed.iter().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    // The dead letter's deadline passes, and the group's comes a minute later.
    rig.clock.advance_ms(3_550_000);
    let letters = context.dead_letters.clone().unwrap();
    let delivery = letters.queue.receive(1, 0, 30).await.unwrap().pop().unwrap();
    toolfleet_worker::pipeline::reap(context, letters, delivery).await;
    let row = row(&rig).await;
    assert_eq!((row.ok.len(), row.failed.len()), (0, 5), "{row:?}");
    assert_eq!(rig.mcp.executions("unsafe"), 1, "only the newer call of the key ran");
    assert_decided(&rig, GroupResult::Failed, (0, 5), "without the pipeline").await;
}

/// Its row would say another reply than every member, so that none would count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_whose_reply_is_not_allowed_is_decided_by_its_members() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["reply_queues"] = json!([]);
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    for (index, id) in (0..).zip(["a", "b"]) {
        send(&rig, &member(&rig, id, "unsafe", (index, 2), json!("all"))).await;
        rig.deliver(&context).await;
        assert_eq!(rig.outcome(id).await.code, Some("reply_not_allowed"));
    }
    let row = row(&rig).await;
    assert_eq!(
        (row.failed.len(), row.decision.map(|decision| decision.result)),
        (2, Some(GroupResult::Failed))
    );
    assert!(notices(&rig).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_fit_a_group_made_before_its_reply_was_allowed() {
    let rig = Rig::new().await;
    let mut before = rig.catalog();
    before["reply_queues"] = json!([]);
    send(&rig, &member(&rig, "a", "unsafe", (0, 2), json!({"tolerate": 1}))).await;
    rig.deliver(&rig.fleet_of(before, crate::rig::limits(), None).await).await;
    send(&rig, &member(&rig, "b", "unsafe", (1, 2), json!({"tolerate": 1}))).await;
    rig.settle().await;
    assert_eq!(rig.outcome("b").await.kind, OutcomeKind::Succeeded);
    assert_decided(&rig, GroupResult::Succeeded, (1, 1), "allowed later").await;
}

/// The deadline of a refused member would keep the group open for years, and its timer hopping.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_is_refused_is_not_the_groups() {
    let rig = Rig::new().await;
    for (index, id) in (0..).zip(["a", "b"]) {
        let mut body = member(&rig, id, "unsafe", (index, 3), json!("all"));
        body["group"]["deadline"] = json!("2062-01-01T00:00:00Z");
        send(&rig, &body).await;
        rig.deliver(&rig.context(None).await).await;
        assert_eq!(rig.outcome(id).await.code, Some("unsupported"));
    }
    let seen = row(&rig).await;
    assert_eq!((seen.failed.len(), seen.decision), (2, None));
    assert!(seen.terms.deadline <= after(&rig, 2 * 3_600_000), "{seen:?}");
    rig.settle().await;
    assert_decided(&rig, GroupResult::Incomplete, (0, 2), "one never came").await;
}

/// An agent uses the ids of an earlier turn again: the message is refused, and its index waits for no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_under_a_used_id_counts_as_failed() {
    for waits in [false, true] {
        let rig = Rig::new().await;
        send(&rig, &request("a", "unsafe")).await;
        rig.deliver(&rig.context(None).await).await;
        let mut again = member(&rig, "a", "unsafe", (0, 2), json!("all"));
        again["arguments"] = json!({"call": "other"});
        if waits {
            again["not_before"] = json!(after(&rig, 60_000));
        }
        send(&rig, &again).await;
        send(&rig, &member(&rig, "b", "unsafe", (1, 2), json!("all"))).await;
        for _ in 0..2 {
            rig.deliver(&rig.context(None).await).await;
        }
        assert_eq!((rig.mcp.executions_of("a"), rig.mcp.executions_of("other")), (1, 0));
        assert_decided(&rig, GroupResult::Failed, (1, 1), &format!("waits: {waits}")).await;
    }
}

/// The first call of the id is that member: its own end counts, not the refusal of another message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_second_question_does_not_count_for_its_member() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    let first = member(&rig, "a", "unsafe", (0, 2), json!("all"));
    let hold = rig.mcp.hold();
    send(&rig, &first).await;
    let delivery = rig.receive(&context).await.unwrap();
    let running = tokio::spawn(toolfleet_worker::pipeline::run(context.clone(), delivery, ()));
    rig.mcp.arrived("tools/call", 1).await;
    let mut second = first.clone();
    second["arguments"] = json!({"call": "other"});
    send(&rig, &second).await;
    rig.deliver(&context).await;
    assert!(row(&rig).await.failed.is_empty());
    drop(hold);
    running.await.unwrap();
    send(&rig, &member(&rig, "b", "unsafe", (1, 2), json!("all"))).await;
    rig.settle().await;
    assert_decided(&rig, GroupResult::Succeeded, (2, 0), "a second question").await;
}

async fn send_cancel(rig: &Rig) {
    let message = Outgoing {
        body: GroupMessage::cancel(key("acme")).encode(),
        group: Some("acme".into()),
        attributes: [(GROUP.to_owned(), "cancel".to_owned())].into(),
        ..Outgoing::default()
    };
    rig.queue().send(message).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_group_starts_no_more_members() {
    for step in [None, Some(Step::GroupDecided), Some(Step::GroupNotified)] {
        let rig = Rig::new().await;
        send(&rig, &member(&rig, "a", "unsafe", (0, 2), json!("all"))).await;
        rig.deliver(&rig.context(None).await).await;
        send_cancel(&rig).await;
        match step {
            None => rig.deliver(&rig.context(None).await).await,
            Some(step) => rig.crash_after(step).await,
        }
        send(&rig, &member(&rig, "b", "unsafe", (1, 2), json!("all"))).await;
        rig.clock.advance_ms(LEASE_MS + SKEW_MS);
        rig.settle().await;
        assert_eq!(rig.outcome("b").await.code, Some("group_decided"));
        assert_eq!((rig.mcp.executions_of("a"), rig.mcp.executions_of("b")), (1, 0));
        assert_decided(&rig, GroupResult::Cancelled, (1, 0), &format!("{step:?}")).await;
    }
}

/// It was open when the member was received, which then waited for a permit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_waits_in_hand_is_not_started_after_the_decision() {
    let rig = Rig::new().await;
    let context = worker(&rig, &limited(&rig, json!({"concurrency": 1}))).await;
    let hold = rig.mcp.hold();
    let mut runs = Vec::new();
    for (waiting, body) in
        (0..).zip([request("c0", "unsafe"), member(&rig, "b", "unsafe", (1, 2), json!("any"))])
    {
        send(&rig, &body).await;
        let delivery = rig.receive(&context).await.unwrap();
        runs.push(tokio::spawn(toolfleet_worker::pipeline::run(context.clone(), delivery, ())));
        rig.mcp.arrived("tools/call", 1).await;
        while context.limiter.waiting(&server()) < waiting {
            tokio::task::yield_now().await;
        }
    }
    // One that waited for less than 50 ms does not look again.
    let waits_since = Instant::now();
    send(&rig, &member(&rig, "a", "paused", (0, 2), json!("any"))).await;
    rig.deliver(&context).await;
    assert_eq!(row(&rig).await.decision.unwrap().result, GroupResult::Failed);
    while waits_since.elapsed() < Duration::from_millis(60) {
        tokio::task::yield_now().await;
    }
    drop(hold);
    for run in runs {
        run.await.unwrap();
    }
    rig.settle_with(&context).await;
    let late = rig.outcome("b").await;
    assert_eq!((late.code, late.may_have_run), (Some("group_decided"), Some(MayHaveRun::No)));
    assert_eq!((rig.mcp.executions_of("b"), rig.mcp.executions("unsafe")), (0, 1));
    assert_decided(&rig, GroupResult::Failed, (0, 1), "it waited in hand").await;
}

/// The members wait behind a backlog, and the cancellation overtakes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancellation_before_the_first_member_starts_none() {
    let steps = [Step::GroupMade, Step::GroupDecided, Step::GroupNotified, Step::Recorded];
    for step in std::iter::once(None).chain(steps.map(Some)) {
        let rig = Rig::new().await;
        send_cancel(&rig).await;
        rig.deliver(&rig.context(None).await).await;
        assert_eq!(rig.queue().depth().await.unwrap().in_flight, 0, "its message is gone");
        send(&rig, &member(&rig, "a", "unsafe", (0, 2), json!("all"))).await;
        if let Some(step) = step {
            rig.crash_after(step).await;
        }
        // Another member finds it too, whatever became of the first.
        send(&rig, &member(&rig, "b", "unsafe", (1, 2), json!("all"))).await;
        rig.deliver(&rig.context(None).await).await;
        rig.clock.advance_ms(LEASE_MS + SKEW_MS);
        rig.settle().await;
        for id in ["a", "b"] {
            let seen = rig.outcome(id).await;
            assert_eq!((seen.code, seen.may_have_run), (Some("group_decided"), Some(MayHaveRun::No)));
        }
        assert_eq!(rig.mcp.executions("unsafe"), 0, "{step:?}");
        assert_decided(&rig, GroupResult::Cancelled, (0, 0), &format!("{step:?}")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_cancels_no_group_of_another_tenant() {
    let rig = Rig::new().await;
    send(&rig, &member(&rig, "a", "unsafe", (0, 2), json!("all"))).await;
    rig.deliver(&rig.context(None).await).await;
    send_cancel(&rig).await;
    let mut catalog = rig.catalog();
    catalog["tenants"]["senders"] = json!({crate::rig::SENDER: ["globex"]});
    rig.deliver(&rig.fleet_of(catalog, crate::rig::limits(), None).await).await;
    assert_eq!(row(&rig).await.decision, None);
    let audit = rig.audit(&Tenant::tenant_not_allowed()).await;
    assert_eq!(audit.len(), 1, "{audit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_cannot_be_sent_yet_keeps_its_message() {
    let rig = Rig::new().await;
    send(&rig, &member(&rig, "a", "unsafe", (0, 1), json!("all"))).await;
    rig.sqs.cut(Rule::new(Cut::BeforeRequest, "SendMessageBatch", 1).with_body("group_decided").times(5));
    rig.settle().await;
    assert_eq!(rig.sqs.cuts(), 5);
    assert_decided(&rig, GroupResult::Succeeded, (1, 0), "no queue").await;
    assert_eq!(rig.mcp.executions_of("a"), 1);
}

/// The keys of a role expire, or cannot be loaded for a moment: that says nothing of the queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_is_not_given_up_because_credentials_expired() {
    let rig = Rig::new().await;
    let mut body = member(&rig, "a", "unsafe", (0, 1), json!("all"));
    body["reply"] = body["group"]["reply"].clone();
    send(&rig, &body).await;
    for notice in ["group_decided", "call_ended"] {
        let refused =
            Rule::new(Cut::Refused("ExpiredToken"), "SendMessageBatch", 1).with_body(notice).times(4);
        rig.sqs.cut(refused);
    }
    rig.settle().await;
    let queue = rig.direct.queue(rig.local.queue_url("toolfleet-replies"));
    let got = queue.receive(10, 0, 600).await.unwrap();
    for notice in ["group_decided", "call_ended"] {
        assert!(got.iter().any(|delivery| delivery.body.contains(notice)), "{notice} is lost: {got:?}");
    }
    assert_eq!((rig.sqs.cuts(), rig.mcp.executions_of("a")), (8, 1));
}
