//! Tools that are Lambda functions, from SQS to the record: the forms of their events, the attributes of a session, roles, crashes.

use serde_json::{Value, json};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::{EchoHttp, LambdaFault, MockLambda};
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::Step;

use crate::crashes::assert_settled;
use crate::rig::{CrashAfter, Rig, SENDER, limits, request};

pub(crate) const ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function";

/// A rig whose workers invoke the functions of this endpoint.
pub(crate) async fn rig() -> (Rig, MockLambda) {
    let lambda = MockLambda::start().await;
    let mut rig = Rig::new().await;
    rig.lambda = Some(lambda.url());
    (rig, lambda)
}

fn catalog(servers: Value, tools: Value) -> Value {
    json!({"servers": servers, "tools": tools, "tenants": {"senders": {SENDER: ["acme"]}, "fleet": [SENDER]}})
}

fn orders(payload: &str) -> Value {
    json!({"id": "orders", "lambda": format!("{ARN}:orders:live"), "payload": payload})
}

/// A catalog with the function `orders`, whose tool `quote` is not safe to repeat.
fn catalog_of(server: Value) -> Value {
    let schema = json!({"type": "object", "properties": {"sku": {"type": "string"}, "count": {"type": "integer"},
        "price": {"type": "number"}, "express": {"type": "boolean"}, "tags": {"type": "array"}, "call": {"type": "string"}}});
    catalog(
        json!([server]),
        json!([{"id": "quote", "server": "orders", "name": "quote_order", "input_schema": schema}]),
    )
}

fn bedrock_answer(text: &str) -> Value {
    json!({"messageVersion": "1.0", "response": {"actionGroup": "orders", "function": "quote_order",
        "functionResponse": {"responseBody": {"TEXT": {"body": text}}}}})
}

fn content(rig: &crate::rig::Seen) -> Value {
    serde_json::from_str(rig.content.as_deref().unwrap()).unwrap()
}

async fn run(rig: &Rig, catalog: Value, body: Value) {
    run_text(rig, catalog, body.to_string()).await;
}

async fn run_text(rig: &Rig, catalog: Value, body: String) {
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(body).await;
    rig.settle_with(&context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_groups_event_has_every_field_and_texts_as_values() {
    let (rig, lambda) = rig().await;
    lambda.function("orders", |_| bedrock_answer("12 EUR"));
    let mut body = request("c1", "quote");
    body["session"] = json!("s-1");
    body["arguments"] =
        json!({"sku": "A-1", "count": 2, "price": 3.0, "express": true, "tags": ["a", 1], "left": null});
    run(&rig, catalog_of(orders("bedrock")), body).await;

    let seen = rig.outcome("c1").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    assert_eq!(content(&seen), json!({"content": [{"type": "text", "text": "12 EUR"}]}));
    let invoked = lambda.invocations();
    assert_eq!(invoked.len(), 1);
    assert_eq!((invoked[0].qualifier.as_deref(), invoked[0].region.as_str()), (Some("live"), "eu-west-1"));
    assert_eq!(invoked[0].access_key, SENDER);
    let expected = json!({
        "messageVersion": "1.0",
        "agent": {"name": "toolfleet", "id": "toolfleet", "alias": "toolfleet", "version": "1"},
        "inputText": "", "sessionId": "s-1", "actionGroup": "orders", "function": "quote_order",
        "parameters": [
            {"name": "count", "type": "integer", "value": "2"},
            {"name": "express", "type": "boolean", "value": "true"},
            {"name": "price", "type": "number", "value": "3.0"},
            {"name": "sku", "type": "string", "value": "A-1"},
            {"name": "tags", "type": "array", "value": "[\"a\",1]"}
        ],
        "sessionAttributes": {}, "promptSessionAttributes": {}
    });
    assert_eq!(invoked[0].event, expected);
    let custom = &invoked[0].client_context["custom"];
    assert_eq!((&custom["toolfleetCallId"], &custom["toolfleetTenant"]), (&json!("c1"), &json!("acme")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_function_response_is_a_tool_error_for_the_model() {
    let (rig, lambda) = rig().await;
    for (id, state) in [("c1", "FAILURE"), ("c2", "REPROMPT")] {
        lambda.function("orders", move |_| {
            let mut answer = bedrock_answer("which size?");
            answer["response"]["functionResponse"]["responseState"] = json!(state);
            answer
        });
        run(&rig, catalog_of(orders("bedrock")), request(id, "quote")).await;
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::ToolError, Some("tool_reported_error")));
        assert_eq!(seen.message, "which size?");
        assert_eq!(
            content(&seen),
            json!({"content": [{"type": "text", "text": "which size?"}], "isError": true})
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_returns_as_attributes_is_given_to_the_next() {
    let (rig, lambda) = rig().await;
    lambda.function("orders", |invocation| {
        let mut answer = bedrock_answer("done");
        let seen = invocation.event["sessionAttributes"]["calls"].as_u64().unwrap_or_default();
        answer["sessionAttributes"] = json!({"calls": seen + 1});
        answer["response"]["promptSessionAttributes"] = json!({"tone": "calm"});
        answer
    });
    let catalog = catalog_of(orders("bedrock"));
    for (id, session) in [("c1", Some("s-1")), ("c2", Some("s-1")), ("c3", Some("s-2")), ("c4", None)] {
        let mut body = request(id, "quote");
        body["session"] = json!(session);
        run(&rig, catalog.clone(), body).await;
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded);
    }
    let events: Vec<_> = lambda.invocations().into_iter().map(|invocation| invocation.event).collect();
    let attributes: Vec<_> =
        events.iter().map(|event| (&event["sessionAttributes"], &event["promptSessionAttributes"])).collect();
    let (none, one) = (json!({}), json!({"calls": 1}));
    let calm = json!({"tone": "calm"});
    assert_eq!(attributes, [(&none, &none), (&one, &calm), (&none, &none), (&none, &none)]);
    assert_eq!(events[3]["sessionId"], "c4", "without a session the call stands for itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pikas_tools_share_the_attributes_of_their_session() {
    let (rig, lambda) = rig().await;
    for name in ["login", "orders"] {
        lambda.function(name, move |_| {
            let mut answer = bedrock_answer("done");
            if name == "login" {
                answer["sessionAttributes"] = json!({"customerId": 7});
            }
            answer
        });
    }
    let definition = |name: &str| {
        json!({"toolId": name, "name": name, "executionType": "lambda", "lambdaArn": format!("{ARN}:{name}"),
            "functionSchema": [{"name": name, "description": "d", "parameters": {}}]})
    };
    let pika = json!([definition("login"), definition("orders")]);
    let catalog = json!({"pika": pika, "tenants": {"senders": {SENDER: ["acme"]}, "fleet": [SENDER]}});
    for (id, tool, session) in [("c1", "login", "s-1"), ("c2", "orders", "s-1"), ("c3", "orders", "s-2")] {
        let mut body = request(id, tool);
        body["session"] = json!(session);
        run(&rig, catalog.clone(), body).await;
        let seen = rig.outcome(id).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    }
    let given: Vec<_> = lambda
        .invocations()
        .into_iter()
        .map(|invocation| invocation.event["sessionAttributes"].clone())
        .collect();
    assert_eq!(given, [json!({}), json!({"customerId": 7}), json!({})]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_is_told_who_calls_and_the_next_caller_is_another() {
    let (rig, lambda) = rig().await;
    lambda.function("orders", |invocation| {
        let mut answer = bedrock_answer("done");
        answer["promptSessionAttributes"] = invocation.event["promptSessionAttributes"].clone();
        answer["promptSessionAttributes"]["tone"] = json!("calm");
        answer
    });
    let mut server = orders("bedrock");
    server["tell_user"] = json!(true);
    let ann = json!({"id": "ann", "type": "internal", "roles": ["a", "b"]});
    for (id, user) in [("c1", ann), ("c2", json!({"id": "bob"})), ("c3", json!(null))] {
        let mut body = request(id, "quote");
        (body["session"], body["user"]) = (json!("s-1"), user);
        run(&rig, catalog_of(server.clone()), body).await;
        assert_eq!(rig.outcome(id).await.kind, OutcomeKind::Succeeded);
    }
    let told: Vec<_> = lambda
        .invocations()
        .into_iter()
        .map(|invocation| invocation.event["promptSessionAttributes"].clone())
        .collect();
    let ann = json!({"userId": "ann", "userType": "internal", "userRoles": "[\"a\",\"b\"]"});
    assert_eq!(told, [ann, json!({"userId": "bob", "tone": "calm"}), json!({"tone": "calm"})]);
}

/// The answer that a user gets may be for that user's eyes alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_that_is_told_the_user_shares_no_answer_between_users() {
    for scope in ["tenant", "public"] {
        let (rig, lambda) = rig().await;
        lambda.function("orders", |invocation| {
            bedrock_answer(invocation.event["promptSessionAttributes"]["userId"].as_str().unwrap())
        });
        let mut server = orders("bedrock");
        (server["tell_user"], server["cache"]) = (json!(true), json!({ "scope": scope }));
        let mut catalog = catalog_of(server);
        catalog["tools"][0]["idempotent"] = json!(true);
        let context = rig.fleet_of(catalog, limits(), None).await;
        for (id, user) in [("c1", "ann"), ("c2", "bob"), ("c3", "ann")] {
            let mut body = request(id, "quote");
            (body["user"], body["cache"]) = (json!({ "id": user }), json!(true));
            body["arguments"] = json!({"sku": "A-1"});
            rig.send(body.to_string()).await;
            rig.settle_with(&context).await;
            assert_eq!(content(&rig.outcome(id).await)["content"][0]["text"], user, "{scope} {id}");
        }
        assert_eq!(lambda.invocations().len(), 2, "ann is given her own answer again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_are_the_event_and_the_client_context_names_the_tool() {
    let (rig, lambda) = rig().await;
    lambda.function("orders", |invocation| json!({"price": 12, "for": invocation.event["sku"]}));
    let mut server = orders("arguments");
    server["target_name"] = json!("Orders");
    let mut body = request("c1", "quote");
    body["arguments"] = json!({"sku": "A-1", "count": 2});
    run(&rig, catalog_of(server), body).await;

    let seen = rig.outcome("c1").await;
    let structured = json!({"price": 12, "for": "A-1"});
    assert_eq!(content(&seen)["structuredContent"], structured);
    let text = content(&seen)["content"][0]["text"].as_str().unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), structured);
    let invoked = &lambda.invocations()[0];
    assert_eq!(invoked.event, json!({"sku": "A-1", "count": 2}));
    let custom = &invoked.client_context["custom"];
    assert_eq!(custom["bedrockAgentCoreToolName"], "Orders___quote_order");
    assert_eq!(custom["bedrockAgentCoreMessageVersion"], "1.0");
    assert!(custom["traceparent"].is_null() || custom["traceparent"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pikas_definitions_with_a_function_run_as_they_are() {
    let (rig, lambda) = rig().await;
    lambda.function("custom-business-logic", |invocation| {
        let sku = invocation.event["parameters"][0]["value"].clone();
        bedrock_answer(&format!("{} costs 12", sku.as_str().unwrap()))
    });
    let pika: Value =
        serde_json::from_str(include_str!("../../../../shared/catalog/tests/fixtures/pika-tools.json"))
            .unwrap();
    let catalog = json!({"pika": pika, "tenants": {"senders": {SENDER: ["acme"]}, "fleet": [SENDER]}});
    let mut body = request("c1", "custom-business-logic");
    body["arguments"] = json!({"sku": "A-1"});
    run(&rig, catalog, body).await;

    let seen = rig.outcome("c1").await;
    assert_eq!(content(&seen)["content"][0]["text"], "A-1 costs 12", "{}", seen.message);
    let event = &lambda.invocations()[0].event;
    assert_eq!(
        (&event["actionGroup"], &event["function"]),
        (&json!("custom-business-logic"), &json!("quote"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redelivery_never_repeats_a_function_that_is_not_safe() {
    for step in Step::ALL {
        let (rig, lambda) = rig().await;
        lambda.function("orders", |_| bedrock_answer("done"));
        let catalog = catalog_of(orders("bedrock"));
        rig.send(request("c1", "quote").to_string()).await;
        let crash = CrashAfter::new(step);
        let context = rig.fleet_of(catalog.clone(), limits(), Some(crash.clone())).await;
        let delivery = rig.receive(&context).await.expect("a message to deliver");
        tokio::select! {
            () = pipeline::run(context, delivery, ()) => panic!("the call passed by {step:?}"),
            () = crash.reached.notified() => {}
        }
        let healthy = rig.fleet_of(catalog, limits(), None).await;
        rig.settle_with(&healthy).await;
        let kind = assert_settled(&rig, "c1", &format!("crash after {step:?}")).await;
        let expected = if step == Step::Claimed {
            (OutcomeKind::OutcomeUnknown, 0)
        } else if step == Step::Executed {
            (OutcomeKind::OutcomeUnknown, 1)
        } else {
            (OutcomeKind::Succeeded, 1)
        };
        assert_eq!((kind, lambda.executions("orders")), expected, "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_function_runs_once_however_often_it_is_invoked() {
    let (rig, lambda) = rig().await;
    lambda.function("orders", |_| json!({"done": true}));
    lambda.next(LambdaFault::RunThenCut);
    let mut server = orders("arguments");
    server["durable"] = json!(true);
    run(&rig, catalog_of(server.clone()), request("c1", "quote")).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    run(&rig, catalog_of(server), request("c2", "quote")).await;
    let names: Vec<_> = lambda.invocations().into_iter().map(|i| i.durable_name.unwrap()).collect();
    assert!(names[0] == names[1] && names[1] != names[2], "{names:?}");
    assert!(names.iter().all(|name| name.len() == 64 && name.chars().all(|c| c.is_ascii_alphanumeric())));
    assert_eq!((lambda.invocations().len(), lambda.executions("orders")), (3, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redelivery_of_a_durable_call_finds_its_execution() {
    for step in Step::ALL {
        let (rig, lambda) = rig().await;
        lambda.function("orders", |_| json!({"done": true}));
        let mut server = orders("arguments");
        server["durable"] = json!(true);
        let catalog = catalog_of(server);
        rig.send(request("c1", "quote").to_string()).await;
        let crash = CrashAfter::new(step);
        let context = rig.fleet_of(catalog.clone(), limits(), Some(crash.clone())).await;
        let delivery = rig.receive(&context).await.expect("a message to deliver");
        tokio::select! {
            () = pipeline::run(context, delivery, ()) => panic!("the call passed by {step:?}"),
            () = crash.reached.notified() => {}
        }
        let healthy = rig.fleet_of(catalog, limits(), None).await;
        rig.settle_with(&healthy).await;
        let kind = assert_settled(&rig, "c1", &format!("crash after {step:?}")).await;
        assert_eq!((kind, lambda.executions("orders")), (OutcomeKind::Succeeded, 1), "{step:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_surrogate_pair_is_refused_in_arguments_and_read_in_answers() {
    let (rig, lambda) = rig().await;
    lambda.function("orders", |_| bedrock_answer("done"));
    let odd = [r#"{"sku": "caf\ud83d"}"#, r#"{"sku": "A-1", "\udc00": "x"}"#];
    for (id, arguments) in ["c1", "c2"].into_iter().zip(odd) {
        let body = format!(
            r#"{{"v": 1, "call_id": "{id}", "tenant": "acme", "tool": "quote", "arguments": {arguments}}}"#
        );
        run_text(&rig, catalog_of(orders("bedrock")), body).await;
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some("invalid_arguments")));
        assert!(seen.message.contains("has half a surrogate pair"), "{}", seen.message);
    }
    assert!(lambda.invocations().is_empty());

    let cut = r#"{"response":{"functionResponse":{"responseBody":{"TEXT":{"body":"caf\ud83d"}}}}}"#;
    lambda.next(LambdaFault::RunThenAnswer(cut.to_owned()));
    run(&rig, catalog_of(orders("bedrock")), request("c3", "quote")).await;
    let seen = rig.outcome("c3").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    assert_eq!(content(&seen)["content"][0]["text"], "caf\u{fffd}");
    let body = r#"{"errorType":"Error","errorMessage":"no \ud83d"}"#.to_owned();
    lambda.next(LambdaFault::RunThenError { kind: "Unhandled".to_owned(), body });
    run(&rig, catalog_of(orders("bedrock")), request("c4", "quote")).await;
    let seen = rig.outcome("c4").await;
    assert_eq!((seen.kind, seen.message.as_str()), (OutcomeKind::ToolError, "Error: no \u{fffd}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_with_sessions_is_called_within_one_of_the_callers() {
    let (rig, lambda) = rig().await;
    lambda.function("orders", |invocation| {
        let body: Value = serde_json::from_str(invocation.event["body"].as_str().unwrap()).unwrap();
        let response = |status: u16, headers: Value, body: Value| json!({"statusCode": status, "headers": headers, "body": body.to_string()});
        let session = invocation.event["headers"]["mcp-session-id"].as_str();
        match (body["method"].as_str().unwrap(), session) {
            ("initialize", _) => {
                let result = json!({"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}});
                let id = invocation.client_context["custom"]["toolfleetSession"].as_str().unwrap();
                response(200, json!({"MCP-Session-Id": id}), json!({"jsonrpc": "2.0", "id": body["id"], "result": result}))
            }
            ("notifications/initialized", _) => json!({"statusCode": 202, "body": ""}),
            (_, None) => {
                let error = json!({"code": -32_000, "message": "Session required"});
                response(400, json!({}), json!({"jsonrpc": "2.0", "id": body["id"], "error": error}))
            }
            (_, Some(session)) => {
                let result = json!({"content": [{"type": "text", "text": session}]});
                response(200, json!({}), json!({"jsonrpc": "2.0", "id": body["id"], "result": result}))
            }
        }
    });
    let context = rig.fleet_of(catalog_of(orders("api-gateway")), limits(), None).await;
    for (id, session) in [("c1", "s-1"), ("c2", "s-1"), ("c3", "s-2")] {
        let mut body = request(id, "quote");
        body["session"] = json!(session);
        rig.send(body.to_string()).await;
        rig.settle_with(&context).await;
        let seen = rig.outcome(id).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
        assert_eq!(content(&seen)["content"][0]["text"], session);
    }
    assert_eq!(lambda.invocations().len(), 4 + 1 + 4, "a session is opened once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_is_assumed_once_with_its_external_id() {
    let (rig, lambda) = rig().await;
    lambda.function("orders", |_| json!("done"));
    let role = "arn:aws:iam::210987654321:role/invoke";
    let mut server = orders("arguments");
    server["role_arn"] = json!(role);
    server["external_id"] = json!("fleet-7");
    let context = rig.fleet_of(catalog_of(server), limits(), None).await;
    for id in ["c1", "c2"] {
        rig.send(request(id, "quote").to_string()).await;
        rig.settle_with(&context).await;
        assert_eq!(content(&rig.outcome(id).await)["content"][0]["text"], "done");
    }
    assert_eq!(lambda.assumed(), [(role.to_owned(), Some("fleet-7".to_owned()))]);
    assert!(lambda.invocations().iter().all(|invocation| invocation.access_key == "ASIAASSUMED"));
}

/// A catalog with an MCP server and an interface that are signed for with this role.
fn signed(rig: &Rig, echo: &EchoHttp, role: &str) -> Value {
    let mut catalog = rig.catalog();
    let auth = json!({"type": "aws_sigv4", "service": "execute-api", "region": "eu-west-1",
        "role_arn": role, "external_id": "fleet-7"});
    let get = json!({"operationId": "find", "responses": {}});
    let document =
        json!({"openapi": "3.0.4", "info": {"title": "t", "version": "1"}, "paths": {"/find": {"get": get}}});
    let servers = catalog["servers"].as_array_mut().unwrap();
    servers[0]["auth"] = auth.clone();
    servers.push(json!({"id": "http", "url": echo.url(), "openapi": document, "auth": auth}));
    catalog
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_and_interfaces_are_signed_for_with_an_assumed_role() {
    let (rig, lambda) = rig().await;
    let echo = EchoHttp::start().await;
    rig.mcp.tool("safe", |_| json!({"content": []}));
    let role = "arn:aws:iam::210987654321:role/call";
    let context = rig.fleet_of(signed(&rig, &echo, role), limits(), None).await;
    let find = |id: &str| json!({"v": 1, "call_id": id, "tenant": "acme", "server": "http", "name": "find", "arguments": {}});
    for body in [request("c1", "safe"), find("c2"), find("c3")] {
        rig.send(body.to_string()).await;
        rig.settle_with(&context).await;
        let seen = rig.outcome(body["call_id"].as_str().unwrap()).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    }
    assert_eq!(lambda.assumed(), [(role.to_owned(), Some("fleet-7".to_owned()))], "once for all");
    let called = rig.mcp.requests_of("tools/call");
    let asked = echo.requests();
    let of_mcp = called
        .iter()
        .map(|request| (request.header("authorization"), request.header("x-amz-security-token")));
    let of_http =
        asked.iter().map(|request| (request.header("authorization"), request.header("x-amz-security-token")));
    let all: Vec<_> = of_mcp.chain(of_http).collect();
    assert_eq!(all.len(), 3);
    for (authorization, token) in all {
        assert!(authorization.unwrap().contains("Credential=ASIAASSUMED/"), "{authorization:?}");
        assert_eq!(token, Some("t"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_sign_ends_the_call_unsent() {
    let (rig, lambda) = rig().await;
    let echo = EchoHttp::start().await;
    lambda.refuse_roles();
    let context =
        rig.fleet_of(signed(&rig, &echo, "arn:aws:iam::210987654321:role/call"), limits(), None).await;
    let body =
        json!({"v": 1, "call_id": "c1", "tenant": "acme", "server": "http", "name": "find", "arguments": {}});
    rig.send(body.to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c1").await;
    let found = (seen.kind, seen.code);
    assert_eq!(found, (OutcomeKind::Failed, Some("credential_unavailable")), "{}", seen.message);
    assert!(seen.message.contains("role/call"), "{}", seen.message);
    assert!(echo.requests().is_empty());
}

/// A function that asks who calls, and answers when it is told.
fn asking(event: &Value) -> Value {
    let result = if event["params"].get("inputResponses").is_some() {
        json!({"content": [{"type": "text", "text": "done"}]})
    } else {
        let schema = json!({"type": "object", "properties": {}});
        let who = json!({"method": "elicitation/create", "params": {"mode": "form", "message": "Who?", "requestedSchema": schema}});
        json!({"resultType": "input_required", "requestState": "s", "inputRequests": {"who": who}})
    };
    json!({"jsonrpc": "2.0", "id": event["id"], "result": result})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_durable_function_is_repeated_when_it_is_lost() {
    for durable in [true, false] {
        let (rig, lambda) = rig().await;
        lambda.function("orders", |invocation| asking(&invocation.event));
        let mut server = orders("mcp");
        server["durable"] = json!(durable);
        let mut body = request("c1", "quote");
        run(&rig, catalog_of(server.clone()), body.clone()).await;
        let seen = rig.outcome("c1").await;
        assert_eq!(seen.kind, OutcomeKind::InputRequired, "{}", seen.message);
        lambda.next(LambdaFault::RunThenCut);
        body["call_id"] = json!("c2");
        body["resume"] =
            json!({"call_id": "c1", "input_responses": {"who": {"action": "accept", "content": {}}}});
        run(&rig, catalog_of(server), body).await;
        let seen = rig.outcome("c2").await;
        let expected = if durable { OutcomeKind::Succeeded } else { OutcomeKind::OutcomeUnknown };
        assert_eq!(seen.kind, expected, "{durable}: {}", seen.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_be_assumed_ends_the_call_unsent() {
    let (rig, lambda) = rig().await;
    lambda.refuse_roles();
    let mut server = orders("arguments");
    server["role_arn"] = json!("arn:aws:iam::210987654321:role/invoke");
    run(&rig, catalog_of(server), request("c1", "quote")).await;
    let seen = rig.outcome("c1").await;
    assert_eq!(
        (seen.kind, seen.code),
        (OutcomeKind::Failed, Some("credential_unavailable")),
        "{}",
        seen.message
    );
    assert!(lambda.invocations().is_empty());
    assert_eq!(rig.audit_of("c1", AuditKind::Call).await.len(), 1);
}

fn rpc(body: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": body["id"], "result": {"content": [{"type": "text", "text": "12 EUR"}], "structuredContent": body["params"]["arguments"]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_mcp_request_is_the_event_and_its_answer_is_the_result() {
    let (rig, lambda) = rig().await;
    lambda.function("orders", |invocation| rpc(&invocation.event));
    let mut body = request("c1", "quote");
    body["arguments"] = json!({"sku": "A-1"});
    run(&rig, catalog_of(orders("mcp")), body).await;
    let seen = rig.outcome("c1").await;
    assert_eq!(content(&seen)["structuredContent"], json!({"sku": "A-1"}), "{}", seen.message);
    let event = &lambda.invocations()[0].event;
    assert_eq!((&event["method"], &event["params"]["name"]), (&json!("tools/call"), &json!("quote_order")));

    lambda.function("orders", |invocation| {
        json!({"jsonrpc": "2.0", "id": invocation.event["id"], "error": {"code": -32602, "message": "no sku"}})
    });
    run(&rig, catalog_of(orders("mcp")), request("c2", "quote")).await;
    let seen = rig.outcome("c2").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("rpc_error")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_gateways_event_has_the_request_as_its_body() {
    let (rig, lambda) = rig().await;
    lambda.function("orders", |invocation| {
        assert_eq!(invocation.event["requestContext"]["http"]["method"], "POST");
        let body: Value = serde_json::from_str(invocation.event["body"].as_str().unwrap()).unwrap();
        let stream = format!("event: message\ndata: {}\n\n", rpc(&body));
        json!({"statusCode": 200, "headers": {"content-type": "text/event-stream"}, "body": stream, "isBase64Encoded": false})
    });
    run(&rig, catalog_of(orders("api-gateway")), request("c1", "quote")).await;
    let seen = rig.outcome("c1").await;
    assert_eq!(content(&seen)["content"][0]["text"], "12 EUR", "{}", seen.message);

    lambda.function("orders", |_| json!({"statusCode": 500, "body": "oh"}));
    run(&rig, catalog_of(orders("api-gateway")), request("c2", "quote")).await;
    let seen = rig.outcome("c2").await;
    assert_eq!(
        (seen.kind, seen.code),
        (OutcomeKind::OutcomeUnknown, Some("server_error")),
        "{}",
        seen.message
    );
}

/// Runs the handler of the weather sample, as Lambda would.
fn weather(event: &Value) -> Value {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let handler = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/weather_function.py");
    let mut python =
        Command::new("python3").arg(handler).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(event.to_string().as_bytes()).unwrap();
    serde_json::from_slice(&python.wait_with_output().unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pikas_weather_sample_runs_with_a_function_in_python() {
    let (rig, lambda) = rig().await;
    lambda.function("weather", |invocation| weather(&invocation.event));
    let definition = json!([{
        "toolId": "weather-lambda", "name": "weather", "executionType": "lambda", "executionTimeout": 30,
        "lambdaArn": format!("{ARN}:weather"),
        "functionSchema": [{"name": "get_weather", "description": "The weather at a place", "parameters": {
            "location": {"type": "string", "description": "The place", "required": true},
            "jsonParams": {"type": "string", "description": "Everything else"}}}]
    }]);
    let catalog = json!({"pika": definition, "tenants": {"senders": {SENDER: ["acme"]}, "fleet": [SENDER]}});
    for (id, location) in [("c1", "Oslo"), ("c2", "Atlantis")] {
        let mut body = request(id, "weather-lambda");
        body["session"] = json!("s-1");
        body["arguments"] = json!({"location": location, "jsonParams": "{\"units\":\"metric\"}"});
        run(&rig, catalog.clone(), body).await;
    }
    let seen = rig.outcome("c1").await;
    let text = content(&seen)["content"][0]["text"].as_str().unwrap().to_owned();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!({"temperature_c": 4, "sky": "rain"}));
    let seen = rig.outcome("c2").await;
    assert_eq!((seen.kind, seen.message.as_str()), (OutcomeKind::ToolError, "unknown location"));
    assert_eq!(lambda.invocations()[1].event["sessionAttributes"], json!({"lastLocation": "Oslo"}));
}
