//! The operations other than `tools/call`: sent to a server, read-only, stored unchanged, audited by name.

use serde_json::{Value, json};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision, ToolAnswer};

use crate::rig::{Rig, limits};

const RESOURCE: &str = r#"{"contents":[{"uri":"note:é 1","text":"é\u00e9","x":1.0}]}"#;
const PROMPT: &str =
    r#"{"messages":[{"role":"user","content":{"type":"text","text":"hi"}}], "description" : "d"}"#;

const COMPLETION: &str = r#"{"completion":{"values":["Ann" ],"n":1.0}}"#;
const TEMPLATES: &str = r#"{"resourceTemplates":[ {"uriTemplate":"note:{x}"} ]}"#;

/// The parameters of the first request of that method, without `_meta`.
fn params_of(mcp: &MockMcp, method: &str) -> Value {
    let mut params = mcp.requests_of(method)[0].body["params"].clone();
    params.as_object_mut().unwrap().remove("_meta");
    params
}

fn asked(id: &str, operation: &str, arguments: Value) -> Value {
    json!({"v": 1, "call_id": id, "tenant": "acme", "server": "mock", "operation": operation, "arguments": arguments})
}

/// Two pages of resources, and prompts on one page.
fn furnish(mcp: &MockMcp) {
    mcp.method("resources/read", |_| ToolAnswer::Raw(RESOURCE.into()));
    mcp.method("prompts/get", |_| ToolAnswer::Raw(PROMPT.into()));
    mcp.method("resources/list", |params| match params.get("cursor").and_then(Value::as_str) {
        None => ToolAnswer::Raw(
            r#"{"ttlMs":5,"resources":[{"uri":"a","n":1.0}],"nextCursor":"two","x":[ 1 ]}"#.into(),
        ),
        Some(cursor) => {
            ToolAnswer::Raw(format!(r#"{{"resources":[{{"uri":"b"}}],"ttlMs":7,"at":"{cursor}"}}"#))
        }
    });
    mcp.method("prompts/list", |_| ToolAnswer::Raw(r#"{"prompts":[ {"name":"greet"} ]}"#.into()));
    mcp.method("completion/complete", |_| ToolAnswer::Raw(COMPLETION.into()));
    mcp.method("resources/templates/list", |_| ToolAnswer::Raw(TEMPLATES.into()));
}

async fn answered(rig: &Rig, body: &Value) -> String {
    rig.send(body.to_string()).await;
    rig.settle().await;
    let seen = rig.outcome(body["call_id"].as_str().unwrap()).await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{body}: {}", seen.message);
    seen.content.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_is_answered_byte_for_byte_in_both_generations() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
        let rig = Rig::with(era).await;
        furnish(&rig.mcp);
        let read = asked("read", "resources/read", json!({"uri": "note:é 1"}));
        assert_eq!(answered(&rig, &read).await, RESOURCE);
        let get = asked("get", "prompts/get", json!({"name": "greet", "arguments": {"who": "Ann"}}));
        assert_eq!(answered(&rig, &get).await, PROMPT);
        let sent = &rig.mcp.requests_of("prompts/get")[0].body["params"];
        assert_eq!((&sent["name"], &sent["arguments"]), (&json!("greet"), &json!({"who": "Ann"})));
        let bare = asked("bare", "prompts/get", json!({"name": "greet"}));
        assert_eq!(answered(&rig, &bare).await, PROMPT);
        let completion = json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "who", "value": "A"}});
        assert_eq!(
            answered(&rig, &asked("complete", "completion/complete", completion.clone())).await,
            COMPLETION
        );
        assert_eq!(params_of(&rig.mcp, "completion/complete"), completion);
        assert_eq!(
            answered(&rig, &asked("templates", "resources/templates/list", json!({}))).await,
            TEMPLATES
        );
        let prompts = asked("prompts", "prompts/list", json!({}));
        assert_eq!(answered(&rig, &prompts).await, r#"{"prompts":[ {"name":"greet"} ]}"#);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn since_2026_07_28_headers_mirror_method_and_name() {
    let rig = Rig::new().await;
    furnish(&rig.mcp);
    answered(&rig, &asked("get", "prompts/get", json!({"name": "greet"}))).await;
    answered(&rig, &asked("read", "resources/read", json!({"uri": "note:1"}))).await;
    answered(&rig, &asked("list", "resources/list", json!({}))).await;
    let completion =
        json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "a", "value": "b"}});
    answered(&rig, &asked("complete", "completion/complete", completion)).await;
    for (method, name) in [
        ("prompts/get", Some("greet")),
        ("resources/read", Some("note:1")),
        ("resources/list", None),
        ("completion/complete", None),
    ] {
        let sent = rig.mcp.requests_of(method);
        assert_eq!((sent[0].header("mcp-method"), sent[0].header("mcp-name")), (Some(method), name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_has_all_pages_unless_a_cursor_asks_for_one() {
    let rig = Rig::new().await;
    furnish(&rig.mcp);
    let all = answered(&rig, &asked("all", "resources/list", json!({}))).await;
    assert_eq!(all, r#"{"ttlMs":5,"resources":[{"uri":"a","n":1.0},{"uri":"b"}],"x":[ 1 ]}"#);
    let one = answered(&rig, &asked("one", "resources/list", json!({"cursor": "two"}))).await;
    assert_eq!(one, r#"{"resources":[{"uri":"b"}],"ttlMs":7,"at":"two"}"#);

    for n in 0..25 {
        rig.mcp.tool(&format!("tool{n}"), |_| json!({"content": []}));
    }
    let tools: Value =
        serde_json::from_str(&answered(&rig, &asked("tools", "tools/list", json!({}))).await).unwrap();
    assert_eq!(tools["tools"].as_array().unwrap().len(), 29);
    assert!(tools.get("nextCursor").is_none(), "{tools}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_listing_has_a_cursor_to_continue() {
    let rig = Rig::new().await;
    let big = "x".repeat(40_000);
    let page = move |params: &Value| {
        let at: u64 = params.get("cursor").and_then(Value::as_str).map_or(0, |c| c.parse().unwrap());
        json!({"prompts": [{"name": format!("p{at}"), "description": big}], "nextCursor": (at + 1).to_string()})
    };
    rig.mcp.method("prompts/list", page);
    // The rig's bound is 100,000 bytes.
    let cut: Value =
        serde_json::from_str(&answered(&rig, &asked("cut", "prompts/list", json!({}))).await).unwrap();
    assert_eq!((cut["prompts"].as_array().unwrap().len(), &cut["nextCursor"]), (2, &json!("2")));

    rig.mcp.method("prompts/list", |_| json!({"prompts": [], "nextCursor": "again"}));
    let endless = answered(&rig, &asked("endless", "prompts/list", json!({}))).await;
    assert_eq!(endless, r#"{"prompts":[],"nextCursor":"again"}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_of_a_reading_operation_is_asked_for_again() {
    let rig = Rig::new().await;
    furnish(&rig.mcp);
    let asks = [
        asked("read", "resources/read", json!({"uri": "note:1"})),
        asked("get", "prompts/get", json!({"name": "greet"})),
        asked("resources", "resources/list", json!({})),
        asked("prompts", "prompts/list", json!({})),
        asked("tools", "tools/list", json!({})),
        asked("templates", "resources/templates/list", json!({})),
        asked(
            "complete",
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "a", "value": "b"}}),
        ),
    ];
    for body in asks {
        let method = body["operation"].as_str().unwrap();
        rig.mcp.next_for(method, MockFault::CloseBeforeAnswer);
        answered(&rig, &body).await;
        assert!(rig.mcp.requests_of(method).len() >= 2, "{method}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_record_names_the_operation_and_the_server() {
    let rig = Rig::new().await;
    furnish(&rig.mcp);
    answered(&rig, &asked("read", "resources/read", json!({"uri": "note:1"}))).await;
    let records = rig.audit_of("read", AuditKind::Call).await;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(
        (record.operation.as_deref(), record.tool.as_deref()),
        (Some("resources/read"), Some("mock/*"))
    );
    assert_eq!(record.arguments.as_deref(), Some(r#"{"uri":"string(6)"}"#));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_needs_the_grant_of_the_whole_server() {
    let rig = Rig::new().await;
    furnish(&rig.mcp);
    let sessions = rig.direct.sessions(&toolfleet_aws::Tables::with_prefix("toolfleet"));
    let tenant = toolfleet_core::ids::Tenant::parse("acme").unwrap();
    for (name, grant, open) in
        [("one", "mock/safe", false), ("tool", "safe", false), ("all", "mock/*", true), ("any", "*", true)]
    {
        let row = toolfleet_core::session::SessionRow {
            expires_at: toolfleet_core::time::Timestamp::parse("2030-01-01T00:00:00Z").unwrap(),
            grants: vec![grant.into()],
            user: None,
        };
        let session = toolfleet_core::ids::SessionId::parse(name).unwrap();
        assert!(sessions.create(&tenant, &session, &row).await.unwrap());
        let mut body = asked(name, "prompts/list", json!({}));
        body["session"] = json!(name);
        rig.send(body.to_string()).await;
        rig.settle().await;
        let seen = rig.outcome(name).await;
        if open {
            assert_eq!(seen.kind, OutcomeKind::Succeeded, "{grant}: {}", seen.message);
        } else {
            assert_eq!(seen.code, Some("session_invalid"), "{grant}");
            assert!(seen.message.contains("does not grant `mock/*`"), "{}", seen.message);
        }
    }
    assert_eq!(rig.mcp.executions("prompts/list"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_discover_gets_only_registered_tool_calls() {
    let rig = Rig::new().await;
    furnish(&rig.mcp);
    let mut catalog = rig.catalog();
    catalog["servers"][0]["discover"] = json!(false);
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(asked("closed", "tools/list", json!({})).to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("closed").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some("access_denied")));
    assert!(rig.mcp.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_does_not_offer_fails_with_its_own_words() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
        let rig = Rig::with(era).await;
        rig.send(asked("c1", "resources/read", json!({"uri": "note:1"})).to_string()).await;
        rig.settle().await;
        let seen = rig.outcome("c1").await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("rpc_error")), "{}", seen.message);
        assert!(seen.message.contains("Method not found"), "{}", seen.message);
    }
}
