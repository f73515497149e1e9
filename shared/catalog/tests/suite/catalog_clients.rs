//! The files of other programs as catalogs: their servers, what cannot be called of them, and what becomes of secrets and placeholders.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, CatalogSources, LocalEnvironment, Programs};
use toolfleet_core::ids::{ServerId, ToolId};

/// Never in what is printed.
const SECRET: &str = "Zq7hunter2";

fn locally(value: &Value) -> Catalog {
    let variables = [("TOKEN", SECRET), ("HOME", "/home/u"), ("workspaceFolder", "/home/me")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    read(value, Some(LocalEnvironment { variables }))
}

fn in_fleet(value: &Value) -> Catalog {
    read(value, None)
}

fn read(value: &Value, local_environment: Option<LocalEnvironment>) -> Catalog {
    let material = CatalogSources {
        programs: Programs::Allowed,
        tenants: Some(vec!["*".to_owned()]),
        local_environment,
        ..CatalogSources::default()
    };
    Catalog::parse_with(&value.to_string(), &material).unwrap_or_else(|error| panic!("{value}: {error}"))
}

fn server(catalog: &Catalog, id: &str) -> Value {
    let server = catalog.server(&ServerId::parse(id).unwrap()).unwrap_or_else(|| panic!("{id}: {catalog:?}"));
    serde_json::to_value(&**server).unwrap()
}

fn reason(catalog: &Catalog, id: &str) -> String {
    let id = ServerId::parse(id).unwrap();
    assert!(catalog.server(&id).is_none(), "{id}");
    catalog.not_executable_server(&id).unwrap_or_else(|| panic!("{id}: {catalog:?}")).reason.clone()
}

fn one(fields: Value) -> Value {
    json!({"mcpServers": {"s": fields}})
}

#[test]
fn every_products_map_of_servers_is_taken() {
    let http = json!({"url": "https://h.example/mcp"});
    let program = json!({"command": "uvx", "args": ["x"], "env": {"A": "b"}});
    for file in [
        json!({"mcpServers": {"s": http}}),
        json!({"mcpServers": {"s": {"type": "http", "url": "https://h.example/mcp"}}}),
        json!({"mcpServers": {"s": {"type": "streamableHttp", "url": "https://h.example/mcp"}}}),
        json!({"mcpServers": {"s": {"serverUrl": "https://h.example/mcp"}}}),
        json!({"mcpServers": {"s": {"httpUrl": "https://h.example/mcp", "trust": true}}}),
        json!({"mcpServers": [{"name": "s", "url": "https://h.example/mcp"}]}),
        json!({"servers": {"s": http}, "inputs": []}),
        json!({"servers": {"s": http}}),
        json!({"mcp": {"servers": {"s": http}, "inputs": []}, "editor.fontSize": 12}),
        json!({"mcp": {"s": {"type": "remote", "url": "https://h.example/mcp", "enabled": true}}, "agent": {"x": {}}}),
        json!({"context_servers": {"s": http}, "agent": {"enabled": true}}),
        json!({"s": {"url": "https://h.example/mcp", "transport": "streamable_http"}}),
        json!({"mcpServers": {"s": {"command": "uvx", "args": ["x"], "env": {"A": "b"}, "type": "stdio"}}}),
        json!({"mcp": {"s": {"type": "local", "command": ["uvx", "x"], "environment": {"A": "b"}}}}),
        json!({"context_servers": {"s": {"source": "custom", "command": {"path": "uvx", "args": ["x"], "env": {"A": "b"}}}}}),
        json!({"s": {"command": "uvx", "args": ["x"], "env": {"A": "b"}, "transport": "stdio"}}),
        json!({"mcpServers": {"s": {"command": "uvx x", "env": {"A": "b"}}}}),
    ] {
        let catalog = in_fleet(&file);
        let found = server(&catalog, "s");
        assert_eq!(found["discover"], true, "{file}");
        if found["command"].is_null() {
            assert_eq!(found["url"], http["url"], "{file}");
        } else {
            let seen = json!({"command": found["command"], "args": found["args"], "env": found["env"]});
            assert_eq!(seen, program, "{file}");
        }
    }
}

#[test]
fn unused_fields_of_an_entry_are_named() {
    let catalog = in_fleet(&json!({"mcpServers": {
        "s": {"url": "https://h.example/mcp", "autoApprove": ["a"], "colour": 1, "timeout": 45},
        "slow": {"url": "https://h.example/mcp", "timeout": 120_000},
        "few": {"url": "https://h.example/mcp", "includeTools": ["a", "b"], "excludeTools": ["b"]},
        "all": {"url": "https://h.example/mcp", "tools": ["*"]},
    }, "theme": "dark"}));
    assert_eq!(
        (server(&catalog, "s")["timeout_ms"].clone(), server(&catalog, "slow")["timeout_ms"].clone()),
        (json!(45_000), json!(120_000))
    );
    let said: Vec<String> = catalog.remarks().iter().map(|r| format!("{}: {}", r.entry, r.text)).collect();
    for expected in [
        "mcpServers.s.autoApprove: is not used",
        "mcpServers.s.colour: is not used",
        "mcpServers.s.timeout: is read as 45 seconds",
        "mcpServers.slow.timeout: is read as 120000 milliseconds",
        "the file: has settings that are not used here: `theme`",
    ] {
        assert!(said.iter().any(|line| line.starts_with(expected)), "{expected}: {said:?}");
    }
    let few = ServerId::parse("few").unwrap();
    let of = |name: &str| catalog.tool_on(&few, name).map(|tool| tool.paused);
    assert_eq!((of("a"), of("b"), of("c")), (Some(false), Some(true), None));
    assert_eq!(
        (server(&catalog, "few")["discover"].clone(), server(&catalog, "all")["discover"].clone()),
        (json!(false), json!(true))
    );
}

#[test]
fn an_entry_that_cannot_be_called_leaves_the_others() {
    for (fields, expected) in [
        (json!({"url": "https://h.example/mcp", "disabled": true}), "switched off"),
        (json!({"url": "https://h.example/mcp", "enabled": false}), "switched off"),
        (json!({"url": "https://h.example/mcp", "isActive": false}), "switched off"),
        (json!({"command": "uvx", "type": "sse"}), "`url` is missing"),
        (json!({"url": "https://h.example/mcp", "type": "websocket"}), "give an address with wss"),
        (json!({"url": "wss://h.example/mcp", "type": "sse"}), "the scheme `wss`, which is WebSocket's"),
        (
            json!({"url": "https://h.example/mcp", "type": "carrier-pigeon"}),
            "accepted are `http`, `sse`, `websocket` and `stdio`",
        ),
        (json!({"url": "no address"}), "`url`"),
        (json!({"url": "https://h.example/mcp?api_key=abc"}), "carries a secret in `api_key`"),
        (json!({"type": "stdio", "url": "https://h.example/mcp"}), "`command` is missing"),
        (json!({"command": "uvx", "url": "https://h.example/mcp"}), "has both"),
        (json!({"settings": {}}), "neither `url` nor `command`"),
        (json!({"command": "uvx", "envFile": ".env"}), "`envFile`"),
        (json!({"command": "uvx", "args": ["--token", SECRET]}), "holds a secret itself"),
        (json!({"command": "uvx", "env": {"TOKEN": SECRET}}), "`env.TOKEN` holds a secret itself"),
        (
            json!({"url": "https://h.example/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}}),
            "placeholder",
        ),
        (json!({"url": "https://h.example/mcp", "includeTools": "a"}), "`includeTools`"),
        (json!("uvx"), "is a text; accepted is an object"),
    ] {
        let file = json!({"mcpServers": {"bad": fields, "good": {"url": "https://h.example/mcp"}}});
        let catalog = in_fleet(&file);
        let found = reason(&catalog, "bad");
        assert!(found.contains(expected) && !found.contains(SECRET), "{fields}: {found}");
        server(&catalog, "good");
    }
}

#[test]
fn names_become_ids_that_stay_apart() {
    let http = json!({"url": "https://h.example/mcp"});
    let catalog = in_fleet(
        &json!({"mcpServers": {"@acme/My Server": http, "acme-My-Server": http, "ü": http, "plain": http}}),
    );
    let ids: Vec<_> = catalog.servers().iter().map(|s| (s.id.to_string(), s.name.clone())).collect();
    let of = |id: &str, name: Option<&str>| (id.to_owned(), name.map(str::to_owned));
    assert_eq!(
        ids,
        [
            of("acme-My-Server", Some("@acme/My Server")),
            of("acme-My-Server-2", Some("acme-My-Server")),
            of("plain", None),
            of("server", Some("ü"))
        ]
    );
}

#[test]
fn locally_a_written_secret_becomes_a_reference() {
    let own = json!({"servers": [
        {"id": "h", "url": "https://h.example/mcp", "headers": {"Authorization": format!("Bearer {SECRET}"), "X-Team": "a"}},
        {"id": "p", "command": "uvx", "env": {"API_KEY": SECRET, "FROM": "${TOKEN}", "TOKEN": "${TOKEN}", "HOME2": "${HOME}"}},
        {"id": "o", "url": "https://h.example/mcp", "auth": {"type": "oauth2_client_credentials", "client_id": "c", "client_secret": SECRET}},
    ]});
    let mut catalog = locally(&own);
    let of = |id: &str, pointer: &str| server(&catalog, id).pointer(pointer).cloned();
    assert_eq!(of("h", "/headers/X-Team"), Some(json!("[redacted]")), "headers do not print");
    assert_eq!(of("p", "/env/API_KEY"), Some(json!("secret://toolfleet-dev/p/env.API_KEY")));
    assert_eq!(of("p", "/env/HOME2"), Some(json!("/home/u")));
    assert_eq!(of("o", "/auth/client_secret"), Some(json!("secret://toolfleet-dev/o/auth.client_secret")));
    let header =
        catalog.server(&ServerId::parse("h").unwrap()).unwrap().http().unwrap().headers["Authorization"]
            .clone();
    assert_eq!(header.expose(), "Bearer secret://toolfleet-dev/h/headers.Authorization");
    let remarks: Vec<_> = catalog.remarks().iter().map(|r| format!("{}: {}", r.entry, r.text)).collect();
    assert!(
        remarks.iter().any(|line| line.starts_with("servers.h.headers.Authorization: holds a secret itself")),
        "{remarks:?}"
    );
    let printed = format!("{catalog:?} {remarks:?}");
    let written: BTreeMap<_, _> =
        catalog.take_written_secrets().into_iter().map(|w| (w.name, w.value.expose().to_owned())).collect();
    assert_eq!(written["toolfleet-dev/h/headers.Authorization"], SECRET);
    assert_eq!(written["toolfleet-dev/p/env.TOKEN"], SECRET);
    assert!(!printed.contains(SECRET), "{printed}");
}

#[test]
fn locally_what_cannot_be_filled_in_is_left_out_or_in_the_way() {
    let catalog = locally(&json!({"servers": {
        "h": {"url": "https://h.example/mcp", "headers": {"Authorization": "Bearer ${MISSING}", "X-Key": "${input:key}", "X-Team": "${MISSING:-a}"}},
        "u": {"url": "https://${MISSING}/mcp"},
        "a": {"command": "uvx", "args": ["${MISSING}"]},
        "w": {"command": "uvx", "args": ["${workspaceFolder}/x"], "cwd": "${workspaceFolder}"},
        "here": {"command": "./serve", "cwd": "sub"},
        "own": {"command": "npx", "args": ["mcp-remote", "https://h/", "--header", "Authorization:${AUTH}"], "env": {"AUTH": "Bearer ${TOKEN}"}},
        "shell": {"command": "bash", "args": ["-c", "for i in 1; do echo ${i}; done"]},
    }, "inputs": [{"id": "key", "type": "promptString"}]}));
    let headers = catalog.server(&ServerId::parse("h").unwrap()).unwrap().http().unwrap().headers.clone();
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["X-Team"]);
    let remarks: Vec<_> = catalog.remarks().iter().map(|r| format!("{}: {}", r.entry, r.text)).collect();
    for expected in [
        "servers.h.headers.Authorization: needs the variable `MISSING`, which is not set; it is left out",
        "servers.h.headers.X-Key: needs the input `key`",
    ] {
        assert!(remarks.iter().any(|line| line.starts_with(expected)), "{remarks:?}");
    }
    assert_eq!(reason(&catalog, "u"), "`url` needs the variable `MISSING`, which is not set");
    assert_eq!(reason(&catalog, "a"), "`args[0]` needs the variable `MISSING`, which is not set");
    assert_eq!(server(&catalog, "w")["args"], json!(["/home/me/x"]));
    assert_eq!(server(&catalog, "here")["cwd"], "/home/me/sub");
    assert_eq!(server(&catalog, "here")["command"], "/home/me/./serve");
    assert_eq!(server(&catalog, "own")["args"][3], "Authorization:${AUTH}", "the program fills it in itself");
    server(&catalog, "shell");
}

#[test]
fn an_uncallable_server_does_not_refuse_the_catalog() {
    let catalog = locally(&json!({
        "servers": [{"id": "s", "url": "https://${MISSING}/mcp"}, {"id": "off", "url": "https://h/mcp", "disabled": true}],
        "tools": [{"id": "t", "server": "s"}, {"id": "u", "server": "off"}],
        "pins": {"s/t": {"name": "t"}},
        "tenants": {"queue": ["*"]},
    }));
    let of = |id: &str| catalog.not_executable_tool(&ToolId::parse(id).unwrap()).unwrap().reason.clone();
    assert!(of("t").contains("its server `s` cannot be called: `url` needs the variable"), "{}", of("t"));
    assert!(of("u").contains("is switched off in the catalog (`disabled: true`)"), "{}", of("u"));
    assert!(catalog.tools().is_empty() && catalog.pinned().is_empty());
}

#[test]
fn our_own_form_keeps_its_strictness_in_a_fleet() {
    for (server, expected) in [
        (
            json!({"url": "https://h/mcp", "headers": {"Authorization": "Bearer abc"}}),
            "servers.s.headers.Authorization: holds a secret",
        ),
        (
            json!({"url": "https://h/mcp", "headers": {"X": "${X}"}}),
            "servers.s.headers.X: holds a placeholder",
        ),
        (json!({"url": "https://h/mcp", "colour": 1}), "unknown field `colour`"),
        (json!({"id": "other", "url": "https://h/mcp"}), "servers.s.id: differs from the key"),
    ] {
        let text = json!({"servers": {"s": server}, "tenants": {"queue": ["a"]}}).to_string();
        let error = Catalog::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let text = json!({"servers": {"s": {"url": "https://h/mcp", "type": "http", "disabled": false, "autoApprove": [], "icon": "x"}},
        "tenants": {"queue": ["a"]}});
    assert_eq!(Catalog::parse(&text.to_string()).unwrap().servers().len(), 1);
}

#[test]
fn comments_and_trailing_commas_are_accepted() {
    let text = "\u{feff}// mine\n{\"pika\": \"tools.json\", \"tenants\": {\"queue\": [\"*\"],},}";
    assert_eq!(Catalog::references(text).unwrap().sections, ["tools.json"]);
    let pika =
        "[ // one\n {\"toolId\": \"t\", \"executionType\": \"mcp\", \"url\": \"https://h.example/mcp\",},]";
    let included = BTreeMap::from([("tools.json".to_owned(), pika.to_owned())]);
    let catalog =
        Catalog::parse_with(text, &CatalogSources { included, ..CatalogSources::default() }).unwrap();
    assert_eq!(catalog.tools().len(), 1);
    let error = Catalog::parse("{\n// c\n\"servers\": [oops],\n}").unwrap_err().to_string();
    assert!(error.contains("line 3 column"), "{error}");
}

#[test]
fn a_file_of_another_kind_is_named_with_what_to_do() {
    for (text, expected) in [
        ("", "the text: is empty"),
        ("[mcp_servers.x]\ncommand = \"y\"\n", "Codex"),
        ("{\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"x\"}}]}", "OpenAI"),
        ("[{\"name\": \"x\", \"input_schema\": {}}]", "Anthropic"),
        ("{\"openapi\": \"3.0.0\", \"info\": {}, \"paths\": {}}", "OpenAPI"),
        ("{\"name\": \"x\", \"version\": \"1\", \"scripts\": {}}", "package.json"),
        ("[{\"id\": \"a\", \"url\": \"https://h/mcp\"}]", "put it under `servers`"),
        ("{}", "servers: is missing"),
        ("7", "is a number; accepted is an object"),
    ] {
        let error = Catalog::parse(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let one = one(json!({"url": "https://h/mcp"}));
    assert_eq!(in_fleet(&one).servers().len(), 1);
}
