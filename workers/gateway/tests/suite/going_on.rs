//! Calls that go on beyond the bound: handles and tasks.

use serde_json::{Value, json};
use toolfleet_gateway::Limits;

use crate::rig::{Http, Rig, impatient, text};

fn handle(result: &Value) -> String {
    result["_meta"]["toolfleet/outcome"]["handle"].as_str().unwrap_or_else(|| panic!("{result}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_takes_long_names_a_handle() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(impatient()).await, rig.gateway(Limits::default()).await);
    for version in ["2026-07-28", "2025-06-18"] {
        let held = rig.mcp.hold();
        let pending = Http::of(&first, version).call("echo", json!({"text": version})).await;
        assert!(text(&pending).contains("get_result") && text(&pending).contains("goes on"), "{pending}");
        let handle = handle(&pending);
        let again =
            Http::of(&first, version).call("get_result", json!({"handle": handle, "wait_seconds": 0})).await;
        assert!(text(&again).contains("not ended"), "{again}");
        drop(held);
        // Any gateway has the result.
        let result = Http::of(&second, version).call("get_result", json!({"handle": handle})).await;
        assert_eq!(text(&result), version);
    }
    assert_eq!(rig.mcp.executions("echo"), 2);
    let forged = Http::modern(&second).call("get_result", json!({"handle": "AAAA"})).await;
    assert_eq!(forged["isError"], true);
    let wrong = Http::modern(&second).call("get_result", json!({})).await;
    assert_eq!(wrong["isError"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_tasks_is_given_one() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(impatient()).await, rig.gateway(impatient()).await);
    let held = rig.mcp.hold();
    let task = Http::modern(&first).with_tasks().call("echo", json!({"text": "late"})).await;
    assert_eq!((&task["resultType"], &task["status"]), (&json!("task"), &json!("working")));
    let id = json!({"taskId": task["taskId"]});
    let working = Http::modern(&second).with_tasks().result("tasks/get", id.clone()).await;
    assert_eq!((&working["status"], &working["resultType"]), (&json!("working"), &json!("complete")));
    assert_eq!(working["createdAt"], task["createdAt"]);
    drop(held);
    let done = until_done(&Http::modern(&second).with_tasks(), &id).await;
    assert_eq!((&done["status"], text(&done["result"])), (&json!("completed"), "late"));
    assert_eq!(done["result"]["resultType"], "complete");
    // A cancellation of what has ended changes nothing.
    Http::modern(&first).with_tasks().result("tasks/cancel", id.clone()).await;
    assert_eq!(until_done(&Http::modern(&first).with_tasks(), &id).await["status"], "completed");
    assert_eq!(rig.mcp.executions("echo"), 1);
}

/// The task once it is over.
pub(crate) async fn until_done(http: &Http, id: &Value) -> Value {
    loop {
        let task = http.result("tasks/get", id.clone()).await;
        if task["status"] != "working" {
            return task;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_is_cancelled() {
    let rig = Rig::start().await;
    let served = rig.gateway(impatient()).await;
    let http = Http::modern(&served).with_tasks();
    let _held = rig.mcp.hold();
    let task = http.call("echo", json!({"text": "never"})).await;
    let id = json!({"taskId": task["taskId"]});
    assert_eq!(http.result("tasks/cancel", id.clone()).await["resultType"], "complete");
    assert_eq!(until_done(&http, &id).await["status"], "cancelled");
    assert_eq!(rig.mcp.executions("echo"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_for_whom_they_were_given_to() {
    let rig = Rig::start().await;
    let served = rig.gateway(impatient()).await;
    let without = Http::modern(&served).ask("tasks/get", json!({"taskId": "x"})).await;
    assert_eq!((without.status, &without.body["error"]["code"]), (400, &json!(-32021)));
    assert!(
        without.body["error"]["data"]["requiredCapabilities"]["extensions"]["io.modelcontextprotocol/tasks"]
            .is_object()
    );
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        let forged = Http::modern(&served).with_tasks().ask(method, json!({"taskId": "AAAA"})).await;
        assert_eq!((forged.status, &forged.body["error"]["code"]), (200, &json!(-32602)), "{method}");
    }
    // A handle of a result is no id of a task.
    let _held = rig.mcp.hold();
    let pending = Http::modern(&served).call("echo", json!({})).await;
    let other =
        Http::modern(&served).with_tasks().ask("tasks/get", json!({"taskId": handle(&pending)})).await;
    assert_eq!(other.body["error"]["code"], -32602);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_answers_whom_it_keeps_waiting() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let http = Http::modern(&first);
    let held = rig.mcp.hold();
    let waiting = tokio::spawn(crate::rig::answered(
        http.post(&http.message("tools/call", json!({"name": "echo", "arguments": {"text": "x"}}))),
    ));
    rig.mcp.arrived("tools/call", 1).await;
    first.stop.cancel();
    let pending = waiting.await.unwrap().body["result"].clone();
    drop(held);
    let result = Http::modern(&second).call("get_result", json!({"handle": handle(&pending)})).await;
    assert_eq!(text(&result), "x");
}
