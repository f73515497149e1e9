//! `toolfleet tools import`: a file of another program, printed or written as a catalog.

use serde_json::Value;

use crate::run::{directory, file, toolfleet, toolfleet_within};

const FILE: &str = r#"{"mcpServers": {
    "crm": {"url": "https://crm.example/mcp", "headers": {"Authorization": "Bearer Zq7hunter2Zq7"}},
    "git": {"command": "uvx", "args": ["mcp-server-git", "${REPOSITORY}"]},
    "off": {"url": "https://off.example/mcp", "disabled": true}
}}"#;

#[test]
fn a_file_is_printed_as_a_catalog_without_its_secrets() {
    let path = file(&directory("import"), "mcp.json", FILE);
    let ran = toolfleet(&["tools", "import", &path]).exits(0);
    let catalog: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(catalog["servers"]["crm"]["headers"]["Authorization"], "Bearer ${CRM_AUTHORIZATION}");
    assert_eq!(catalog["servers"]["git"]["args"][1], "${REPOSITORY}");
    assert!(catalog["servers"].get("off").is_none(), "{catalog}");
    assert!(
        ran.stderr.contains("crm.headers.Authorization: holds a secret itself; `${CRM_AUTHORIZATION}`"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("left out: mcpServers.off: is switched off"), "{}", ran.stderr);
    assert!(!format!("{}{}", ran.stdout, ran.stderr).contains("Zq7hunter2"), "{}", ran.stderr);
    let machine = toolfleet(&["tools", "import", &path, "--json"]).exits(0).json();
    assert_eq!(machine["catalog"], catalog);
    assert_eq!(
        (&machine["secrets"][0]["variable"], &machine["left_out"][0]["id"]),
        (&"CRM_AUTHORIZATION".into(), &"off".into())
    );
}

#[test]
fn a_written_catalog_is_listed_and_never_overwritten() {
    let folder = directory("import-out");
    let text = "registry:\n  brave: {image: mcp/brave-search, secrets: [{name: brave.api_key, env: BRAVE_API_KEY}]}\n";
    let path = file(&folder, "catalog.yaml", text);
    let out = folder.join("catalog.json").display().to_string();
    let ran = toolfleet(&["tools", "import", &path, "--out", &out]).exits(0);
    assert_eq!(ran.stdout, "");
    let listed = toolfleet_within(&[("BRAVE_API_KEY", "k")], &["tools", "list", "--catalog", &out]).exits(0);
    listed.prints(&["brave", "`docker` (stdio)", "all it lists"]);
    let again = toolfleet(&["tools", "import", &path, "--out", &out]).exits(2);
    assert!(again.stderr.contains("exists"), "{}", again.stderr);
}

#[test]
fn what_cannot_be_imported_is_told_by_the_exit_code() {
    let folder = directory("import-check");
    let bundle = r#"{"servers": [
        {"server": {"name": "a/ok", "version": "1", "remotes": [{"type": "streamable-http", "url": "https://a.example/mcp"}]}},
        {"server": {"name": "a/bundle", "version": "1", "packages": [{"registryType": "mcpb", "identifier": "https://a.example/x.mcpb"}]}}
    ]}"#;
    let path = file(&folder, "page.json", bundle);
    let ran = toolfleet(&["tools", "import", "--check", &path]).exits(1);
    assert_eq!(ran.stdout, "");
    assert!(
        ran.stderr.contains("left out: servers.a-bundle: `packages[0]` is an MCPB bundle"),
        "{}",
        ran.stderr
    );
    let wrong = file(&folder, "wrong.yaml", "mcpServers:\n  a: {url: x}\n  a: {url: y}\n");
    let ran = toolfleet(&["tools", "import", &wrong]).exits(2);
    assert!(ran.stderr.contains("a key is given twice at line 3 column 3"), "{}", ran.stderr);
    let ran = toolfleet(&["tools", "import", "not-there.json"]).exits(2);
    assert!(ran.stderr.contains("FILE: "), "{}", ran.stderr);
}
