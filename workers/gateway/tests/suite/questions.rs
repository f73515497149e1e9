//! Clients before 2026-07-28 are asked on the event stream of their request, and answer at any gateway.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_gateway::Limits;

use crate::access::Issuer;
use crate::events::Events;
use crate::reading::{furnish, one_server};
use crate::rig::{Answered, Http, Rig, Served, answered, gateway_of, open, text};

const VERSION: &str = "2025-11-25";

/// A client of that version whose session declared these capabilities.
async fn client(served: &Served, version: &'static str, capabilities: Value) -> Http {
    let http = Http::of(served, version);
    let opened =
        http.ask("initialize", json!({"protocolVersion": version, "capabilities": capabilities})).await;
    let session = opened.headers["mcp-session-id"].to_str().unwrap();
    Http::of(served, version).with("mcp-session-id", session)
}

async fn able(served: &Served, version: &'static str) -> Http {
    client(served, version, json!({"elicitation": {}, "sampling": {}, "roots": {}})).await
}

/// The same client at another gateway.
fn at(http: &Http, served: &Served, version: &'static str) -> Http {
    let mut moved = Http::of(served, version);
    moved.headers.clone_from(&http.headers);
    moved
}

async fn calling(http: &Http, tool: &str, arguments: Value) -> Events {
    Events::of(http.post(&http.message("tools/call", json!({"name": tool, "arguments": arguments})))).await
}

async fn answer(http: &Http, question: &Value, result: Value) -> Answered {
    answered(http.post(&json!({"jsonrpc": "2.0", "id": question["id"], "result": result}))).await
}

async fn fail(http: &Http, question: &Value) -> Answered {
    let error = json!({"code": -1, "message": "User rejected the request"});
    answered(http.post(&json!({"jsonrpc": "2.0", "id": question["id"], "error": error}))).await
}

fn octocat() -> Value {
    json!({"action": "accept", "content": {"name": "octocat"}})
}

/// The answers that the tool's server was sent last.
fn given(rig: &Rig) -> Value {
    rig.mcp.requests_of("tools/call").last().unwrap().body["params"]["inputResponses"].clone()
}

/// A tool that asks for two things at once.
fn ask_two(rig: &Rig) {
    let form = json!({"method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}});
    let sampling = json!({"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 5}});
    let done = |_: &Value| json!({"content": [{"type": "text", "text": "both"}]});
    rig.mcp.tool("two", done).asks(json!({"who": form, "what": sampling}), "s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_asked_on_its_stream_and_answers_at_another_gateway() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    for (round, version) in (0_u64..).zip([VERSION, "2025-06-18"]) {
        let http = able(&first, version).await;
        let mut events = calling(&http, "ask", json!({})).await;
        let question = events.next().await;
        assert_eq!(
            (&question["method"], &question["jsonrpc"]),
            (&json!("elicitation/create"), &json!("2.0"))
        );
        assert_eq!(question["params"]["message"], "Who?");
        assert_eq!(question["params"].get("mode").is_some(), version == VERSION, "{question}");
        assert!(question["id"].is_string() && !question.to_string().contains("own state"), "{question}");
        assert_eq!(rig.mcp.executions("ask"), round);
        let taken = answer(&at(&http, &second, version), &question, octocat()).await;
        assert_eq!((taken.status, taken.body), (202, json!("")));
        let done = events.next().await;
        assert_eq!((&done["id"], text(&done["result"])), (&json!(7), "hello"), "{done}");
        assert_eq!(given(&rig), json!({ "who": octocat() }));
        assert_eq!(rig.mcp.executions("ask"), round + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_answer_stands() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let http = able(&first, VERSION).await;
    let mut events = calling(&http, "ask", json!({})).await;
    let question = events.next().await;
    assert_eq!(answer(&http, &question, json!({"action": "decline"})).await.status, 202);
    assert_eq!(text(&events.next().await["result"]), "hello");
    for served in [&first, &second] {
        let http = at(&http, served, VERSION);
        assert_eq!(answer(&http, &question, octocat()).await.status, 202);
        assert_eq!(fail(&http, &question).await.status, 202);
    }
    assert_eq!(given(&rig), json!({"who": {"action": "decline"}}));
    assert_eq!((rig.mcp.executions("ask"), rig.mcp.requests_of("tools/call").len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_ends_the_call_and_its_other_questions() {
    let rig = Rig::start().await;
    ask_two(&rig);
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let http = able(&first, VERSION).await;
    let mut events = calling(&http, "main__two", json!({})).await;
    let (one, other) = (events.next().await, events.next().await);
    assert_eq!(fail(&at(&http, &second, VERSION), &one).await.status, 202);
    let withdrawn = [events.next().await, events.next().await];
    for (message, question) in withdrawn.iter().zip([&one, &other]) {
        assert_eq!(message["method"], "notifications/cancelled");
        assert_eq!(message["params"]["requestId"], question["id"]);
    }
    let result = events.next().await["result"].clone();
    assert_eq!(result["isError"], true);
    assert!(text(&result).contains("answered with an error"), "{result}");
    assert_eq!(answer(&http, &other, octocat()).await.status, 202);
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_answers_are_given_to_several_gateways() {
    let rig = Rig::start().await;
    ask_two(&rig);
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let http = able(&first, VERSION).await;
    let mut events = calling(&http, "main__two", json!({})).await;
    let (what, who) = (events.next().await, events.next().await);
    assert_eq!(
        (&what["method"], &who["method"]),
        (&json!("sampling/createMessage"), &json!("elicitation/create"))
    );
    let sampled = json!({"role": "assistant", "content": {"type": "text", "text": "MARKED"}, "model": "m"});
    assert_eq!(answer(&at(&http, &second, VERSION), &what, sampled.clone()).await.status, 202);
    // The first answer stands, also while it waits.
    assert_eq!(answer(&http, &what, json!({"role": "user"})).await.status, 202);
    assert_eq!(answer(&http, &who, octocat()).await.status, 202);
    assert_eq!(text(&events.next().await["result"]), "both");
    assert_eq!(given(&rig), json!({"who": octocat(), "what": sampled}));
    assert_eq!(rig.mcp.executions("two"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bucket_one_thing_is_asked_at_a_time() {
    let rig = Rig::start().await;
    ask_two(&rig);
    let served =
        gateway_of(rig.client_without_bucket(), Arc::clone(&rig.catalog), Limits::default(), open("acme"))
            .await;
    let http = able(&served, VERSION).await;
    let refused = calling(&http, "main__two", json!({})).await.next().await["result"].clone();
    assert!(refused["isError"] == true && text(&refused).contains("no bucket"), "{refused}");
    let refused =
        calling(&http, "ask", json!({"text": "x".repeat(3_000)})).await.next().await["result"].clone();
    assert!(refused["isError"] == true && text(&refused).contains("too long"), "{refused}");
    let mut events = calling(&http, "ask", json!({})).await;
    let question = events.next().await;
    assert_eq!(answer(&http, &question, octocat()).await.status, 202);
    assert_eq!(text(&events.next().await["result"]), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_arguments_wait_in_the_bucket() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let http = able(&first, VERSION).await;
    let arguments = json!({"text": "x".repeat(100_000)});
    let mut events = calling(&http, "ask", arguments.clone()).await;
    let question = events.next().await;
    assert!(question["id"].as_str().unwrap().len() < 2_000);
    assert_eq!(answer(&at(&http, &second, VERSION), &question, octocat()).await.status, 202);
    assert_eq!(text(&events.next().await["result"]), "hello");
    assert_eq!(rig.mcp.requests_of("tools/call").last().unwrap().body["params"]["arguments"], arguments);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_may_ask_again() {
    let rig = Rig::start().await;
    let form = |what: &str| json!({"method": "elicitation/create", "params": {"message": what, "requestedSchema": {"type": "object", "properties": {}}}});
    let done = |_: &Value| json!({"content": [{"type": "text", "text": "done"}]});
    rig.mcp.tool("rounds", done).asks(json!({"a": form("One?")}), "1").asks(json!({"b": form("Two?")}), "2");
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let http = able(&first, VERSION).await;
    let mut events = calling(&http, "main__rounds", json!({"n": 1})).await;
    for what in ["One?", "Two?"] {
        let question = events.next().await;
        assert_eq!(question["params"]["message"], what);
        assert_eq!(answer(&at(&http, &second, VERSION), &question, octocat()).await.status, 202);
    }
    assert_eq!(text(&events.next().await["result"]), "done");
    assert_eq!(rig.mcp.executions("rounds"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_asked_is_told() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let roots = client(&served, VERSION, json!({"roots": {}})).await;
    let links = client(&served, VERSION, json!({"elicitation": {"url": {}}})).await;
    // 2025-03-26 has no elicitation.
    let first = client(&served, "2025-03-26", json!({"elicitation": {}, "sampling": {}})).await;
    for http in [&roots, &links, &first] {
        let result = calling(http, "ask", json!({})).await.next().await["result"].clone();
        assert!(result["isError"] == true && text(&result).contains("did not declare"), "{result}");
    }
    let message = roots.message("tools/call", json!({"name": "ask", "arguments": {}}));
    let json = able(&served, VERSION).await;
    let request = json.post(&message).header("accept", "application/json");
    let mut request = request.build().unwrap();
    request.headers_mut().insert("accept", "application/json".parse().unwrap());
    let response: Value = reqwest::Client::new().execute(request).await.unwrap().json().await.unwrap();
    assert!(text(&response["result"]).contains("takes no event stream"), "{response}");
    let unknown = Http::of(&served, VERSION).call("ask", json!({})).await;
    assert!(text(&unknown).contains("no session"), "{unknown}");
    assert_eq!(rig.mcp.executions("ask"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_by_whom_it_was_put_to() {
    let (rig, issuer) = (Rig::start().await, Issuer::new());
    let served = rig.gateway_for(Limits::default(), issuer.authenticator()).await;
    let bearer =
        |tenant: &str, user: &str| format!("Bearer {}", issuer.token_for(60, tenant, user, &json!([])));
    let opening = Http::of(&served, VERSION).with("authorization", &bearer("acme", "ann"));
    let params = json!({"protocolVersion": VERSION, "capabilities": {"elicitation": {}}});
    let opened = opening.ask("initialize", params).await;
    let session = opened.headers["mcp-session-id"].to_str().unwrap();
    let ann = opening.with("mcp-session-id", session);
    let mut events = calling(&ann, "ask", json!({})).await;
    let question = events.next().await;
    for (tenant, user) in [("acme", "bob"), ("globex", "ann")] {
        let other = Http::of(&served, VERSION).with("authorization", &bearer(tenant, user));
        let refused = answer(&other.with("mcp-session-id", session), &question, octocat()).await;
        assert_eq!((refused.status, &refused.body["error"]["code"]), (400, &json!(-32600)), "{refused:?}");
    }
    assert_eq!(answer(&ann, &question, octocat()).await.status, 202);
    assert_eq!(text(&events.next().await["result"]), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_answers_no_question_is_refused() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = able(&served, VERSION).await;
    let mut events = calling(&http, "ask", json!({})).await;
    let question = events.next().await;
    for id in [json!(1), json!("x"), json!(format!("{}A", question["id"].as_str().unwrap()))] {
        assert_eq!(answer(&http, &json!({ "id": id }), octocat()).await.status, 400, "{id}");
    }
    assert_eq!(answer(&http, &question, json!("yes")).await.status, 400);
    let modern = Http::modern(&served);
    let message = json!({"jsonrpc": "2.0", "id": question["id"], "method": "", "result": octocat()});
    assert_eq!(answered(modern.post(&message)).await.status, 400);
    let neither = answered(http.post(&json!({"jsonrpc": "2.0", "id": 1}))).await;
    assert_eq!((neither.status, &neither.body["error"]["code"]), (400, &json!(-32600)));
    assert_eq!(answer(&http, &question, octocat()).await.status, 202);
    assert_eq!(text(&events.next().await["result"]), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_answers_is_withdrawn() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits { answered_within: Duration::from_millis(1), ..Limits::default() }).await;
    let http = able(&served, VERSION).await;
    let mut events = calling(&http, "ask", json!({})).await;
    let question = events.next().await;
    let withdrawn = events.next().await;
    assert_eq!(
        (&withdrawn["method"], &withdrawn["params"]["requestId"]),
        (&json!("notifications/cancelled"), &question["id"])
    );
    let result = events.next().await["result"].clone();
    assert!(result["isError"] == true && text(&result).contains("in time"), "{result}");
    assert_eq!(answer(&http, &question, octocat()).await.status, 202);
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 1, "it came too late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_leaves_the_question_to_the_others() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let http = able(&first, VERSION).await;
    let mut events = calling(&http, "ask", json!({})).await;
    let question = events.next().await;
    first.stop.cancel();
    let pending = events.next().await["result"].clone();
    assert!(text(&pending).contains("get_result") && text(&pending).contains("stops"), "{pending}");
    let http = at(&http, &second, VERSION);
    assert_eq!(answer(&http, &question, octocat()).await.status, 202);
    let handle = json!({"handle": pending["_meta"]["toolfleet/outcome"]["handle"]});
    // A call that goes on is known once a worker has received it.
    let mut done = json!(null);
    for _ in 0..1_000 {
        done = calling(&http, "get_result", handle.clone()).await.next().await["result"].clone();
        if !text(&done).contains("call `get_result` again in a moment") {
            break;
        }
    }
    assert_eq!(text(&done), "hello", "{done}");
    assert_eq!(rig.mcp.executions("ask"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_found_again_whose_client_was_asked() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let http = able(&first, VERSION).await.with("idempotency-key", "k-1");
    let mut events = calling(&http, "ask", json!({})).await;
    let question = events.next().await;
    // The connection breaks, and the gateway dies.
    drop(events);
    drop(first);
    let http = at(&http, &second, VERSION);
    let mut events = calling(&http, "ask", json!({})).await;
    let again = events.next().await;
    assert_eq!(again["params"], question["params"]);
    // Either question is answered.
    assert_eq!(answer(&http, &question, octocat()).await.status, 202);
    assert_eq!(text(&events.next().await["result"]), "hello");
    assert_eq!(text(&calling(&http, "ask", json!({})).await.next().await["result"]), "hello");
    assert_eq!(rig.mcp.executions("ask"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_cancelled_is_not_asked_longer() {
    let rig = Rig::start().await;
    let served = rig.gateway(Limits::default()).await;
    let http = able(&served, VERSION).await;
    let mut events = calling(&http, "ask", json!({})).await;
    let question = events.next().await;
    assert_eq!(http.notify("notifications/cancelled", json!({"requestId": 7})).await, 202);
    assert_eq!(events.next().await["params"]["requestId"], question["id"]);
    assert_eq!(events.next().await["result"]["isError"], true);
    assert_eq!(answer(&http, &question, octocat()).await.status, 202);
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_asks_while_its_result_is_waited_for() {
    let rig = Rig::start().await;
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let http = able(&first, VERSION).await;
    let params = json!({"name": "ask", "arguments": {}, "task": {}});
    let made = Events::of(http.post(&http.message("tools/call", params))).await.next().await;
    let id = json!({"taskId": made["result"]["task"]["taskId"]});
    while http.result("tasks/get", id.clone()).await["status"] == "working" {}
    assert_eq!(http.result("tasks/get", id.clone()).await["status"], "input_required");
    let mut events = Events::of(http.post(&http.message("tasks/result", id.clone()))).await;
    let question = events.next().await;
    assert_eq!(question["params"]["_meta"]["io.modelcontextprotocol/related-task"], id);
    assert_eq!(answer(&at(&http, &second, VERSION), &question, octocat()).await.status, 202);
    let done = events.next().await["result"].clone();
    assert_eq!((text(&done), &done["_meta"]["io.modelcontextprotocol/related-task"]), ("hello", &id));
    assert_eq!(http.result("tasks/get", id.clone()).await["status"], "completed");
    // The result is read as often as it is asked for.
    let again = Events::of(http.post(&http.message("tasks/result", id))).await.next().await;
    assert_eq!(text(&again["result"]), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_asks_goes_on_at_another_gateway() {
    let rig = Rig::start_with(one_server).await;
    furnish(&rig.mcp);
    let form = json!({"method": "elicitation/create", "params": {"message": "Who?", "requestedSchema": {"type": "object", "properties": {}}}});
    rig.mcp.method("prompts/get", move |params| match params.get("inputResponses") {
        None => json!({"resultType": "input_required", "inputRequests": {"who": form}, "requestState": "s"}),
        Some(given) => json!({"messages": [{"role": "user", "content": {"type": "text", "text": given["who"]["content"]["name"]}}]}),
    });
    let (first, second) = (rig.gateway(Limits::default()).await, rig.gateway(Limits::default()).await);
    let http = able(&first, "2025-06-18").await;
    let message = http.message("prompts/get", json!({"name": "greet", "arguments": {"who": "x"}}));
    let mut events = Events::of(http.post(&message)).await;
    let question = events.next().await;
    assert_eq!(answer(&at(&http, &second, "2025-06-18"), &question, octocat()).await.status, 202);
    let prompt = events.next().await["result"].clone();
    assert_eq!(prompt["messages"][0]["content"]["text"], "octocat", "{prompt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_bring_answers() {
    let rig = Rig::start().await;
    let sampling = json!({"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 5}});
    let done = |_: &Value| json!({"content": [{"type": "text", "text": "done"}]});
    // What the client can answer is told with each answer: the server asks for nothing else.
    rig.mcp.tool("sample", done).asks(json!({"what": sampling}), "1").asks(json!({"again": sampling}), "2");
    let served = rig.gateway(Limits::default()).await;
    let http = able(&served, "2025-03-26").await;
    let mut events = calling(&http, "main__sample", json!({})).await;
    let result = json!({"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"});
    for without_session in [false, true] {
        let question = events.next().await;
        assert_eq!(question["method"], "sampling/createMessage", "{question}");
        let answer = json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
        let posted = match without_session {
            false => http.post(&json!([answer])),
            true => Http::of(&served, "2025-03-26").post(&answer),
        };
        assert_eq!(answered(posted).await.status, 202);
    }
    assert_eq!(text(&events.next().await["result"]), "done");
}
