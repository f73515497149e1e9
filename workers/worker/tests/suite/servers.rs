//! Answers of servers: results kept byte for byte, tool errors, annotations, and redaction of our credentials.

use std::time::Duration;

use serde_json::json;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::{MockFault, ProtocolRevision, ToolAnswer};

use crate::credentials::store;
use crate::rig::{Rig, SENDER, limits, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_are_stored_byte_for_byte_in_both_generations() {
    for era in [ProtocolRevision::Modern, ProtocolRevision::Legacy] {
        let rig = Rig::with(era).await;
        let raw = r#"{"content":[{"type":"text","text":"é\u00e9"},{"type":"hologram","x":1.0}],"structuredContent":{"b":2,"a":1e2}}"#;
        rig.mcp.tool("safe", move |_| ToolAnswer::Raw(raw.to_owned()));
        rig.send(request("c1", "safe").to_string()).await;
        rig.settle().await;
        let seen = rig.outcome("c1").await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
        assert_eq!(seen.content.as_deref(), Some(raw));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_error_is_the_tools_answer_and_is_never_retried() {
    let rig = Rig::new().await;
    rig.mcp.tool(
        "safe",
        |_| json!({"content": [{"type": "text", "text": "no such customer"}], "isError": true}),
    );
    rig.send(request("c1", "safe").to_string()).await;
    rig.settle().await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::ToolError, Some("tool_reported_error")));
    assert_eq!(seen.message, "no such customer");
    assert!(seen.content.unwrap().contains("isError"));
    assert_eq!(rig.mcp.executions("safe"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_that_throw_errors_do_not_close_their_server_to_others() {
    let rig = Rig::new().await;
    let context = rig.fleet_of(rig.catalog(), limits(), None).await;
    rig.mcp.tool("unsafe", |_| ToolAnswer::Error { code: -32603, message: "no such file".to_owned() });
    for n in 0..12 {
        rig.send(request(&format!("wrong-{n}"), "unsafe").to_string()).await;
        rig.deliver(&context).await;
    }
    assert_eq!(rig.mcp.executions("unsafe"), 12, "none was held");
    rig.send(request("right", "safe").to_string()).await;
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("right").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_servers_hint_makes_a_listed_tool_safe_to_repeat() {
    let rig = Rig::new().await;
    let body = |id: &str| {
        json!({"v":1,"call_id":id,"tenant":"acme","server":"mock","name":"hinted","arguments":{"call":id}})
            .to_string()
    };
    rig.mcp.next(MockFault::CloseBeforeAnswer);
    rig.send(body("c1")).await;
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.executions_of("c1"), 2);

    // The same server, not trusted: its word is not enough.
    let mut catalog = rig.catalog();
    catalog["servers"][0]["trusted"] = json!(false);
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    rig.mcp.next(MockFault::CloseBeforeAnswer);
    rig.send(body("c2")).await;
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::OutcomeUnknown);
    assert_eq!(rig.mcp.executions_of("c2"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_come_from_secrets_and_errors_show_no_value() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["servers"][0]["headers"] = json!({"Authorization": "Bearer secret://missing/token"});
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("credential_unavailable")));
    assert!(seen.message.contains("missing/token"), "{}", seen.message);
    assert_eq!(rig.mcp.executions("unsafe"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echoed_credential_is_in_neither_row_nor_record() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    store(&rig, "crm", "sk-live-12345").await;
    catalog["servers"][0]["headers"] = json!({"Authorization": "Bearer secret://crm"});
    let context = rig.fleet_of(catalog, crate::rig::limits(), None).await;
    rig.mcp.next(MockFault::rpc(-32000, "invalid api key: sk-live-12345"));
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c1").await;
    assert!(
        seen.message.contains("invalid api key") && !seen.message.contains("sk-live"),
        "{}",
        seen.message
    );
    let audit = rig.audit_of("c1", toolfleet_core::audit::AuditKind::Call).await;
    assert!(!serde_json::to_string(&audit).unwrap().contains("sk-live"));
}

#[tokio::test]
async fn a_tool_list_is_cached_for_its_ttl_per_tenant_unless_public() {
    for (ttl_ms, scope, asked) in [
        // (both tenants at once, after 30 s, after ten minutes): how often the list had been asked for by then.
        (60_000, "private", [2, 2, 4]),
        (60_000, "public", [1, 1, 2]),
        // Ten seconds at least.
        (0, "public", [1, 2, 3]),
        // Five minutes at most.
        (86_400_000, "public", [1, 1, 2]),
    ] {
        let rig = Rig::new().await;
        rig.mcp.lists_are_fresh(ttl_ms, scope);
        let mut catalog = rig.catalog();
        catalog["tenants"]["senders"][SENDER] = json!(["acme", "beta"]);
        let context = rig.fleet_of(catalog, limits(), None).await;
        for (round, (wait_s, asked)) in [0, 30, 600].into_iter().zip(asked).enumerate() {
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(wait_s)).await;
            tokio::time::resume();
            for tenant in ["acme", "beta", "acme"] {
                let id = uuid::Uuid::new_v4().to_string();
                let mut body =
                    json!({"v": 1, "call_id": id, "tenant": tenant, "server": "mock", "name": "hinted"});
                body["arguments"] = json!({"call": id});
                rig.send(body.to_string()).await;
                rig.deliver(&context).await;
                assert_eq!(rig.mcp.executions_of(&id), 1, "{scope}, round {round}");
            }
            let lists = rig.mcp.requests_of("tools/list");
            let pages = lists.iter().filter(|list| list.body.pointer("/params/cursor").is_none()).count();
            assert_eq!(pages, asked, "{ttl_ms} ms, {scope}, round {round}");
        }
    }
}
