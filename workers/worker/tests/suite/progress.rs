//! Progress of a running call: stored with the call, without secrets, in few writes or none.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_core::call::State;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::progress::CallProgress;
use toolfleet_testkit::{HELD, MockFault, ProtocolRevision};
use toolfleet_worker::Limits;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;

use crate::credentials::store;
use crate::rig::{Rig, limits, request};

const ANSWER: &str = "data: {\"jsonrpc\":\"2.0\",\"id\":{id},{result}}\n\n";

fn notification(method: &str, params: &Value) -> String {
    format!("data: {}\n\n", json!({"jsonrpc": "2.0", "method": method, "params": params}))
}

fn progress(done: u64) -> String {
    let params = json!({"progressToken": "TOKEN", "progress": done, "total": 10, "message": "rows"});
    notification("notifications/progress", &params).replace("\"TOKEN\"", "{id}")
}

fn log(text: &str) -> String {
    notification("notifications/message", &json!({"level": "info", "logger": "db", "data": text}))
}

/// A worker whose tool `unsafe` is asked for its progress, and whose heartbeat is quick enough for a test.
async fn context(rig: &Rig, asks: bool) -> Arc<WorkerContext> {
    let mut catalog = rig.catalog();
    store(rig, "crm", "sk-live-12345").await;
    catalog["servers"][0]["headers"] = json!({"Authorization": "Bearer secret://crm"});
    catalog["tools"][1]["progress"] = json!(asks);
    let limits = Limits { lease: Duration::from_secs(2), ..limits() };
    rig.fleet_of(catalog, limits, None).await
}

/// The notes in the row, once there are any.
async fn notes(rig: &Rig, id: &str) -> CallProgress {
    loop {
        if let Some(notes) = rig.row(id).await.and_then(|row| row.notes) {
            return *notes;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_and_log_lines_are_in_the_row_during_and_after_calls() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
        let rig = Rig::with(era).await;
        let context = context(&rig, true).await;
        let mut chunks: Vec<String> = (1..=3).map(progress).collect();
        chunks.extend((1..=7).map(|n| log(&format!("step {n} with sk-live-12345"))));
        chunks.extend([HELD.to_owned(), progress(10), ANSWER.to_owned()]);
        rig.mcp.next(MockFault::Answer { content_type: "text/event-stream".into(), chunks });
        let hold = rig.mcp.hold_for(HELD);
        rig.send(request("c1", "unsafe").to_string()).await;
        let delivery = rig.receive(&context).await.unwrap();
        let running = tokio::spawn(pipeline::run(context, delivery, ()));

        let told = notes(&rig, "c1").await;
        assert_eq!(rig.row("c1").await.unwrap().state, State::Claimed);
        let told_progress = told.progress.unwrap();
        assert_eq!((told_progress.progress.get(), told_progress.total.unwrap().get()), (3.0, 10.0));
        assert_eq!(told_progress.message.as_deref(), Some("rows"));
        let lines: Vec<_> = told.log.iter().map(|line| format!("{}: {}", line.level, line.text)).collect();
        let expected: Vec<_> = (3..=7).map(|n| format!("info: db: step {n} with [redacted]")).collect();
        assert_eq!(lines, expected, "{era:?}");

        drop(hold);
        running.await.unwrap();
        let seen = rig.outcome("c1").await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
        let kept = seen.row.notes.unwrap();
        assert_eq!((kept.progress.unwrap().progress.get(), kept.log.len()), (10.0, 5));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_are_batched_into_one_write_or_none() {
    let rig = Rig::new().await;
    let context = context(&rig, true).await;
    let flood: String = (0..500).map(progress).collect();
    let events = |chunks: &[&str]| MockFault::events(chunks);
    rig.mcp.next(events(&[&flood, HELD, ANSWER])).next(events(&[&flood, ANSWER]));
    let hold = rig.mcp.hold_for(HELD);
    rig.send(request("slow", "unsafe").to_string()).await;
    let delivery = rig.receive(&context).await.unwrap();
    let running = tokio::spawn(pipeline::run(context.clone(), delivery, ()));
    notes(&rig, "slow").await;
    assert_eq!(rig.row("slow").await.unwrap().rev, 2, "the claim, and one write for all that was told");
    drop(hold);
    running.await.unwrap();

    rig.send(request("quick", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    let seen = rig.outcome("quick").await;
    assert_eq!(seen.row.rev, 2, "the claim and the end");
    assert_eq!(seen.row.notes.unwrap().progress.unwrap().progress.get(), 499.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_neither_requested_nor_kept_unless_registered() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
        let rig = Rig::with(era).await;
        let context = context(&rig, false).await;
        rig.mcp.next(MockFault::events(&[&log("hello"), &progress(1), ANSWER]));
        rig.send(request("c1", "unsafe").to_string()).await;
        rig.deliver(&context).await;
        let seen = rig.outcome("c1").await;
        assert_eq!((seen.kind, seen.row.notes), (OutcomeKind::Succeeded, None));
        let asked = rig.mcp.requests_of("tools/call").remove(0).text;
        assert!(!asked.contains("progressToken") && !asked.contains("logLevel"), "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_ends_by_attempt_time_out_and_call_deadline() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["servers"][0]["progress"] = json!(true);
    catalog["tools"][0]["timeout_ms"] = json!(500);
    catalog["tools"][0]["max_attempts"] = json!(1);
    catalog["tools"][1]["timeout_ms"] = json!(60_000);
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.mcp.always_for("tools/call", MockFault::NeverAnswer);
    rig.send(request("silent", "safe").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("silent").await.code, Some("attempt_timed_out"));
    let mut late = request("late", "unsafe");
    late["timeout_ms"] = json!(700);
    rig.send(late.to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("late").await.code, Some("deadline_exceeded"));
    assert!(rig.mcp.requests_of("tools/call").iter().all(|call| call.text.contains("progressToken")));
}
