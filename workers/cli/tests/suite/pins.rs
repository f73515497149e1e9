//! `tools approve` and `tools diff`: a plan first, the file only with `--apply`, and what changed line by line.

use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use serde_json::{Value, json};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision};

use crate::run::{Dev, directory, file, toolfleet};

const TOKEN: &str = "token-9f3c5a7712";

fn read(path: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn a_changed_tool_is_shown_until_it_is_approved_again() {
    let dev = Dev::start(&["--no-worker"]);
    let url = dev.ready["mcp_url"].as_str().unwrap();
    let text = format!(
        "{{\"servers\": [{{\"id\":\"demo\",   \"url\": \"{url}\"}}],\n \"tools\": [{{\"id\": \"c\", \"server\": \"demo\", \
         \"name\": \"counter\"}}], \"tenants\": {{\"queue\": [\"*\"]}}}}\n"
    );
    let path = file(&directory("pins"), "catalog.json", &text);
    let tools = |verb: &str, more: &[&str]| {
        let args: Vec<_> = ["tools", verb, "--catalog", &path].iter().chain(more).copied().collect();
        toolfleet(&args)
    };

    tools("diff", &[]).exits(0).prints(&["nothing is pinned"]);
    tools("approve", &["demo/counter"]).exits(0).prints(&["demo/counter: not pinned", "a plan; --apply"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "a plan writes nothing");
    tools("approve", &["demo/counter", "--apply"]).exits(0).prints(&["approved; workers reload the catalog"]);
    let written = std::fs::read_to_string(&path).unwrap();
    let (start, _) = text.rsplit_once('}').unwrap();
    assert!(written.starts_with(start), "what was there stays as it was:\n{written}");
    assert_eq!(read(&path)["pins"]["demo/counter"]["name"], "counter");
    tools("diff", &[]).exits(0).prints(&["demo/counter: as approved"]);
    tools("approve", &["demo/counter", "--apply"]).exits(0).prints(&["nothing to approve"]);

    // The server lists another definition than the approved one.
    let mut catalog = read(&path);
    catalog["pins"]["demo/counter"]["description"] = json!("Something harmless.");
    std::fs::write(&path, catalog.to_string()).unwrap();
    tools("diff", &[]).exits(1).prints(&[
        "demo/counter: changed",
        "- description: \"Something harmless.\"",
        "+ description: ",
    ]);
    let shown = tools("diff", &["--json"]).exits(1).json();
    assert_eq!(shown["tools"][0]["state"], "changed");
    tools("approve", &["--all", "--apply"]).exits(0);
    tools("diff", &[]).exits(0);

    // A tool's own pin is replaced in place.
    catalog.as_object_mut().unwrap().remove("pins");
    catalog["tools"][0]["pin"] = json!(format!("sha256:{}", "0".repeat(64)));
    std::fs::write(&path, catalog.to_string()).unwrap();
    tools("diff", &[]).exits(1).prints(&["demo/counter: changed", "only its digest"]);
    tools("approve", &["demo/counter", "--apply"]).exits(0);
    assert_ne!(read(&path)["tools"][0]["pin"], catalog["tools"][0]["pin"]);
    assert_eq!(read(&path).get("pins"), None);
    tools("diff", &[]).exits(0).prints(&["demo/counter: as approved"]);
}

#[test]
fn a_tool_that_cannot_be_approved_leaves_the_file_unchanged() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "{{\"servers\": [{{\"id\": \"gone\", \"url\": \"http://{free}/mcp\"}}], \"tenants\": {{\"queue\": [\"*\"]}}, \
         \"pins\": {{\"gone/x\": {{\"name\": \"x\"}}}}}}"
    );
    let path = file(&directory("unpinnable"), "catalog.json", &text);
    let approve = |target: &str| toolfleet(&["tools", "approve", "--catalog", &path, "--apply", target]);
    approve("gone/x").exits(2).complains(&["gone/x: cannot be approved", "cannot connect"]);
    approve("other/x").exits(2).complains(&["`other/x` is not SERVER/NAME of a server of the catalog"]);
    toolfleet(&["tools", "diff", "--catalog", &path]).exits(1).prints(&["gone/x: unknown"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

/// Stores the token under that name in the Secrets Manager of a `dev`.
async fn keep(dev: &Dev, name: &str) {
    let endpoint = dev.ready["env"]["AWS_ENDPOINT_URL_SECRETS_MANAGER"].as_str().unwrap();
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("any", "any", None, None, "test"))
        .endpoint_url(endpoint)
        .build();
    let secrets = aws_sdk_secretsmanager::Client::from_conf(config);
    secrets.create_secret().name(name).secret_string(TOKEN).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_a_credential_is_pinned_without_its_secret() {
    let mcp = MockMcp::start(ProtocolRevision::Modern).await;
    mcp.tool("find", |_| json!({ "content": [] })).description("Finds.");
    mcp.tool("echoing", |_| json!({ "content": [] })).description(&format!("Yours is {TOKEN}."));
    let dev = Dev::start(&["--no-worker"]);
    keep(&dev, "crm").await;
    let catalog = json!({
        "servers": [{ "id": "crm", "url": mcp.url(), "auth": { "type": "bearer", "token": "secret://crm" } }],
        "tenants": { "queue": ["*"] },
    });
    let path = file(&directory("credential"), "catalog.json", &catalog.to_string());
    let tools = |verb: &str, more: &[&str]| {
        let args: Vec<_> = ["tools", verb, "--catalog", &path].iter().chain(more).copied().collect();
        let ran = tokio::task::block_in_place(|| dev.toolfleet(&args));
        assert!(!format!("{ran:?}").contains(TOKEN), "{ran:?}");
        ran
    };
    tools("list", &["--live"]).exits(0).prints(&["server crm at", "find", "Finds."]);
    tools("approve", &["crm/find", "--apply"]).exits(0).prints(&["crm/find: not pinned", "approved"]);
    tools("diff", &[]).exits(0).prints(&["crm/find: as approved"]);
    tools("diff", &["crm/echoing"]).exits(0).prints(&["crm/echoing: not listed"]);
    mcp.tool("find", |_| json!({ "content": [] })).description("Finds and deletes.");
    tools("diff", &[]).exits(1).prints(&["crm/find: changed", "+ description: \"Finds and deletes.\""]);
    for asked in mcp.requests_of("tools/list") {
        assert_eq!(asked.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    }
    mcp.always_for(
        "tools/list",
        MockFault::Status { status: 401, headers: Vec::new(), body: format!("not with {TOKEN}") },
    );
    tools("diff", &[]).exits(1).prints(&["crm/find: unknown", "credential"]);
    let elsewhere = catalog.to_string().replace(&mcp.url(), "http://203.0.113.7/mcp");
    std::fs::write(&path, elsewhere).unwrap();
    tools("list", &["--live"]).exits(1).prints(&["203.0.113.7", "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES"]);
    std::fs::write(&path, catalog.to_string().replace("secret://crm", "secret://none")).unwrap();
    tools("list", &["--live"]).exits(1).prints(&["secret `none`"]);
}
