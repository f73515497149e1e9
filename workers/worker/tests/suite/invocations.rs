//! A worker as a Lambda function: batches of messages of the queue, through the runtime API.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_aws::Tables;
use toolfleet_aws::queue::{Depth, Outgoing};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::HeldReason;
use toolfleet_core::fleet::WorkerRow;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::why::{Evidence, explain};
use toolfleet_testkit::{MockFault, RuntimeAnswer, RuntimeFault};
use toolfleet_worker::Limits;
use toolfleet_worker::pipeline::steps::Step;

use crate::control::pause;
use crate::event_source::{BATCH, Batch, Function};
use crate::fifo;
use crate::limits::{limited, permits};
use crate::rig::{CrashAfter, LEASE_MS, Rig, SKEW_MS, limits, request};
use crate::step_watch::At;

async fn depth(rig: &Rig) -> Depth {
    rig.queue().depth().await.unwrap()
}

async fn send(rig: &Rig, calls: &[(&str, &str)]) {
    for (id, tool) in calls {
        rig.send(request(id, tool).to_string()).await;
    }
}

fn ids(batch: &Batch) -> Vec<String> {
    batch.0.iter().map(|message| message["MessageId"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lambda_deletes_the_messages_of_a_batch_that_has_ended() {
    let rig = Rig::new().await;
    send(&rig, &[("c1", "safe"), ("c2", "unsafe"), ("c3", "safe"), ("c4", "paused")]).await;
    let function = Function::start(&rig, rig.context(None).await).await;
    let batch = function.source.receive(BATCH).await;
    assert_eq!(batch.0.len(), 4);
    let answer = function.api.answer(&function.invoke(&batch, 60_000)).await;
    assert_eq!(answer, RuntimeAnswer::Response(json!({"batchItemFailures": []})));
    assert_eq!(
        (rig.sqs.count("DeleteMessage"), depth(&rig).await.in_flight),
        (0, 4),
        "the worker deletes none"
    );
    assert!(function.source.settle(&batch, &answer).await.is_empty());
    assert_eq!(depth(&rig).await, Depth { visible: 0, in_flight: 0, delayed: 0 });
    for id in ["c1", "c2", "c3"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded);
        assert_eq!(rig.audit_of(id, AuditKind::Call).await.len(), 1);
    }
    assert_eq!(rig.outcome("c4").await.kind, OutcomeKind::Refused);
    function.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_is_hidden_named_and_no_failure() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "unsafe")]).await;
    // c1 is not sent again in its slot, because its server asks for five seconds.
    rig.mcp.next(MockFault::status_with(429, "retry-after", "5"));
    let waiting = function.source.receive(1).await;
    let answer = function.api.answer(&function.invoke(&waiting, 60_000)).await;
    assert_eq!(function.source.settle(&waiting, &answer).await, ids(&waiting));
    assert_eq!(depth(&rig).await, Depth { visible: 0, in_flight: 1, delayed: 0 });
    rig.clock.advance_ms(4_999);
    assert!(function.source.receive(1).await.0.is_empty(), "it is hidden for five seconds");
    rig.clock.advance_ms(1);
    send(&rig, &[("c2", "safe")]).await;
    assert!(function.batch().await.is_empty());
    assert_eq!(depth(&rig).await, Depth { visible: 0, in_flight: 0, delayed: 0 });
    for id in ["c1", "c2"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_parked_is_a_new_message_and_its_old_one_is_deleted() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "unsafe")]).await;
    // Longer than a message stays hidden.
    rig.mcp.next(MockFault::status_with(429, "retry-after", "300"));
    assert!(function.batch().await.is_empty());
    assert_eq!(depth(&rig).await, Depth { visible: 0, in_flight: 0, delayed: 1 });
    rig.clock.advance_ms(301_000);
    assert!(function.batch().await.is_empty());
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_no_request_goes_to_the_dead_letter_queue_alone() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "safe")]).await;
    rig.send("no request").await;
    send(&rig, &[("c2", "safe")]).await;
    assert!(function.batch().await.is_empty());
    let dead = rig.direct.queue(rig.local.queue_url("toolfleet-calls-dlq"));
    assert_eq!((dead.depth().await.unwrap().visible, depth(&rig).await.in_flight), (1, 0));
    for id in ["c1", "c2"] {
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded);
    }
}

/// Each step, for a call that may be repeated and one that may not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_that_dies_leaves_what_a_worker_leaves() {
    for tool in ["safe", "unsafe"] {
        for step in Step::ALL {
            let rig = Rig::new().await;
            send(&rig, &[("c1", tool)]).await;
            let crash = CrashAfter::new(step);
            let function = Function::start(&rig, rig.context(Some(crash.clone())).await).await;
            let batch = function.source.receive(BATCH).await;
            let id = function.invoke(&batch, 60_000);
            crash.reached.notified().await;
            assert!(!function.api.is_answered(&id));
            function.kill().await;
            rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
            let function = Function::start(&rig, rig.context(None).await).await;
            while depth(&rig).await != (Depth { visible: 0, in_flight: 0, delayed: 0 }) {
                let batch = function.source.receive(BATCH).await;
                if !batch.0.is_empty() {
                    let answer = function.api.answer(&function.invoke(&batch, 60_000)).await;
                    function.source.settle(&batch, &answer).await;
                }
                rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
            }
            let seen = rig.outcome("c1").await;
            let executions = rig.mcp.executions(tool);
            let unknown = tool == "unsafe" && matches!(step, Step::Claimed | Step::Executed);
            let kind = if unknown { OutcomeKind::OutcomeUnknown } else { OutcomeKind::Succeeded };
            assert_eq!(seen.kind, kind, "{tool} after {step:?}: {}", seen.message);
            let again = u64::from(tool == "safe" && step == Step::Executed);
            let never = u64::from(unknown && step == Step::Claimed);
            assert_eq!(executions, 1 + again - never, "{tool} after {step:?}");
            assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1, "{tool} after {step:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_response_executes_nothing_again() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "unsafe"), ("c2", "safe")]).await;
    function.api.next(RuntimeFault::AnswerLost);
    let batch = function.source.receive(BATCH).await;
    let answer = function.api.answer(&function.invoke(&batch, 60_000)).await;
    assert!(matches!(answer, RuntimeAnswer::Lost(_)), "{answer:?}");
    assert_eq!(function.source.settle(&batch, &answer).await.len(), 2, "Lambda deletes nothing");
    rig.clock.advance_ms(LEASE_MS + 1);
    assert!(function.batch().await.is_empty());
    for (id, tool) in [("c1", "unsafe"), ("c2", "safe")] {
        assert_eq!((rig.outcome(id).await.kind, rig.mcp.executions(tool)), (OutcomeKind::Succeeded, 1));
        assert_eq!(rig.audit_of(id, AuditKind::Call).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_begins_whose_time_limit_does_not_fit() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["tools"][1]["timeout_ms"] = json!(30_000);
    let function = Function::start(&rig, rig.fleet_of(catalog, limits(), None).await).await;
    send(&rig, &[("c1", "unsafe"), ("c2", "safe")]).await;
    assert!(function.batch_within(37_900).await.is_empty());
    assert_eq!((rig.mcp.executions("unsafe"), rig.mcp.executions("safe")), (0, 1));
    assert_eq!(
        depth(&rig).await,
        Depth { visible: 0, in_flight: 0, delayed: 1 },
        "it waits as a new message"
    );
    let row = rig.row("c1").await.unwrap();
    let held = row.held.as_ref().unwrap();
    assert_eq!(
        (held.reason, held.detail.as_deref()),
        (
            HeldReason::NoTimeLeft,
            Some("its time limit is 30.0 s, and no invocation of the function runs so long")
        )
    );
    let why = explain(&Evidence::of_row(&row.key, Some(&row), held.since));
    assert!(
        why.waits_for[0].text.starts_with("no_time_left: ") && why.remedies[0].contains("TimeoutSeconds"),
        "{why:?}"
    );
    rig.clock.advance_ms(60_001);
    // The same queue may have another function, which has the time.
    assert!(function.batch_within(40_000).await.is_empty());
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_deadline_comes_first_needs_no_more_time_than_that() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["tools"][1]["timeout_ms"] = json!(600_000);
    let function = Function::start(&rig, rig.fleet_of(catalog, limits(), None).await).await;
    let mut body = request("c1", "unsafe");
    body["timeout_ms"] = json!(10_000);
    rig.send(body.to_string()).await;
    assert!(function.batch_within(30_000).await.is_empty());
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

/// What does not end although its time is over is dropped before the environment can be frozen: nothing of it runs after the response.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_not_ended_before_its_invocation_is_dropped() {
    let rig = Rig::new().await;
    let watch = At::new(Step::Executed);
    watch.holds.store(true, Ordering::SeqCst);
    let function = Function::start(&rig, rig.context(Some(watch.clone())).await).await;
    send(&rig, &[("c1", "unsafe"), ("c2", "paused")]).await;
    let batch = function.source.receive(BATCH).await;
    let answer = function.api.answer(&function.invoke(&batch, 10_100)).await;
    assert_eq!(function.source.settle(&batch, &answer).await, ids(&Batch(vec![batch.0[0].clone()])));
    assert!(rig.row("c1").await.unwrap().finished.is_none());
    // The next delivery finds the claim, whose lease nobody renews.
    rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
    watch.holds.store(false, Ordering::SeqCst);
    assert!(function.batch().await.is_empty());
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, rig.mcp.executions("unsafe")), (OutcomeKind::OutcomeUnknown, 1));
}

/// A heartbeat has hidden the message for a lease only, and the invocation may last longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_a_heartbeat_has_hidden_is_deleted_at_once() {
    let rig = Rig::new().await;
    let short = Limits { lease: Duration::from_secs(1), skew: Duration::ZERO, ..limits() };
    let function = Function::start(&rig, rig.fleet_of(rig.catalog(), short, None).await).await;
    send(&rig, &[("c1", "unsafe")]).await;
    let hold = rig.mcp.hold();
    let batch = function.source.receive(BATCH).await;
    let id = function.invoke(&batch, 60_000);
    while rig.sqs.count("ChangeMessageVisibility") == 0 {
        tokio::task::yield_now().await;
    }
    drop(hold);
    let answer = function.api.answer(&id).await;
    assert_eq!(answer, RuntimeAnswer::Response(json!({"batchItemFailures": []})));
    assert_eq!(depth(&rig).await, Depth { visible: 0, in_flight: 0, delayed: 0 });
    assert!(function.source.settle(&batch, &answer).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_drains_hands_back_what_runs_and_answers() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "safe"), ("c2", "unsafe")]).await;
    let hold = rig.mcp.hold();
    let batch = function.source.receive(BATCH).await;
    let id = function.invoke(&batch, 60_000);
    rig.mcp.arrived("tools/call", 2).await;
    function.context.shutdown.begin(Duration::ZERO);
    let answer = function.api.answer(&id).await;
    drop(hold);
    assert_eq!(function.source.settle(&batch, &answer).await, ids(&Batch(vec![batch.0[0].clone()])));
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::OutcomeUnknown);
    assert_eq!(
        depth(&rig).await,
        Depth { visible: 1, in_flight: 0, delayed: 0 },
        "visible for another environment"
    );
    function.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_messages_of_a_group_run_in_their_order() {
    let rig = fifo::rig().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "unsafe"), ("c2", "unsafe"), ("c3", "unsafe")]).await;
    let other = Outgoing {
        body: request("d1", "safe").to_string(),
        group: Some("other".into()),
        ..Outgoing::default()
    };
    rig.queue().send(other).await.unwrap();
    // The second waits.
    rig.mcp.tool("unsafe", |arguments| json!({"content": [{"type": "text", "text": arguments.to_string()}]}));
    let batch = function.source.receive(BATCH).await;
    assert_eq!(batch.0.len(), 4, "SQS hands out several messages of a group at once");
    let answer = function.api.answer(&function.invoke(&batch, 60_000)).await;
    assert!(function.source.settle(&batch, &answer).await.is_empty());
    let seen = fifo::seen(&rig);
    let in_order: Vec<_> = seen.iter().filter(|id| id.starts_with('c')).collect();
    assert_eq!(in_order, ["c1", "c2", "c3"]);
    assert_eq!(rig.outcome("d1").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_message_that_waits_is_returned_unexecuted() {
    let rig = fifo::rig().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "unsafe"), ("c2", "unsafe"), ("c3", "unsafe")]).await;
    rig.mcp.next(MockFault::status_with(429, "retry-after", "5"));
    let batch = function.source.receive(BATCH).await;
    let answer = function.api.answer(&function.invoke(&batch, 60_000)).await;
    let mut kept = function.source.settle(&batch, &answer).await;
    let mut all = ids(&batch);
    kept.sort();
    all.sort();
    assert_eq!(kept, all);
    assert_eq!(fifo::seen(&rig), ["c1"]);
    assert!(function.source.receive(BATCH).await.0.is_empty(), "nothing overtakes the first");
    rig.clock.advance_ms(5_001);
    assert!(function.batch().await.is_empty());
    assert_eq!(fifo::seen(&rig), ["c1", "c1", "c2", "c3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_in_a_batch_execute_a_call_once() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    // Two messages of one call, and the first of them delivered twice.
    send(&rig, &[("c1", "unsafe"), ("c1", "unsafe")]).await;
    let mut batch = function.source.receive(BATCH).await;
    batch.0.push(batch.0[0].clone());
    let answer = function.api.answer(&function.invoke(&batch, 60_000)).await;
    function.source.settle(&batch, &answer).await;
    while depth(&rig).await != (Depth { visible: 0, in_flight: 0, delayed: 0 }) {
        rig.clock.advance_ms(LEASE_MS + SKEW_MS + 1);
        let batch = function.source.receive(BATCH).await;
        let answer = function.api.answer(&function.invoke(&batch, 60_000)).await;
        function.source.settle(&batch, &answer).await;
    }
    assert_eq!((rig.outcome("c1").await.kind, rig.mcp.executions("unsafe")), (OutcomeKind::Succeeded, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_managed_environment_has_several_invocations_at_once() {
    let rig = Rig::new().await;
    let function = Function::with(&rig, rig.context(None).await, Some(3)).await;
    send(&rig, &[("c1", "unsafe"), ("c2", "unsafe"), ("c3", "unsafe")]).await;
    function.api.polls(3).await;
    let hold = rig.mcp.hold();
    let mut invoked = Vec::new();
    for _ in 0..3 {
        let batch = function.source.receive(1).await;
        invoked.push((function.invoke(&batch, 60_000), batch));
    }
    rig.mcp.arrived("tools/call", 3).await;
    function.api.polls(0).await;
    drop(hold);
    for (id, batch) in invoked {
        let answer = function.api.answer(&id).await;
        assert!(function.source.settle(&batch, &answer).await.is_empty());
    }
    function.api.polls(3).await;
    assert_eq!((rig.mcp.executions("unsafe"), depth(&rig).await.in_flight), (3, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_without_managed_instances_has_one() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "safe")]).await;
    function.api.polls(1).await;
    let hold = rig.mcp.hold();
    let batch = function.source.receive(1).await;
    let id = function.invoke(&batch, 60_000);
    rig.mcp.arrived("tools/call", 1).await;
    function.api.polls(0).await;
    drop(hold);
    function.api.answer(&id).await;
    function.api.polls(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_none_of_its_queues_fails_with_the_remedy() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "safe")]).await;
    let batch = function.source.receive(BATCH).await;
    let deadline = i64::try_from(rig.clock.now_ms() + 60_000).unwrap();
    let mut event = function.source.event(&batch);
    event["Records"][0]["eventSourceARN"] = json!("arn:aws:sqs:us-east-1:000000000000:other");
    let failed = |event: Value, deadline| {
        let id = function.api.invoke(event, deadline);
        let api = &function.api;
        async move {
            match api.answer(&id).await {
                RuntimeAnswer::Error(error) => error["errorMessage"].as_str().unwrap().to_owned(),
                answer @ (RuntimeAnswer::Response(_) | RuntimeAnswer::Lost(_)) => panic!("{answer:?}"),
            }
        }
    };
    let error = failed(event, deadline).await;
    assert!(
        error.starts_with("Records[0].eventSourceARN: is `arn:aws:sqs:us-east-1:000000000000:other`"),
        "{error}"
    );
    assert!(error.contains("TOOLFLEET_QUEUE_URL"), "{error}");
    let error = failed(json!({"key1": "value1"}), deadline).await;
    assert!(error.contains("with a list `Records`"), "{error}");
    let error = failed(function.source.event(&batch), deadline - 52_000).await;
    assert!(error.contains("set its Timeout to a minute or more"), "{error}");
    assert!(rig.mcp.requests_of("tools/call").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_a_paused_queue_go_back_unread() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    function.context.fleet.set_control(&pause(&rig, "queue:default", None)).await.unwrap();
    rig.clock.advance_ms(2_000);
    send(&rig, &[("c1", "safe")]).await;
    assert!(function.batch().await.is_empty(), "they are new messages");
    assert_eq!(depth(&rig).await, Depth { visible: 0, in_flight: 0, delayed: 1 });
    assert!(rig.mcp.requests().is_empty());
}

/// No service reads what operators set while the environment is frozen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_environment_that_was_frozen_knows_of_a_pause_before_its_first_call() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "safe")]).await;
    assert!(function.batch().await.is_empty());
    function.context.fleet.set_control(&pause(&rig, "tool:safe", None)).await.unwrap();
    rig.clock.advance_ms(3_600_000);
    send(&rig, &[("c2", "safe")]).await;
    assert!(function.batch().await.is_empty());
    assert_eq!((rig.mcp.executions("safe"), depth(&rig).await.delayed), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_was_counted_is_stored_before_the_response() {
    let rig = Rig::new().await;
    let function = Function::start(&rig, rig.context(None).await).await;
    send(&rig, &[("c1", "safe"), ("c2", "unsafe")]).await;
    assert!(function.batch().await.is_empty());
    let rows: Vec<WorkerRow> =
        rig.direct.fleet(&Tables::with_prefix("toolfleet")).worker_rows().await.unwrap();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!(
        (row.calls.total(), row.pending, row.ended),
        (2, None, true),
        "nothing is lost with the environment"
    );
}

/// A permit that is not released before the environment is frozen would be taken until its time is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_are_released_before_the_response() {
    let rig = Rig::new().await;
    let catalog = limited(&rig, json!({"concurrency": 1}));
    let function = Function::start(&rig, rig.fleet_of(catalog, limits(), None).await).await;
    send(&rig, &[("c1", "unsafe")]).await;
    assert!(function.batch().await.is_empty());
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    let row = permits(&rig).await;
    assert!(row.entries.is_empty(), "{row:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_fails_is_made_again() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    let function = Function::start(&rig, context).await;
    function.api.polls(1).await;
    function.api.next(RuntimeFault::PollFails);
    for id in ["c1", "c2"] {
        send(&rig, &[(id, "safe")]).await;
        assert!(function.batch().await.is_empty());
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded);
    }
}
