//! Configuration files of other programs as catalogs of `dev --catalog` and `tools list`.

use serde_json::json;
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision};

use crate::run::{Dev, directory, file, toolfleet, toolfleet_within};

const TOKEN: &str = "token-4b1d77c0e2";
const OTHER: &str = "token-90ab12cd34";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_a_clients_file_is_sent_to_its_server_only() {
    let mcp = MockMcp::start(ProtocolRevision::Legacy).await;
    mcp.tool("find", |_| json!({ "content": [{"type": "text", "text": "found"}] }));
    let text = format!(
        "{{ // mine\n \"mcpServers\": {{\"crm\": {{\"type\": \"http\", \"url\": \"{}\", \"headers\": {{\"Authorization\": \"Bearer {TOKEN}\"}},}},}}}}",
        mcp.url()
    );
    let folder = directory("clients-token");
    let (path, data) = (file(&folder, "mcp.json", &text), folder.join("data"));
    let (listed, called, said) = tokio::task::block_in_place(|| {
        let listed = toolfleet(&["tools", "list", "--live", "--catalog", &path]).exits(0);
        let dev = Dev::start(&["--catalog", &path, "--data-dir", &data.display().to_string()]);
        let call =
            ["call", "--json", "--tenant", "acme", "--server", "crm", "--name", "find", "--arguments", "{}"];
        let called = dev.toolfleet(&call).exits(0);
        // Another token in the file is used without a restart.
        std::fs::write(&path, text.replace(TOKEN, OTHER)).unwrap();
        let with_other = |_: &i32| {
            dev.toolfleet(&call).exits(0);
            let sent = mcp.requests_of("tools/call");
            sent.last().is_some_and(|last| last.header("authorization") == Some(&format!("Bearer {OTHER}")))
        };
        assert!((0..200).find(with_other).is_some(), "the changed token is never sent");
        let (code, said) = dev.terminate();
        assert_eq!(code, 0, "{said}");
        (listed, called, said)
    });
    listed.prints(&["server crm at", "find"]);
    listed.complains(&["mcpServers.crm.headers.Authorization: holds a secret itself", "A fleet refuses it"]);
    called.prints(&["found"]);
    assert!(said.contains("secret://toolfleet-dev/crm/headers.Authorization"), "{said}");
    let first = mcp.requests_of("tools/call");
    let first = first.first().and_then(|request| request.header("authorization"));
    assert_eq!(first, Some(format!("Bearer {TOKEN}").as_str()));
    let printed = format!("{listed:?} {called:?} {said}");
    assert!(!printed.contains(TOKEN) && !printed.contains(OTHER), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_credential_is_refused_with_its_variable() {
    let mcp = MockMcp::start(ProtocolRevision::Legacy).await;
    mcp.always_for("tools/list", MockFault::status(401));
    let text = json!({"mcpServers": {"crm": {"url": mcp.url(), "headers": {"Authorization": "Bearer ${CRM_TOKEN}"}}}});
    let path = file(&directory("clients-left-out"), "mcp.json", &text.to_string());
    let ended = tokio::task::block_in_place(|| {
        let dev = Dev::start(&["--catalog", &path]);
        let call =
            ["call", "--json", "--tenant", "acme", "--server", "crm", "--name", "find", "--arguments", "{}"];
        dev.toolfleet(&call).exits(1).json()
    });
    let ended = ended.to_string();
    for expected in
        ["unauthorized", "`headers.Authorization` needs the variable `CRM_TOKEN`, which is not set"]
    {
        assert!(ended.contains(expected), "{ended}");
    }
}

#[test]
fn an_entry_that_cannot_be_called_is_listed_with_its_reason() {
    let text = json!({"mcpServers": {
        "off": {"url": "http://127.0.0.1:9/mcp", "disabled": true},
        "wrong": {"url": "http://127.0.0.1:9/mcp", "type": "ws"},
        "unset": {"url": "https://${CRM_HOST}/mcp"},
        "up": {"url": "http://127.0.0.1:9/mcp"},
    }});
    let path = file(&directory("clients-not-executable"), "mcp.json", &text.to_string());
    let listed = toolfleet(&["tools", "list", "--catalog", &path]).exits(0);
    listed.prints(&[
        "server off",
        "is switched off",
        "server wrong",
        "give an address with wss",
        "needs the variable `CRM_HOST`",
        "all it lists",
    ]);
    let set =
        toolfleet_within(&[("CRM_HOST", "crm.example")], &["tools", "list", "--json", "--catalog", &path]);
    let set = set.exits(0).json();
    assert_eq!(set["not_executable"].as_array().unwrap().len(), 2, "{set}");
    assert!(
        set["servers"].as_array().unwrap().iter().any(|s| s["url"] == "https://crm.example/mcp"),
        "{set}"
    );
    let dev = Dev::start(&["--catalog", &path]);
    let call = |server: &str| {
        dev.toolfleet(&[
            "call",
            "--tenant",
            "acme",
            "--server",
            server,
            "--name",
            "x",
            "--arguments",
            "{}",
            "--json",
        ])
        .exits(1)
        .json()
    };
    for (server, reason) in [
        ("off", "is switched off in the catalog (`disabled: true`)"),
        ("wrong", "give an address with wss"),
        ("unset", "`url` needs the variable `CRM_HOST`, which is not set"),
    ] {
        let ended = call(server).to_string();
        assert!(ended.contains("not_executable") && ended.contains(reason), "{ended}");
    }
    let (_, said) = dev.terminate();
    assert!(said.contains("not_executable") && said.contains("server `unset` cannot be called"), "{said}");
}

#[test]
fn a_file_that_is_no_catalog_is_named_by_every_command() {
    let folder = directory("no-catalog");
    let utf_16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let powershell = folder.join("utf16.json");
    std::fs::write(&powershell, utf_16).unwrap();
    let cases = [
        (file(&folder, "config.toml", "[mcp_servers.x]\ncommand = \"y\"\n"), "Codex's config.toml"),
        (file(&folder, "empty.json", ""), "is empty"),
        (file(&folder, ".env", "TOKEN=abc\n"), "(.env)"),
        (folder.display().to_string(), "is a directory; name the file in it"),
        (powershell.display().to_string(), "is UTF-16"),
    ];
    for (path, expected) in cases {
        for args in [
            vec!["tools", "list", "--catalog", &path],
            vec!["tools", "diff", "--catalog", &path],
            vec!["dev", "--port-base", "0", "--catalog", &path],
        ] {
            toolfleet(&args).exits(2).complains(&[expected]);
        }
    }
}
