//! Tasks of 2025-11-25: asked for by `task` in `tools/call`, polled, cancelled, and read by `tasks/result`.

use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_gateway::Limits;

use crate::access::Issuer;
use crate::events::Events;
use crate::failing::{Failing, NO_SUCH_KEY, THROTTLED};
use crate::going_on::until_done;
use crate::reading::one_server;
use crate::reading_faults::incompressible;
use crate::rig::{Answered, Http, Rig, Served, answered, gateway_of, impatient, open, text};

const VERSION: &str = "2025-11-25";
const RELATED: &str = "io.modelcontextprotocol/related-task";

fn http(served: &Served) -> Http {
    Http::of(served, VERSION)
}

/// A call of the tool as a task: its id.
async fn task_of(http: &Http, tool: &str, arguments: Value) -> Value {
    let made = http
        .result("tools/call", json!({"name": tool, "arguments": arguments, "task": {"ttl": 60_000}}))
        .await;
    let task = &made["task"];
    assert_eq!((&task["status"], &made["content"]), (&json!("working"), &Value::Null), "{made}");
    assert!(task["createdAt"].is_string() && task["lastUpdatedAt"].is_string(), "{task}");
    assert!(task["pollInterval"].is_u64() && task["ttl"].as_u64().unwrap() >= 60_000, "{task}");
    json!({"taskId": task["taskId"]})
}

/// What `tasks/result` answers on its stream, and the notifications before it.
async fn result_of(http: &Http, id: &Value) -> (Value, Vec<Value>) {
    let mut events = Events::of(http.post(&http.message("tasks/result", id.clone()))).await;
    let mut notifications = Vec::new();
    loop {
        let message = events.next().await;
        if message.get("id").is_some() {
            return (message, notifications);
        }
        notifications.push(message);
    }
}

async fn status_of(http: &Http, id: &Value) -> Value {
    http.result("tasks/get", id.clone()).await
}

async fn refused(http: &Http, method: &str, params: Value) -> Value {
    let Answered { status, body, .. } = answered(http.post(&http.message(method, params))).await;
    let event = body.as_str().and_then(|stream| stream.trim().strip_prefix("data: "));
    let message = event.map_or_else(|| body.clone(), |event| serde_json::from_str(event).unwrap());
    let error = message["error"].clone();
    assert_eq!(status, 200);
    assert!(error.is_object(), "{method}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn only_that_version_declares_them_and_its_tools_say_so() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    for version in [VERSION, "2025-06-18", "2026-07-28"] {
        let http = Http::of(&served, version);
        let opened = match version {
            "2026-07-28" => http.result("server/discover", json!({})).await,
            _ => http.result("initialize", json!({"protocolVersion": version})).await,
        };
        let declared = json!({"cancel": {}, "requests": {"tools": {"call": {}}}});
        let has_tasks = version == VERSION;
        assert_eq!(opened["capabilities"].get("tasks"), has_tasks.then_some(&declared), "{version}");
        let list = http.result("tools/list", json!({})).await;
        for tool in list["tools"].as_array().unwrap() {
            let support =
                (has_tasks && tool["name"] != "get_result").then(|| json!({"taskSupport": "optional"}));
            assert_eq!(tool.get("execution"), support.as_ref(), "{version}: {tool}");
        }
        if !has_tasks {
            // The member means nothing there.
            let result = http
                .result("tools/call", json!({"name": "echo", "arguments": {"text": "x"}, "task": {"ttl": 1}}))
                .await;
            assert_eq!(text(&result), "x", "{version}");
        }
    }
    assert_eq!(refused(&Http::of(&served, "2025-06-18"), "tasks/get", json!({})).await["code"], -32601);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_found_at_another_gateway_and_gives_its_result() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let held = rig.mcp.hold();
    let id = task_of(&http(&first), "echo", json!({"text": "later"})).await;
    rig.mcp.arrived("tools/call", 1).await;
    // The gateway that made it is gone.
    drop(first);
    let http = http(&second);
    assert_eq!(status_of(&http, &id).await["status"], "working");
    let message = http.message("tasks/result", id.clone());
    let mut waiting = Events::of(http.post(&message)).await;
    // A stream that is cut loses nothing.
    drop(Events::of(http.post(&message)).await);
    drop(held);
    let result = waiting.next().await["result"].clone();
    assert_eq!(text(&result), "later");
    assert_eq!(result["_meta"][RELATED], id);
    assert_eq!(result["structuredContent"], json!({"text": "later"}));
    let ended = status_of(&http, &id).await;
    assert_eq!((&ended["status"], &ended["taskId"]), (&json!("completed"), &id["taskId"]));
    assert!(ended.get("_meta").is_none(), "{ended}");
    assert_eq!(result_of(&http, &id).await.0["result"], result, "as often as it is asked for");
    assert_eq!(rig.mcp.executions("echo"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_tool_is_a_result() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = http(&served);
    for (tool, said) in
        [("main__fail", "it is broken"), ("ask", "asks for input"), ("secret", "(refused: access_denied)")]
    {
        let id = task_of(&http, tool, json!({})).await;
        let result = result_of(&http, &id).await.0["result"].clone();
        assert_eq!(result["isError"], true, "{result}");
        assert!(text(&result).contains(said), "{result}");
        let status = status_of(&http, &id).await;
        assert_eq!(status["status"], "completed", "{status}");
        assert!(status["statusMessage"].is_string(), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_of_whom_it_was_given_to() {
    let rig = Rig::start().await;
    let limits = Limits { wait: Duration::from_secs(3), ..Limits::default() };
    let served = rig.gateway(limits).await;
    let other = rig.gateway_for(Limits::default(), open("globex")).await;
    let own = http(&served);
    let held = rig.mcp.hold();
    let id = task_of(&own, "echo", json!({"text": "mine"})).await;
    let pending = own.call("echo", json!({})).await;
    let handle = &pending["_meta"]["toolfleet/outcome"]["handle"];
    let unknown = refused(&own, "tasks/get", json!({"taskId": "AAAA"})).await;
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        // A handle of `get_result` is no id, and what another tenant has does not exist.
        for (http, id) in [
            (&own, json!("AAAA")),
            (&own, json!("")),
            (&own, handle.clone()),
            (&http(&other), id["taskId"].clone()),
        ] {
            let wrong = refused(http, method, json!({"taskId": id})).await;
            assert_eq!(
                (&wrong["code"], &wrong["message"]),
                (&json!(-32602), &unknown["message"]),
                "{method}: {wrong}"
            );
        }
        for wrong in [json!({}), json!({"taskId": 7})] {
            assert_eq!(refused(&own, method, wrong).await["code"], -32602, "{method}");
        }
    }
    let listed = refused(&own, "tasks/list", json!({})).await;
    assert!(
        listed["code"] == -32601 && listed["message"].as_str().unwrap().contains("keep their ids"),
        "{listed}"
    );
    drop(held);
    assert_eq!(text(&result_of(&own, &id).await.0["result"]), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_of_one_user_does_not_exist_for_another() {
    let rig = Rig::start().await;
    let issuer = Issuer::new();
    let served = rig.gateway_for(Limits::default(), issuer.authenticator()).await;
    let of = |tenant: &str, user: &str, roles: Value| {
        let token = issuer.token_for(600, tenant, user, &roles);
        http(&served).with("authorization", &format!("Bearer {token}"))
    };
    let ann = of("acme", "ann", json!([]));
    let id = task_of(&ann, "echo", json!({"text": "hers"})).await;
    let unknown = refused(&ann, "tasks/get", json!({"taskId": "AAAA"})).await;
    for other in [of("acme", "bob", json!(["admin"])), of("globex", "ann", json!([]))] {
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            assert_eq!(refused(&other, method, id.clone()).await, unknown, "{method}");
        }
    }
    // Roles may change between two requests.
    let later = of("acme", "ann", json!(["admin"]));
    assert_eq!(text(&result_of(&later, &id).await.0["result"]), "hers");
    assert_eq!(status_of(&ann, &id).await["status"], "completed", "nobody has cancelled it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_task_is_cancelled_once_and_stays_so() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = http(&served);
    let held = rig.mcp.hold();
    let id = task_of(&http, "echo", json!({"text": "never"})).await;
    rig.mcp.arrived("tools/call", 1).await;
    let cancelled = http.result("tasks/cancel", id.clone()).await;
    assert_eq!((&cancelled["status"], &cancelled["taskId"]), (&json!("cancelled"), &id["taskId"]));
    // At once, before the worker has read the cancellation.
    assert_eq!(status_of(&http, &id).await["status"], "cancelled");
    let again = refused(&http, "tasks/cancel", id.clone()).await;
    assert_eq!(again["code"], -32602);
    assert!(again["message"].as_str().unwrap().contains("terminal status 'cancelled'"), "{again}");
    let result = result_of(&http, &id).await.0["result"].clone();
    assert_eq!(result["_meta"]["toolfleet/outcome"]["outcome"], "cancelled", "{result}");
    drop(held);
    assert_eq!(status_of(&http, &id).await["status"], "cancelled");
    let done = task_of(&http, "echo", json!({"text": "done"})).await;
    result_of(&http, &done).await;
    let late = refused(&http, "tasks/cancel", done).await;
    assert!(late["message"].as_str().unwrap().contains("terminal status 'completed'"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_cancelled_before_a_worker_has_it_never_runs() {
    let rig = Rig::without_worker(|url| {
        json!({
            "servers": [{"id": "main", "url": url, "discover": true}],
            "tools": [{"id": "echo", "server": "main", "description": "Says it again."}],
            "tenants": {"queue": ["*"]},
            "publish": {"tools": {"echo": true}},
        })
    })
    .await;
    let served = rig.gateway(Limits::default()).await;
    let http = http(&served);
    let id = task_of(&http, "echo", json!({"text": "never"})).await;
    let waits = status_of(&http, &id).await;
    assert_eq!(
        (&waits["status"], &waits["statusMessage"]),
        (&json!("working"), &json!("No worker has received the call yet."))
    );
    http.result("tasks/cancel", id.clone()).await;
    let result = result_of(&http, &id).await.0["result"].clone();
    assert_eq!(result["_meta"]["toolfleet/outcome"]["mayHaveRun"], "no", "{result}");
    let _worker = rig.worker().await;
    let after = task_of(&http, "echo", json!({"text": "after"})).await;
    assert_eq!(text(&result_of(&http, &after).await.0["result"]), "after");
    assert_eq!(status_of(&http, &id).await["status"], "cancelled");
    assert_eq!(rig.mcp.executions("echo"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_ends_the_wait_for_a_call_that_no_worker_has() {
    let rig = Rig::without_worker(one_server).await;
    let served = rig.gateway(Limits::default()).await;
    let http = http(&served);
    let id = task_of(&http, "main__echo", json!({"text": "never"})).await;
    let mut waiting = Events::of(http.post(&http.message("tasks/result", id.clone()))).await;
    // The wait has begun: it goes on beside these.
    for _ in 0..5 {
        assert_eq!(status_of(&http, &id).await["status"], "working");
    }
    http.result("tasks/cancel", id.clone()).await;
    let told = tokio::time::timeout(Duration::from_secs(30), waiting.next()).await.unwrap();
    let result = told["result"].clone();
    let outcome = json!({"outcome": "cancelled", "mayHaveRun": "no", "retryable": false});
    assert_eq!(result["_meta"]["toolfleet/outcome"], outcome, "{result}");
    assert_eq!(result["_meta"][RELATED], id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_throttle_does_not_end_the_wait() {
    let rig = Rig::start().await;
    let table = Failing::before(rig.dynamodb_url()).await;
    let client = rig.client_at(Some(&table.url), None).await;
    let served = gateway_of(client, rig.catalog.clone(), Limits::default(), open("acme")).await;
    let http = http(&served);
    let held = rig.mcp.hold();
    let id = task_of(&http, "echo", json!({"text": "later"})).await;
    rig.mcp.arrived("tools/call", 1).await;
    let mut waiting = Events::of(http.post(&http.message("tasks/result", id.clone()))).await;
    assert_eq!(status_of(&http, &id).await["status"], "working");
    table.fails(Some(THROTTLED));
    // More often than one reading is tried.
    tokio::select! {
        told = waiting.next() => panic!("{told}"),
        () = table.has_failed(10) => {}
    }
    table.fails(None);
    drop(held);
    assert_eq!(text(&waiting.next().await["result"]), "later");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_whose_stored_result_is_gone_has_ended() {
    let rig = Rig::start().await;
    let bucket = Failing::before("").await;
    bucket.fails(Some(NO_SUCH_KEY));
    let client = rig.client_at(None, Some(&bucket.url)).await;
    let served = gateway_of(client, rig.catalog.clone(), impatient(), open("acme")).await;
    let large = json!({"content": [{"type": "text", "text": incompressible()}]});
    rig.mcp.tool("large", move |_: &Value| large.clone());
    let legacy = http(&served);
    let id = task_of(&legacy, "main__large", json!({})).await;
    assert_eq!(until_done(&legacy, &id).await["status"], "completed");
    let late = refused(&legacy, "tasks/cancel", id.clone()).await;
    assert!(late["message"].as_str().unwrap().contains("terminal status 'completed'"), "{late}");
    assert_eq!(bucket.count(), 0, "who asks for the status needs no result");
    let result = result_of(&legacy, &id).await.0["result"].clone();
    assert_eq!(result["_meta"]["toolfleet/outcome"]["outcome"], "outcome_unknown", "{result}");
    // The result of the extension is in its task.
    let modern = Http::modern(&served).with_tasks();
    let held = rig.mcp.hold();
    let task = modern.call("main__large", json!({})).await;
    drop(held);
    let done = until_done(&modern, &json!({"taskId": task["taskId"]})).await;
    let outcome = &done["result"]["_meta"]["toolfleet/outcome"]["outcome"];
    assert_eq!((&done["status"], outcome), (&json!("completed"), &json!("outcome_unknown")), "{done}");
    modern.result("tasks/cancel", json!({"taskId": task["taskId"]})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_the_result_is_told_of_progress() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = http(&served);
    let params = json!({"name": "take_long", "arguments": {}, "task": {}, "_meta": {"progressToken": "p1"}});
    let mut created = Events::of(http.post(&http.message("tools/call", params))).await;
    let id = json!({"taskId": created.next().await["result"]["task"]["taskId"]});
    let (ended, told) = result_of(&http, &id).await;
    assert_eq!(text(&ended["result"]), "done");
    let last = &told.last().unwrap()["params"];
    assert_eq!((&last["progressToken"], &last["_meta"][RELATED]), (&json!("p1"), &id), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_key_leads_to_one_call() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = http(&served).with("idempotency-key", "turn-1");
    let (one, other) = (
        task_of(&http, "echo", json!({"text": "x"})).await,
        task_of(&http, "echo", json!({"text": "x"})).await,
    );
    for id in [&one, &other] {
        assert_eq!(text(&result_of(&http, id).await.0["result"]), "x");
    }
    assert_eq!(rig.mcp.executions("echo"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_says_that_the_task_goes_on() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let held = rig.mcp.hold();
    let of_first = http(&first);
    let id = task_of(&of_first, "echo", json!({"text": "x"})).await;
    let mut waiting = Events::of(of_first.post(&of_first.message("tasks/result", id.clone()))).await;
    rig.mcp.arrived("tools/call", 1).await;
    first.stop.cancel();
    let told = waiting.next().await;
    assert_eq!(told["error"]["code"], -32603, "{told}");
    assert!(told["error"]["message"].as_str().unwrap().contains("send `tasks/result` again"), "{told}");
    drop(held);
    assert_eq!(text(&result_of(&http(&second), &id).await.0["result"]), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_task_says_so() {
    let rig = Rig::start().await;
    let served = rig.gateway(impatient()).await;
    let http = http(&served);
    for tool in ["get_result", "search_tools"] {
        let wrong = refused(&http, "tools/call", json!({"name": tool, "arguments": {}, "task": {}})).await;
        assert_eq!(wrong["code"], -32601, "{wrong}");
    }
    for task in [json!(7), json!([]), json!({"ttl": "long"})] {
        let wrong = refused(&http, "tools/call", json!({"name": "echo", "task": task})).await;
        assert!(wrong["code"] == -32602 && wrong["message"].as_str().unwrap().contains("ttl"), "{wrong}");
    }
    // Without an event stream the wait has the bound of calls.
    let _held = rig.mcp.hold();
    let id = task_of(&http, "echo", json!({})).await;
    let message = http.message("tasks/result", id);
    let request = reqwest::Client::new().post(&served.url).header("content-type", "application/json");
    let request = request.header("accept", "application/json").header("mcp-protocol-version", VERSION);
    let waited = answered(request.body(message.to_string())).await;
    assert_eq!(waited.body["error"]["code"], -32603, "{waited:?}");
}
