//! Calls of HTTP interfaces that an OpenAPI document describes, through SQS: what is sent, what an answer means, what is repeated.

use std::sync::Arc;

use serde_json::{Value, json};
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{EchoFault, EchoHttp};
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::{Step, Watch};

use crate::credentials::store;
use crate::rig::{CrashAfter, Rig, SENDER, limits};

/// A document with an operation for each method.
fn document() -> Value {
    let id = json!({"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}});
    let tags =
        json!({"name": "tag", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}});
    let body = json!({"required": true, "content": {"application/json": {"schema": {"type": "object"}}}});
    json!({
        "openapi": "3.0.4",
        "info": {"title": "Things", "version": "1"},
        "servers": [{"url": "https://things.example/v1"}],
        "paths": {
            "/things": {
                "get": {"operationId": "find", "parameters": [tags], "responses": {}},
                "post": {"operationId": "make", "summary": "Makes a thing", "requestBody": body, "responses": {}},
            },
            "/things/{id}": {
                "parameters": [id],
                "put": {"operationId": "replace", "requestBody": body, "responses": {}},
                "delete": {"operationId": "remove", "responses": {}},
                "patch": {"operationId": "change", "requestBody": body, "responses": {}},
            },
        },
    })
}

/// The catalog with the interface at `url`, and these fields of its server.
fn catalog(url: &str, more: Value, tools: Value) -> Value {
    let mut server =
        json!({"id": "things", "openapi": document(), "url": format!("{url}/api"), "timeout_ms": 10_000});
    for (name, value) in more.as_object().unwrap() {
        server[name] = value.clone();
    }
    json!({
        "servers": [server], "tools": tools,
        "tenants": {"senders": {SENDER: ["acme"]}, "fleet": [SENDER]},
    })
}

fn call(id: &str, name: &str, arguments: Value) -> Value {
    json!({"v": 1, "call_id": id, "tenant": "acme", "server": "things", "name": name, "arguments": arguments})
}

fn arguments_of(name: &str) -> Value {
    match name {
        "find" => json!({"tag": ["a b", "c"]}),
        "make" => json!({"body": {"n": 1}}),
        "remove" => json!({"id": 7}),
        _ => json!({"id": 7, "body": {"n": 1}}),
    }
}

/// A rig with an interface and a worker for it.
async fn started(more: Value, tools: Value) -> (Rig, EchoHttp, Arc<WorkerContext>) {
    let (rig, echo) = (Rig::new().await, EchoHttp::start().await);
    let context = Box::pin(rig.fleet_of(catalog(echo.url(), more, tools), limits(), None)).await;
    (rig, echo, context)
}

#[tokio::test]
async fn each_operation_is_sent_as_its_document_says() {
    let (rig, echo, context) = started(json!({}), json!([])).await;
    let expected = [
        ("find", "GET", "/api/things?tag=a%20b&tag=c", ""),
        ("make", "POST", "/api/things", "{\"n\":1}"),
        ("replace", "PUT", "/api/things/7", "{\"n\":1}"),
        ("remove", "DELETE", "/api/things/7", ""),
        ("change", "PATCH", "/api/things/7", "{\"n\":1}"),
    ];
    for (name, method, target, body) in expected {
        rig.send(call(name, name, arguments_of(name)).to_string()).await;
        rig.settle_with(&context).await;
        let seen = rig.outcome(name).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{name}: {}", seen.message);
        let content: Value = serde_json::from_str(&seen.content.unwrap()).unwrap();
        let echoed = &content["structuredContent"];
        assert_eq!(
            (&echoed["method"], &echoed["target"], &echoed["body"]),
            (&json!(method), &json!(target), &json!(body))
        );
        assert_eq!(content["_meta"]["http"]["status"], json!(200));
        let request = echo.requests().pop().unwrap();
        assert_eq!(request.header("accept"), Some("application/json, */*;q=0.5"));
        assert!(request.header("idempotency-key").is_none());
    }
}

/// How a call ends: kind, code, whether it may have run, and how many requests were sent.
type Ends = (OutcomeKind, Option<&'static str>, Option<MayHaveRun>, usize);

const DONE: OutcomeKind = OutcomeKind::Succeeded;
const UNKNOWN: OutcomeKind = OutcomeKind::OutcomeUnknown;

fn unknown(code: &'static str) -> Ends {
    (UNKNOWN, Some(code), Some(MayHaveRun::Unknown), 1)
}

/// Each case: what it is, fields of the server, the operation, the faults of its requests, how it ends.
fn cases() -> Vec<(&'static str, Value, &'static str, Vec<EchoFault>, Ends)> {
    let plain = || json!({});
    let trusted = || json!({"trusted": true});
    let keyed = || json!({"idempotency_key": true});
    let slow = || json!({"idempotency_key": true, "timeout_ms": 300});
    let status = |status| EchoFault::status(status, ("x", "y"), "no", true);
    let cut = || vec![EchoFault::RunAndCut];
    let repeated = (DONE, None, None, 2);
    vec![
        ("a lost answer of POST", plain(), "make", cut(), unknown("answer_lost")),
        ("a lost answer of PATCH of a trusted server", trusted(), "change", cut(), unknown("answer_lost")),
        ("a lost answer of GET", plain(), "find", cut(), repeated),
        ("a lost answer of PUT", plain(), "replace", cut(), unknown("answer_lost")),
        ("a lost answer of PUT of a trusted server", trusted(), "replace", cut(), repeated),
        ("a lost answer of DELETE of a trusted server", trusted(), "remove", cut(), repeated),
        ("a lost answer of POST with a key", keyed(), "make", cut(), repeated),
        ("HTTP 500 after POST", plain(), "make", vec![status(500)], unknown("server_error")),
        ("HTTP 408 after POST", plain(), "make", vec![status(408)], unknown("server_error")),
        ("HTTP 425 after POST", plain(), "make", vec![status(425)], unknown("server_error")),
        ("HTTP 502 after POST with a key", keyed(), "make", vec![status(502)], repeated),
        ("HTTP 503 of GET", plain(), "find", vec![status(503)], repeated),
        (
            "no answer to POST in its time",
            json!({"timeout_ms": 300}),
            "make",
            vec![EchoFault::RunAndNeverAnswer],
            unknown("attempt_timed_out"),
        ),
        (
            "no answer to POST with a key in its time",
            slow(),
            "make",
            vec![EchoFault::RunAndNeverAnswer],
            repeated,
        ),
        ("a closed connection of POST", plain(), "make", vec![EchoFault::Close], unknown("answer_lost")),
        (
            "HTTP 429 of POST",
            plain(),
            "make",
            vec![EchoFault::status(429, ("retry-after", "3"), "", false)],
            repeated,
        ),
        (
            "HTTP 409 of POST with a key in use",
            keyed(),
            "make",
            vec![EchoFault::status(409, ("x", "y"), "{\"code\": \"idempotency_key_in_use\"}", false)],
            repeated,
        ),
        (
            "HTTP 409 of POST with a key for another reason",
            keyed(),
            "make",
            vec![status(409)],
            (OutcomeKind::ToolError, Some("tool_reported_error"), Some(MayHaveRun::Yes), 1),
        ),
        (
            "HTTP 404",
            plain(),
            "replace",
            vec![status(404)],
            (OutcomeKind::ToolError, Some("tool_reported_error"), Some(MayHaveRun::Yes), 1),
        ),
        (
            "HTTP 401",
            plain(),
            "make",
            vec![EchoFault::status(401, ("x", "y"), "who are you", false)],
            (OutcomeKind::Failed, Some("unauthorized"), Some(MayHaveRun::No), 1),
        ),
        (
            "a redirect within the origin that asks for the same request",
            plain(),
            "make",
            vec![EchoFault::status(307, ("location", "/other"), "", false)],
            repeated,
        ),
        (
            "a redirect to another origin",
            plain(),
            "make",
            vec![EchoFault::status(307, ("location", "https://other.example/"), "", false)],
            (OutcomeKind::Failed, Some("redirected"), Some(MayHaveRun::No), 1),
        ),
        (
            "a redirect of POST that names the result",
            plain(),
            "make",
            vec![EchoFault::status(303, ("location", "/things/8"), "", true)],
            (UNKNOWN, Some("redirected"), Some(MayHaveRun::Unknown), 1),
        ),
    ]
}

#[tokio::test]
async fn each_failure_is_repeated_only_where_that_is_safe() {
    for (what, more, name, faults, (kind, code, ran, requests)) in cases() {
        let (rig, echo, context) = started(more.clone(), json!([])).await;
        faults.into_iter().for_each(|fault| echo.next(fault));
        rig.send(call("c", name, arguments_of(name)).to_string()).await;
        rig.settle_with(&context).await;
        let seen = rig.outcome("c").await;
        let found = (seen.kind, seen.code, seen.may_have_run, echo.requests().len());
        assert_eq!(found, (kind, code, ran, requests), "{what}: {}", seen.message);
        let keys: Vec<_> =
            echo.requests().iter().map(|one| one.header("idempotency-key").map(str::to_owned)).collect();
        assert!(keys.iter().all(|key| *key == keys[0]), "{what}: {keys:?}");
        assert_eq!(keys[0].is_some(), more.get("idempotency_key").is_some(), "{what}: {keys:?}");
    }
}

/// The worker dies after the request was sent and before anything of its answer is stored; another one gets the message.
async fn killed_after_sending(more: Value, tools: Value, request: Value) -> (Rig, EchoHttp) {
    let (rig, echo) = (Rig::new().await, EchoHttp::start().await);
    let catalog = catalog(echo.url(), more, tools);
    let crash = CrashAfter::new(Step::Executed);
    let watch: Arc<dyn Watch> = crash.clone();
    let dying = Box::pin(rig.fleet_of(catalog.clone(), limits(), Some(watch))).await;
    rig.send(request.to_string()).await;
    let delivery = rig.receive(&dying).await.unwrap();
    tokio::select! {
        () = pipeline::run(dying, delivery, ()) => panic!("the call has ended"),
        () = crash.reached.notified() => {}
    }
    let context = Box::pin(rig.fleet_of(catalog, limits(), None)).await;
    rig.settle_with(&context).await;
    (rig, echo)
}

#[tokio::test]
async fn a_redelivery_never_repeats_a_post() {
    let (rig, echo) =
        Box::pin(killed_after_sending(json!({}), json!([]), call("c", "make", arguments_of("make")))).await;
    let seen = rig.outcome("c").await;
    assert_eq!((seen.kind, echo.requests().len()), (UNKNOWN, 1), "{}", seen.message);
}

#[tokio::test]
async fn a_redelivery_repeats_a_post_with_the_same_key() {
    let more = json!({"idempotency_key": "X-Request-Key"});
    let (rig, echo) =
        Box::pin(killed_after_sending(more, json!([]), call("c", "make", arguments_of("make")))).await;
    assert_eq!(rig.outcome("c").await.kind, DONE);
    let keys: Vec<_> =
        echo.requests().iter().map(|one| one.header("x-request-key").unwrap().to_owned()).collect();
    assert!(keys.len() == 2 && keys[0] == keys[1] && keys[0].starts_with("c."), "{keys:?}");
}

#[tokio::test]
async fn a_registered_operation_is_repeated_as_it_is_registered() {
    let tools = json!([{"id": "make-thing", "server": "things", "name": "make", "idempotent": true}]);
    let request = json!({"v": 1, "call_id": "c", "tenant": "acme", "tool": "make-thing", "arguments": arguments_of("make")});
    let (rig, echo) = Box::pin(killed_after_sending(json!({"discover": false}), tools, request)).await;
    assert_eq!((rig.outcome("c").await.kind, echo.requests().len()), (DONE, 2));
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_and_says_why() {
    let tools = json!([{"id": "find-things", "server": "things", "name": "find"}]);
    let (rig, echo, context) = started(json!({}), tools).await;
    for (id, request, code, says) in [
        ("a", call("a", "nothing", json!({})), "unknown_tool", "find, make, "),
        ("b", call("b", "make", json!({"body": 7})), "invalid_arguments", "body"),
        ("c", call("c", "make", json!({})), "invalid_arguments", "body"),
        ("d", call("d", "find", json!({"tags": []})), "invalid_arguments", "tags"),
        (
            "e",
            json!({"v": 1, "call_id": "e", "tenant": "acme", "tool": "find-things", "arguments": {"tag": 1}}),
            "invalid_arguments",
            "tag",
        ),
        (
            "f",
            json!({"v": 1, "call_id": "f", "tenant": "acme", "server": "things", "operation": "resources/read", "arguments": {"uri": "x:y"}}),
            "unsupported",
            "neither resources nor prompts",
        ),
    ] {
        rig.send(request.to_string()).await;
        rig.settle_with(&context).await;
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some(code)), "{id}: {}", seen.message);
        assert!(seen.message.contains(says), "{id}: {}", seen.message);
    }
    assert!(echo.requests().is_empty());
}

#[tokio::test]
async fn the_operations_are_listed_without_a_request() {
    let (rig, echo, context) = started(json!({"exclude": {"operations": ["change"]}}), json!([])).await;
    rig.send(
        json!({"v": 1, "call_id": "c", "tenant": "acme", "server": "things", "operation": "tools/list"})
            .to_string(),
    )
    .await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c").await;
    let content: Value = serde_json::from_str(&seen.content.unwrap_or(seen.message)).unwrap();
    let names: Vec<_> =
        content["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["find", "make", "remove", "replace"]);
    assert_eq!(content["tools"][1]["description"], json!("Makes a thing"));
    assert_eq!(content["tools"][1]["inputSchema"]["required"], json!(["body"]));
    assert!(echo.requests().is_empty());
}

#[tokio::test]
async fn an_interface_gets_the_credential_and_its_echo_is_not_stored() {
    let rig = Rig::new().await;
    store(&rig, "things", "tok-1234567890").await;
    let echo = EchoHttp::start().await;
    let more = json!({"auth": {"type": "bearer", "token": "secret://things"}});
    let context = rig.fleet_of(catalog(echo.url(), more, json!([])), limits(), None).await;
    rig.send(call("c", "make", arguments_of("make")).to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c").await;
    assert_eq!(echo.requests()[0].header("authorization"), Some("Bearer tok-1234567890"));
    let content = seen.content.unwrap();
    assert!(!content.contains("tok-1234567890") && content.contains("/api/things"), "{content}");
}
