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

const SPEC: &str = r#"
openapi: 3.1.0
info: {title: Pets, version: "1"}
servers: [{url: https://pets.example/v1}]
security: [{key: []}]
components: {securitySchemes: {key: {type: apiKey, in: header, name: X-Key}}}
paths:
  /pets:
    get: {operationId: listPets, summary: Lists pets, tags: [read]}
    post: {operationId: makePet, requestBody: {content: {application/xml: {schema: {type: object}}}}}
  /pets/{id}:
    delete: {tags: [write], parameters: [{name: id, in: path, required: true, schema: {$ref: "other.yaml#/Id"}}]}
"#;

#[test]
fn an_openapi_document_is_shown_with_what_is_left_out_and_why() {
    let path = file(&directory("import-openapi"), "pets.yaml", SPEC);
    let ran = toolfleet(&["tools", "import", "openapi", &path]).exits(1);
    ran.prints(&["Pets at https://pets.example/v1 (OpenAPI 3.1.0):", "listPets", "Lists pets"]);
    ran.prints(&["has a body in `application/xml`", "refers to another document (`other.yaml#/Id`)"]);
    assert!(
        ran.stderr.contains("1 operations ask for credentials") || ran.stderr.contains("3 operations"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("set `headers`: {\"X-Key\": \"secret://NAME\"}"), "{}", ran.stderr);
    let machine = toolfleet(&["tools", "import", "openapi", &path, "--json"]).exits(1).json();
    assert_eq!(machine["tools"][0]["name"], "listPets");
    let codes: Vec<_> =
        machine["left_out"].as_array().unwrap().iter().map(|one| one["code"].clone()).collect();
    assert_eq!(codes, ["unsupported_body", "external_ref"]);
    assert_eq!(machine["server"]["id"], "pets");
    let read = [
        "tools",
        "import",
        "openapi",
        &path,
        "--include",
        "tag:read",
        "--url",
        "https://mine.example",
        "--json",
    ];
    let machine = toolfleet(&read).exits(0).json();
    assert_eq!(
        (machine["tools"].as_array().unwrap().len(), &machine["url"]),
        (1, &"https://mine.example/".into())
    );
    assert_eq!(machine["server"]["include"]["tags"][0], "read");
}

#[test]
fn what_is_no_openapi_document_is_named_with_the_remedy() {
    let folder = directory("import-openapi-wrong");
    let path = file(&folder, "pets.yaml", SPEC);
    let other = file(&folder, "other.json", "{}");
    for (arguments, says) in [
        (vec!["openapi"], "SPEC: is missing"),
        (vec![path.as_str(), path.as_str()], "SPEC: belongs to `openapi` alone"),
        (vec!["openapi", other.as_str()], "is no OpenAPI document"),
        (vec!["openapi", path.as_str(), "--exclude", "pets"], "is neither `tag:NAME`"),
        (vec!["openapi", path.as_str(), "--exclude", "tag:cats"], "`exclude.tags` names with `cats`"),
    ] {
        let ran = toolfleet(&[&["tools", "import"], arguments.as_slice()].concat()).exits(2);
        assert!(ran.stderr.contains(says), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn the_operations_of_a_registered_interface_are_listed_live_without_a_request() {
    let folder = directory("list-openapi");
    file(&folder, "pets.yaml", SPEC);
    let catalog = r#"{"servers": [{"id": "pets", "openapi": "pets.yaml", "headers": {"X-Key": "secret://pets"}}], "tenants": {"queue": ["*"]}}"#;
    let catalog = file(&folder, "catalog.json", catalog);
    let ran = toolfleet(&["tools", "list", "--live", "--catalog", &catalog]).exits(0);
    ran.prints(&["server pets at https://pets.example/v1 (OpenAPI) lists:", "listPets"]);
}
