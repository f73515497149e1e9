//! `resources` and `prompts`.

use serde_json::{Value, json};
use toolfleet_testkit::{MockMcp, ProtocolRevision, ToolAnswer};

use crate::run::{Dev, directory, file};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_and_prompts_of_a_server_are_listed_and_read() {
    let mcp = MockMcp::start(ProtocolRevision::Modern).await;
    mcp.method("resources/list", |_| json!({"resources": [{"uri": "note:1", "name": "one"}]}));
    mcp.method(
        "resources/templates/list",
        |_| json!({"resourceTemplates": [{"uriTemplate": "note:{n}", "name": "n"}]}),
    );
    mcp.method("resources/read", |params: &Value| match params["uri"].as_str() {
        Some("note:1") => {
            ToolAnswer::Result(json!({"contents": [{"uri": "note:1", "text": "the first note"}]}))
        }
        Some(_) | None => ToolAnswer::Error { code: -32002, message: "no such note".into() },
    });
    mcp.method("prompts/list", |_| json!({"prompts": [{"name": "greet"}]}));
    mcp.method("prompts/get", |params: &Value| {
        let text = format!("Greet {}.", params["arguments"]["who"].as_str().unwrap_or("nobody"));
        json!({"messages": [{"role": "user", "content": {"type": "text", "text": text}}]})
    });
    let catalog =
        json!({"servers": [{"id": "crm", "url": mcp.url(), "discover": true}], "tenants": {"queue": ["*"]}});
    let path = file(&directory("reading"), "catalog.json", &catalog.to_string());
    tokio::task::block_in_place(|| {
        let dev = Dev::start(&["--catalog", &path]);
        let prints = |args: &[&str], expected: &str| {
            let args: Vec<_> = args.iter().copied().chain(["--tenant", "acme"]).collect();
            dev.toolfleet(&args).exits(0).prints(&[expected]);
        };
        prints(&["resources", "list", "crm"], "note:1");
        prints(&["resources", "templates", "crm"], "note:{n}");
        prints(&["resources", "read", "crm", "note:1"], "the first note");
        prints(&["prompts", "list", "crm"], "greet");
        prints(&["prompts", "get", "crm", "greet", "--arguments", r#"{"who": "Ann"}"#], "Greet Ann.");
        let missing = dev.toolfleet(&["resources", "read", "crm", "note:2", "--tenant", "acme", "--json"]);
        let missing = missing.exits(1).json();
        assert_eq!(
            (&missing["error"]["code"], &missing["error"]["rpc_code"]),
            (&json!("rpc_error"), &json!(-32002)),
            "{missing}"
        );
        dev.toolfleet(&[
            "prompts",
            "get",
            "crm",
            "greet",
            "--arguments",
            r#"{"who": 7}"#,
            "--tenant",
            "acme",
        ])
        .exits(2)
        .complains(&["arguments.arguments", "whose values are texts"]);
    });
}
