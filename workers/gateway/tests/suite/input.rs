//! Tools that ask for input before they go on.

use std::sync::Arc;

use serde_json::{Value, json};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::time::Timestamp;
use toolfleet_gateway::{Limits, SessionSource};
use uuid::Uuid;

use crate::access::Issuer;
use crate::going_on::until_done;
use crate::rig::{Http, Rig, gateway_at, gateway_of, impatient, open, text};

/// A catalog whose tenants open conversations by themselves.
fn with_sessions(url: &str) -> Value {
    json!({
        "servers": [{"id": "main", "url": url}],
        "tools": [{"id": "ask", "server": "main"}],
        "tenants": {"queue": ["*"], "sessions": {"*": "open"}},
        "publish": {"tools": {"ask": true}},
    })
}

fn octocat() -> Value {
    json!({"who": {"action": "accept", "content": {"name": "octocat"}}})
}

fn retry(asked: &Value, responses: &Value) -> Value {
    json!({"name": "ask", "arguments": {}, "requestState": asked["requestState"], "inputResponses": responses})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_asked_and_its_answers_go_on() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let (first, second) = (Http::modern(&first).with_tasks(), Http::modern(&second).with_tasks());
    let asked = first.call("ask", json!({})).await;
    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(asked["inputRequests"]["who"]["method"], "elicitation/create");
    assert!(!asked.to_string().contains("own state"), "the server's state stays in the fleet: {asked}");
    // What is missing is asked again; what was not asked is passed over.
    let again = second.result("tools/call", retry(&asked, &json!({"other": {}}))).await;
    assert_eq!(again["resultType"], "input_required");
    let mut answers = octocat();
    answers["other"] = json!({"action": "decline"});
    for http in [&second, &first] {
        let done = http.result("tools/call", retry(&again, &answers)).await;
        assert_eq!((text(&done), &done["resultType"]), ("hello", &json!("complete")));
    }
    assert_eq!(rig.mcp.executions("ask"), 1, "the same answers are one call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_question_is_answered() {
    let rig = Rig::start().await;
    // Nothing that is compressed into a row.
    let long: String = (0..1_600).map(|_| Uuid::new_v4().simple().to_string()).collect();
    let form = json!({"method": "elicitation/create", "params": {"mode": "form", "message": long, "requestedSchema": {"type": "object", "properties": {}}}});
    let hello = |_: &Value| json!({"content": [{"type": "text", "text": "hello"}]});
    rig.mcp.tool("large", hello).asks(json!({"who": form}), "s");
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served).with_tasks();
    let asked = http.call("main__large", json!({})).await;
    assert_eq!(asked["inputRequests"]["who"]["params"]["message"], long);
    let mut answers = retry(&asked, &octocat());
    answers["name"] = json!("main__large");
    assert_eq!(text(&http.result("tools/call", answers).await), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_answers_are_sent_by_whoever_sees_them() {
    let rig = Rig::start().await;
    let form = |what: &str| json!({"method": "elicitation/create", "params": {"mode": "form", "message": what, "requestedSchema": {"type": "object", "properties": {}}}});
    let done = |_: &Value| json!({"content": [{"type": "text", "text": "both"}]});
    rig.mcp.tool("two", done).asks(json!({"a": form("One?"), "b": form("Two?")}), "s");
    let first = rig.gateway(impatient()).await;
    let http = Http::modern(&first).with_tasks();
    let held = rig.mcp.hold();
    let task = http.call("main__two", json!({})).await;
    let id = json!({"taskId": task["taskId"]});
    drop(held);
    assert_eq!(until_done(&http, &id).await["status"], "input_required");
    // This gateway stores both answers, and cannot send the call.
    let dying =
        gateway_of(rig.client_without_queue(), Arc::clone(&rig.catalog), impatient(), open("acme")).await;
    for (key, is_taken) in [("a", true), ("b", false)] {
        let given = json!({"taskId": task["taskId"], "inputResponses": {key: {"action": "decline"}}});
        let answered = Http::modern(&dying).with_tasks().ask("tasks/update", given).await;
        assert_eq!(answered.body.get("result").is_some(), is_taken, "{answered:?}");
    }
    drop(dying);
    let done = until_done(&http, &id).await;
    assert_eq!((&done["status"], text(&done["result"])), (&json!("completed"), "both"), "{done}");
    assert_eq!(rig.mcp.executions("two"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_on_in_the_conversation_of_its_question() {
    let (rig, issuer) = (Rig::start_with(with_sessions).await, Issuer::new());
    let gateway = async |at: &str| {
        let at = Timestamp::parse(at).unwrap();
        let authenticator = issuer.authenticator_with(SessionSource::User);
        gateway_at(
            Arc::new(move || at),
            rig.client(),
            Arc::clone(&rig.catalog),
            Limits::default(),
            authenticator,
        )
        .await
    };
    let (november, december) = (gateway("2026-11-30T23:59:00Z").await, gateway("2026-12-01T00:01:00Z").await);
    let token = format!("Bearer {}", issuer.token_for(60, "acme", "ann", &json!([])));
    let [first, second] =
        [&november, &december].map(|served| Http::modern(served).with("authorization", &token).with_tasks());
    let asked = first.call("ask", json!({})).await;
    assert_eq!(text(&second.result("tools/call", retry(&asked, &octocat())).await), "hello");
    let mark = Digest::of_text("4\nacme\nann");
    let (client, acme) = (rig.client(), Tenant::parse("acme").unwrap());
    for (month, is_there) in [("2026-11", true), ("2026-12", false)] {
        let session = SessionId::parse(format!("user-{}-{month}", mark.short(16))).unwrap();
        let found = client.sessions().show(&acme, &session).await.unwrap();
        assert_eq!(found.is_some(), is_there, "{month}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_tampered_with_is_refused() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served).with_tasks();
    let asked = http.call("ask", json!({})).await;
    let mut tampered = asked.clone();
    tampered["requestState"] = json!(format!("{}-TAMPERED", asked["requestState"].as_str().unwrap()));
    let refused = http.ask("tools/call", retry(&tampered, &octocat())).await;
    assert_eq!(refused.body["error"]["code"], -32602);
    let mut other = retry(&asked, &octocat());
    other["name"] = json!("echo");
    assert_eq!(http.ask("tools/call", other).await.body["error"]["code"], -32602);
    let wrong = http.ask("tools/call", retry(&asked, &json!({"who": 1}))).await;
    assert_eq!(wrong.body["error"]["code"], -32602);
    assert_eq!(rig.mcp.executions("ask"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_cannot_be_asked_is_told() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let missing = Http::modern(&served).ask("tools/call", json!({"name": "ask"})).await;
    assert_eq!((missing.status, &missing.body["error"]["code"]), (400, &json!(-32021)));
    assert!(missing.body["error"]["data"]["requiredCapabilities"]["elicitation"].is_object());
    let legacy = Http::of(&served, "2025-11-25").call("ask", json!({})).await;
    assert_eq!(legacy["isError"], true);
    assert!(text(&legacy).contains("has no session"), "{legacy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_cancelled_instead_of_answered_does_not_go_on() {
    let rig = Rig::start().await;
    let served = rig.gateway(impatient()).await;
    let http = Http::modern(&served).with_tasks();
    let held = rig.mcp.hold();
    let task = http.call("ask", json!({})).await;
    let id = json!({"taskId": task["taskId"]});
    drop(held);
    assert_eq!(until_done(&http, &id).await["status"], "input_required");
    http.result("tasks/cancel", id.clone()).await;
    assert_eq!(http.result("tasks/get", id.clone()).await["status"], "cancelled");
    let update = json!({"taskId": task["taskId"], "inputResponses": octocat()});
    http.result("tasks/update", update).await;
    assert_eq!(http.result("tasks/get", id).await["status"], "cancelled");
    assert_eq!(rig.mcp.executions("ask"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_whose_connection_broke_are_found_again() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served).with_tasks();
    let asked = http.call("ask", json!({})).await;
    let answer = http.message("tools/call", retry(&asked, &octocat()));
    let held = rig.mcp.hold();
    let cut = tokio::spawn(http.post(&answer).send());
    rig.mcp.arrived("tools/call", 2).await;
    cut.abort();
    drop(held);
    let done = http.result("tools/call", retry(&asked, &octocat())).await;
    assert_eq!(text(&done), "hello", "{done}");
    assert_eq!(rig.mcp.executions("ask"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_goes_on_with_the_answers() {
    let rig = Rig::start().await;
    let served = rig.gateway(impatient()).await;
    let http = Http::modern(&served).with_tasks();
    let held = rig.mcp.hold();
    let task = http.call("ask", json!({})).await;
    let id = json!({"taskId": task["taskId"]});
    drop(held);
    let asked = until_done(&http, &id).await;
    assert_eq!(asked["status"], "input_required");
    assert_eq!(asked["inputRequests"]["who"]["method"], "elicitation/create");
    let update = json!({"taskId": task["taskId"], "inputResponses": octocat()});
    http.result("tasks/update", update.clone()).await;
    http.result("tasks/update", update).await;
    let done = loop {
        let task = until_done(&http, &id).await;
        if task["status"] != "input_required" {
            break task;
        }
    };
    assert_eq!((&done["status"], text(&done["result"])), (&json!("completed"), "hello"));
    assert_eq!(rig.mcp.executions("ask"), 1);
}
