//! Tools that ask for input before they go on.

use serde_json::{Value, json};
use toolfleet_gateway::Limits;

use crate::going_on::until_done;
use crate::rig::{Http, Rig, impatient, text};

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
