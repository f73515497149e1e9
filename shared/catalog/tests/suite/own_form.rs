//! A catalog of any form, written in our own: the same servers and tools, without a secret.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, CatalogSources, LocalEnvironment, OwnForm, Programs};
use toolfleet_core::ids::ServerId;

type Variables = BTreeMap<String, String>;

fn own_form(text: &str) -> OwnForm {
    Catalog::own_form(text, &BTreeMap::new()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn read(text: &str, variables: &Variables) -> Catalog {
    let material = CatalogSources {
        programs: Programs::Allowed,
        tenants: Some(vec!["*".to_owned()]),
        local_environment: Some(LocalEnvironment { variables: variables.clone() }),
        ..CatalogSources::default()
    };
    Catalog::parse_with(text, &material).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// All that a catalog has that can be called.
fn held(catalog: &Catalog) -> Value {
    let servers = catalog.servers().into_iter().map(|server| {
        let headers = server
            .http()
            .map(|http| http.headers.iter().map(|(k, v)| (k.clone(), v.expose().to_owned())).collect());
        json!([&**server, headers.unwrap_or_else(BTreeMap::new)])
    });
    let tools = catalog.tools().into_iter().map(|tool| {
        let functions: Vec<_> =
            tool.functions.iter().map(|f| (f.name.clone(), f.idempotent, f.schema.is_some())).collect();
        json!([
            tool.id,
            tool.description,
            tool.definition.to_string(),
            functions,
            tool.open,
            tool.timeout_ms,
            tool.max_attempts,
            tool.paused,
            tool.access
        ])
    });
    let secrets = catalog
        .written_secrets()
        .iter()
        .map(|secret| (secret.name.clone(), secret.value.expose().to_owned()));
    let secrets: BTreeMap<_, _> = secrets.collect();
    json!([servers.collect::<Vec<_>>(), tools.collect::<Vec<_>>(), secrets])
}

/// The variables that a catalog names, each with a value.
fn named_in(value: &Value, variables: &mut Variables) {
    match value {
        Value::String(text) => {
            for part in text.split("${").skip(1) {
                let inner = part.split('}').next().unwrap();
                let name = inner.split(":-").next().unwrap();
                let name = name.strip_prefix("env:").unwrap_or(name).to_owned();
                let some = if text.starts_with("${") { "https://some.example" } else { "7" };
                variables.entry(name).or_insert_with(|| some.to_owned());
            }
        }
        Value::Array(items) => items.iter().for_each(|item| named_in(item, variables)),
        Value::Object(map) => map.values().for_each(|value| named_in(value, variables)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Both texts give the same servers and tools once the variables are set that the second one names.
fn same(name: &str, text: &str) {
    let own = own_form(text);
    let mut variables = Variables::new();
    named_in(&own.catalog, &mut variables);
    variables.retain(|name, _| {
        !name.starts_with("input:") && own.secrets.iter().all(|moved| moved.variable != *name)
    });
    let before = read(text, &variables);
    for secret in before.written_secrets() {
        let moved = own.secrets.iter().find(|moved| {
            let fits = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
            let field: String = moved.field.chars().map(fits).collect();
            secret.name == format!("toolfleet-dev/{}/{field}", moved.id)
        });
        if let Some(moved) = moved {
            variables.insert(moved.variable.clone(), secret.value.expose().to_owned());
            assert!(!own.catalog.to_string().contains(secret.value.expose()), "{name}: {}", moved.field);
        }
    }
    let after = read(&own.catalog.to_string(), &variables);
    assert_eq!(held(&after), held(&before), "{name}: {}", own.catalog);
    assert_eq!(after.not_executable_servers().count() + after.not_executable_tools().count(), 0, "{name}");
    let again = own_form(&own.catalog.to_string());
    assert_eq!(again.catalog, own.catalog, "{name}: the own form is its own own form");
    assert!(again.left_out.is_empty() && again.secrets.is_empty(), "{name}: {again:?}");
}

#[test]
fn every_form_gives_the_same_servers_and_tools_in_our_own() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut read = 0;
    for folder in [folder.join("configurations"), folder.join("fixtures")] {
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            if Catalog::own_form(&text, &BTreeMap::new()).is_ok() {
                same(&path.display().to_string(), &text);
                read += 1;
            }
        }
    }
    assert!(read >= 26, "{read}");
}

const SECRET: &str = "Zq7hunter2Zq7";

#[test]
fn a_written_secret_becomes_a_variable_of_its_own() {
    let file = json!({"mcpServers": {
        "a": {"command": "x", "args": ["--api-key", SECRET, "--token=Zq7hunter2Zq7", "-H", "Authorization: Bearer Zq7hunter2Zq7", "--port", "8"],
            "env": {"API_KEY": SECRET, "MODE": "fast", "DSN": "postgres://u:Zq7hunter2Zq7@db/x"}},
        "b": {"command": "x", "env": {"API_KEY": "another-Zq7hunter2Zq7", "OTHER_KEY": "${SHARED}"}},
        "c": {"url": "https://c.example/mcp", "headers": {"Authorization": "Bearer Zq7hunter2Zq7", "X-Team": "a", "X-Key": "Zq7hunter2${SHARED}"}},
        "d": {"url": "https://d.example/mcp?api_key=Zq7hunter2Zq7"},
    }});
    let own = own_form(&file.to_string());
    let text = own.catalog.to_string();
    assert!(!text.contains("Zq7hunter2"), "{text}");
    assert!(!format!("{own:?}").contains("Zq7hunter2"), "{own:?}");
    assert_eq!(
        own.catalog["servers"]["a"]["args"],
        json!([
            "--api-key",
            "${A_ARGS_1}",
            "--token=${A_TOKEN}",
            "-H",
            "Authorization: Bearer ${A_AUTHORIZATION}",
            "--port",
            "8"
        ])
    );
    assert_eq!(
        own.catalog["servers"]["a"]["env"],
        json!({"API_KEY": "${API_KEY}", "MODE": "fast", "DSN": "${DSN}"})
    );
    assert_eq!(
        own.catalog["servers"]["b"]["env"],
        json!({"API_KEY": "${B_API_KEY}", "OTHER_KEY": "${SHARED}"})
    );
    assert_eq!(
        own.catalog["servers"]["c"]["headers"],
        json!({"Authorization": "Bearer ${C_AUTHORIZATION}", "X-Team": "a", "X-Key": "${C_X_KEY}"})
    );
    assert_eq!(own.left_out.len(), 1, "{:?}", own.left_out);
    assert_eq!(own.left_out[0].0, "d");
    let fields: Vec<_> = own.secrets.iter().map(|moved| format!("{}.{}", moved.id, moved.field)).collect();
    assert!(fields.contains(&"b.env.API_KEY".to_owned()) && fields.len() == 8, "{fields:?}");
}

#[test]
fn what_needs_a_variable_is_kept_and_what_is_wrong_anyway_is_left_out() {
    let file = json!({"mcpServers": {
        "base": {"url": "${BASE_URL}/mcp"}, "port": {"url": "http://localhost:${PORT}/mcp"}, "ask": {"url": "https://${input:host}/mcp"},
        "else": {"url": "${ELSE:-https://else.example}/${PORT}"}, "both": {"url": "${SCHEME}://${HOST}/mcp"},
        "off": {"url": "https://off.example", "disabled": true}, "nothing": {}
    }});
    let own = own_form(&file.to_string());
    assert_eq!(own.catalog["servers"]["base"]["url"], "${BASE_URL}/mcp");
    assert_eq!(own.catalog["servers"]["port"]["url"], "http://localhost:${PORT}/mcp");
    let left: Vec<_> =
        own.left_out.iter().map(|(id, found)| (id.as_str(), found.is_switched_off())).collect();
    assert_eq!(left, [("ask", false), ("nothing", false), ("off", true)]);
    assert_eq!(own.catalog["tenants"], json!({"queue": ["*"]}));
    assert!(own.remarks.iter().any(|remark| remark.entry == "tenants"), "{:?}", own.remarks);
}

#[test]
fn sections_of_our_own_form_stay() {
    let file = json!({
        "mcpServers": {"a": {"url": "https://a.example/mcp"}},
        "tools": [{"id": "t", "server": "a", "idempotent": true}],
        "tenants": {"queue": ["acme"]}, "pins": {"a/t": {"name": "t"}}, "pika": "secret://pika",
    });
    let own = Catalog::own_form(&file.to_string(), &[("secret://pika".to_owned(), "[]".to_owned())].into())
        .unwrap();
    for section in ["tools", "tenants", "pins", "pika"] {
        assert_eq!(own.catalog[section], file[section], "{section}");
    }
}

#[test]
fn an_unnamed_agent_keeps_its_number_without_those_before_it() {
    let agent = |url: &str| json!({"mcp_url": url, "cognito_user_pool_id": "us-east-1_X", "cognito_client_id": "c", "cognito_username": "u", "cognito_password": SECRET});
    let own = own_form(&json!([agent("nothing"), agent("https://two.example/mcp")]).to_string());
    assert!(!own.catalog.to_string().contains("Zq7"), "{}", own.catalog);
    let variables = own.secrets.iter().map(|moved| (moved.variable.clone(), SECRET.to_owned())).collect();
    let catalog = read(&own.catalog.to_string(), &variables);
    assert!(catalog.server(&ServerId::parse("external-mcp-agent-2").unwrap()).is_some(), "{}", own.catalog);
}

proptest! {
    #[test]
    fn no_secret_of_an_entry_is_ever_printed(
        field in prop::sample::select(vec!["headers", "env"]),
        name in prop::sample::select(vec!["Authorization", "API_KEY", "X-Auth-Token", "GITHUB_TOKEN", "client_secret"]),
        before in prop::sample::select(vec!["", "Bearer ", "Basic ", "Token ", "${A}", "Bearer ${A}", "x "]),
        after in prop::sample::select(vec!["", "${B}", " ", "=="]),
    ) {
        let value = format!("{before}{SECRET}{after}");
        let entry = match field {
            "headers" => json!({"url": "https://h.example/mcp", "headers": {name: value}}),
            _ => json!({"command": "x", "env": {name: value}}),
        };
        for file in [json!({"mcpServers": {"s": entry}}), json!({"servers": {"s": entry}, "tenants": {"queue": ["*"]}})] {
            let own = own_form(&file.to_string());
            prop_assert!(!own.catalog.to_string().contains(SECRET), "{}", own.catalog);
        }
    }
}
