//! Clients that repeat a request, go away, or cancel.

use serde_json::{Value, json};
use toolfleet_client::RecordsOf;
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_gateway::Limits;

use crate::rig::{Answered, Http, Rig, Served, answered, gateway_of, open, text};

fn keyed(key: &str) -> Value {
    json!({"name": "echo", "arguments": {"text": "once"}, "_meta": {"toolfleet/requestKey": key}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_at_another_gateway_finds_the_call_of_a_killed_one() {
    let rig = Rig::start().await;
    let second = rig.gateway(Limits::default()).await;
    // The first gateway has a runtime of its own, which ends as a killed process does: without a word to anybody.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (catalog, client) = (rig.catalog.clone(), rig.client());
    let first = runtime.spawn(gateway_of(client, catalog, Limits::default(), open("acme"))).await.unwrap();
    let held = rig.mcp.hold();
    let http = Http::modern(&first);
    let waiting = tokio::spawn(http.post(&http.message("tools/call", keyed("turn-7"))).send());
    rig.mcp.arrived("tools/call", 1).await;
    runtime.shutdown_background();
    assert!(waiting.await.unwrap().is_err(), "the connection is cut");
    let retried = {
        let http = Http::modern(&second);
        let message = http.message("tools/call", keyed("turn-7"));
        tokio::spawn(answered(http.post(&message)))
    };
    drop(held);
    let result = retried.await.unwrap().body["result"].clone();
    assert_eq!(text(&result), "once", "{result}");
    // The header names a call as well, and the answer stays the same.
    let header =
        Http::modern(&second).with("idempotency-key", "turn-7").call("echo", json!({"text": "once"})).await;
    assert_eq!(text(&header), "once");
    assert_eq!(rig.mcp.executions("echo"), 1);
    // The same key for something else is refused.
    let other =
        Http::modern(&second).with("idempotency-key", "turn-7").call("echo", json!({"text": "twice"})).await;
    assert_eq!(other["_meta"]["toolfleet/outcome"]["code"], "idempotency_mismatch", "{other}");
}

/// A request that waits for its answer.
async fn waiting(rig: &Rig, http: &Http, params: Value) -> tokio::task::JoinHandle<Answered> {
    let waiting = tokio::spawn(answered(http.post(&http.message("tools/call", params))));
    rig.mcp.arrived("tools/call", 1).await;
    waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_cancels_the_call() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    let _held = rig.mcp.hold();
    waiting(&rig, &http, json!({"name": "echo", "_meta": {"progressToken": 1}})).await.abort();
    // The worker hangs up when it reads the cancellation.
    rig.mcp.hung_up(1).await;
    assert_eq!(rig.mcp.executions("echo"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_of_an_older_version_cancels_nothing() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::of(&served, "2025-11-25").with("idempotency-key", "k");
    let held = rig.mcp.hold();
    waiting(&rig, &http, json!({"name": "echo", "arguments": {"text": "x"}})).await.abort();
    drop(held);
    assert_eq!(text(&http.call("echo", json!({"text": "x"})).await), "x");
    assert_eq!(rig.mcp.executions("echo"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_client_cancels_by_a_notification() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::of(&served, "2025-11-25").with("mcp-session-id", "s1");
    let _held = rig.mcp.hold();
    let waiting = waiting(&rig, &http, json!({"name": "echo"})).await;
    // Another session has requests of its own.
    let other = Http::of(&served, "2025-11-25").with("mcp-session-id", "s2");
    assert_eq!(other.notify("notifications/cancelled", json!({"requestId": 7})).await, 202);
    assert_eq!(http.notify("notifications/cancelled", json!({"requestId": 8})).await, 202);
    assert!(!waiting.is_finished());
    assert_eq!(http.notify("notifications/cancelled", json!({"requestId": 7})).await, 202);
    let cancelled = waiting.await.unwrap().body["result"].clone();
    assert_eq!(cancelled["_meta"]["toolfleet/outcome"]["outcome"], "cancelled", "{cancelled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_the_tenants_own() {
    let rig = Rig::start().await;
    let one: Served = rig.gateway_for(Limits::default(), open("acme")).await;
    let other: Served = rig.gateway_for(Limits::default(), open("globex")).await;
    for served in [&one, &one, &other] {
        let result = Http::modern(served).result("tools/call", keyed("k")).await;
        assert_eq!(text(&result), "once");
    }
    assert_eq!(rig.mcp.executions("echo"), 2);
    let long = Http::modern(&one).ask("tools/call", keyed(&"k".repeat(300))).await;
    assert_eq!(long.body["error"]["code"], -32602);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_its_record_like_any_other() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served).with("x-conversation", "conversation-1");
    http.call("echo", json!({"text": "recorded"})).await;
    let client = rig.client();
    let tenant = Tenant::parse("acme").unwrap();
    let span = client.last(std::time::Duration::from_secs(60));
    // The record is stored right after the row.
    let record = loop {
        let records = client.records(&tenant, &RecordsOf::Everything, span, 10).await.unwrap();
        if let Some(record) = records.into_iter().find(|record| record.tool.as_deref() == Some("echo")) {
            break record;
        }
    };
    assert_eq!(record.session.as_ref().map(|session| session.as_str()), Some("conversation-1"));
    let key = CallKey { tenant, call_id: record.call_id.clone() };
    assert!(client.row(&key).await.unwrap().unwrap().finished.is_some());
}
