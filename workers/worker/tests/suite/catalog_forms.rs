//! Calls of tools from other systems' definitions: an open tool, a Lambda function, a missing credential.

use serde_json::{Value, json};
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};

use crate::rig::{Rig, request};

fn definitions(rig: &Rig) -> Value {
    let url = rig.mcp.url();
    json!([
        {"toolId": "open", "executionType": "mcp", "mcpServerUrl": url,
         "accessRules": [{"enabled": true, "userTypes": ["internal-user"]}]},
        {"toolId": "narrow", "executionType": "mcp", "mcpServerUrl": url, "functionSchema": [
            {"name": "strict", "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}}}]},
        {"toolId": "asleep", "executionType": "mcp", "mcpServerUrl": url, "lifecycle": {"status": "disabled"}},
        {"toolId": "elsewhere", "executionType": "lambda", "functionSchema": [{"name": "quote"}],
         "lambdaArn": "arn:aws:lambda:us-east-1:123456789012:function:quote"},
        {"toolId": "calc", "executionType": "inline", "code": "1", "functionSchema": [{"name": "add"}]},
        {"toolId": "typo", "executionType": "mcp", "url": url, "functionSchema": [
            {"name": "safe", "parameters": {"x": {"type": "colour"}}}]},
        {"toolId": "oauth", "executionType": "mcp", "url": url, "functionSchema": [{"name": "unsafe"}],
         "auth": {"clientId": "secret://a", "clientSecret": "secret://b", "tokenUrl": "http://127.0.0.1:9/token"}}
    ])
}

fn call(id: &str, tool: &str, function: Option<&str>, user: Option<&str>) -> Value {
    let mut call = request(id, tool);
    if let Some(function) = function {
        call["function"] = json!(function);
    }
    if let Some(kind) = user {
        call["user"] = json!({"id": "u", "type": kind});
    }
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_of_pikas_definitions_run_or_are_refused_by_name() {
    use OutcomeKind::{Failed, Refused, Succeeded};
    let (rig, lambda) = crate::lambda::rig().await;
    lambda.function(
        "quote",
        |_| json!({"response": {"functionResponse": {"responseBody": {"TEXT": {"body": "12"}}}}}),
    );
    let mut catalog = rig.catalog();
    catalog["pika"] = definitions(&rig);
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    let by_name = |id: &str, name: &str| {
        json!({"v": 1, "call_id": id, "tenant": "acme", "server": "open", "name": name, "arguments": {},
               "user": {"id": "u", "type": "external-user"}})
    };
    let list = |id: &str, server: &str, user: &str| {
        json!({"v": 1, "call_id": id, "tenant": "acme", "server": server, "operation": "tools/list", "arguments": {},
               "user": {"id": "u", "type": user}})
    };
    let cases = [
        (list("list", "open", "internal-user"), Succeeded, None, ""),
        (list("list-outsider", "open", "external-user"), Refused, Some("access_denied"), "access rules"),
        (
            list("list-narrow", "narrow", "internal-user"),
            Refused,
            Some("access_denied"),
            "registered tools alone",
        ),
        (list("list-asleep", "asleep", "internal-user"), Refused, Some("paused"), "paused"),
        (call("listed", "open", Some("safe"), Some("internal-user")), Succeeded, None, ""),
        (
            call("unlisted", "open", Some("no"), Some("internal-user")),
            Refused,
            Some("unknown_tool"),
            "has no tool `no`",
        ),
        (
            call("nameless", "open", None, Some("internal-user")),
            Refused,
            Some("unknown_tool"),
            "needs `function`",
        ),
        (
            call("outsider", "open", Some("safe"), Some("external-user")),
            Refused,
            Some("access_denied"),
            "access rules",
        ),
        (by_name("by-name", "safe"), Refused, Some("access_denied"), "access rules"),
        (call("narrow", "narrow", None, None), Succeeded, None, ""),
        (call("wide", "narrow", Some("safe"), None), Refused, Some("unknown_tool"), "one of: strict"),
        (call("asleep", "asleep", Some("safe"), None), Refused, Some("paused"), "paused"),
        (call("lambda", "elsewhere", None, None), Succeeded, None, ""),
        (
            call("inline", "calc", None, None),
            Refused,
            Some("not_executable"),
            "Tool `calc` is registered but cannot be called: `executionType` is `inline`, code that Pika runs itself",
        ),
        (
            call("typo", "typo", Some("safe"), None),
            Refused,
            Some("not_executable"),
            "`functionSchema.safe.parameters.x.type` is `colour`; accepted are string",
        ),
        (
            list("list-typo", "typo", "internal-user"),
            Refused,
            Some("not_executable"),
            "Server `typo` is registered but cannot be called",
        ),
        (call("oauth", "oauth", None, None), Failed, Some("credential_unavailable"), "secret `a`"),
    ];
    for (body, ..) in &cases {
        rig.send(body.to_string()).await;
    }
    rig.settle_with(&context).await;
    for (body, kind, code, text) in cases {
        let id = body["call_id"].as_str().unwrap();
        let seen = rig.outcome(id).await;
        assert_eq!((seen.kind, seen.code), (kind, code), "{id}: {}", seen.message);
        assert!(seen.message.contains(text), "{id}: {}", seen.message);
        // A read operation needs no claim, so that another delivery may have executed it.
        let reads = body["operation"] != Value::Null;
        let ran = if reads { MayHaveRun::Unknown } else { MayHaveRun::No };
        let ran = (kind != Succeeded).then_some(ran);
        assert_eq!(seen.may_have_run, ran, "{id}");
    }
    assert_eq!((rig.mcp.executions("safe"), rig.mcp.executions("strict")), (1, 1));
    assert_eq!(rig.mcp.executions("unsafe"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_another_programs_file_run_or_are_refused_by_name() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog.as_object_mut().unwrap().retain(|section, _| section == "tenants");
    catalog["theme"] = json!("dark");
    catalog["mcpServers"] = json!({
        "my crm": {"type": "http", "url": rig.mcp.url(), "excludeTools": ["unsafe"]},
        "token": {"url": rig.mcp.url(), "headers": {"Authorization": "Bearer ${TOKEN}"}},
    });
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    let on = |id: &str, server: &str, name: &str| json!({"v": 1, "call_id": id, "tenant": "acme", "server": server, "name": name, "arguments": {}});
    let cases = [
        (on("listed", "my-crm", "safe"), OutcomeKind::Succeeded, None, ""),
        (on("excluded", "my-crm", "unsafe"), OutcomeKind::Refused, Some("paused"), "is paused"),
        (
            on("open", "token", "safe"),
            OutcomeKind::Refused,
            Some("not_executable"),
            "`headers.Authorization` holds a placeholder",
        ),
    ];
    for (body, ..) in &cases {
        rig.send(body.to_string()).await;
    }
    rig.settle_with(&context).await;
    for (body, kind, code, text) in cases {
        let seen = rig.outcome(body["call_id"].as_str().unwrap()).await;
        assert_eq!((seen.kind, seen.code), (kind, code), "{body}: {}", seen.message);
        assert!(seen.message.contains(text), "{body}: {}", seen.message);
    }
    assert_eq!((rig.mcp.executions("safe"), rig.mcp.executions("unsafe")), (1, 0));
}
