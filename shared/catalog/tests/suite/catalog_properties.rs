//! Properties of the catalog's reader over generated texts.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, CatalogSources, Programs};

/// A value that no error may repeat.
const PLANTED: &str = "sk-live-hunter2";

/// Catalogs in several forms.
fn forms() -> impl Strategy<Value = Value> {
    let files = [
        include_str!("../configurations/claude-code.mcp.json"),
        include_str!("../configurations/vscode.mcp.json"),
        include_str!("../configurations/pika-tools.json"),
        include_str!("../fixtures/idp-external-mcp-agents-secret.json"),
        r#"{"servers": [{"id": "s", "url": "https://h/mcp", "headers": {"X-Team": "a"}, "timeout_ms": 5}, {"id": "p", "command": "uvx", "args": ["x"]}],
            "tools": [{"id": "t", "server": "s", "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}, "max_attempts": 3}],
            "pins": {"s/t": {"name": "t"}}, "tenants": {"queue": ["acme"], "senders": {"AROA1": ["acme"]}, "fleet": ["AROA2"]}}"#,
    ];
    let files: Vec<Value> = files.into_iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
    prop::sample::select(files)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(json!(1.5)),
        Just(json!(PLANTED)),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    let names = prop_oneof![
        Just("servers"),
        Just("tools"),
        Just("mcpServers"),
        Just("url"),
        Just("command"),
        Just("id"),
        Just("x")
    ];
    leaf.prop_recursive(3, 16, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((names.clone(), inner), 0..4).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<Value>()),
        ]
    })
}

/// The places in a value, as JSON pointers.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| places(item, &format!("{at}/{i}"), all))
        }
        Value::Object(members) => members.iter().for_each(|(key, item)| {
            places(item, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), all);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn parse(text: &str) -> Result<Catalog, String> {
    let sources = CatalogSources { programs: Programs::Allowed, ..CatalogSources::default() };
    Catalog::parse_with(text, &sources).map_err(|error| error.to_string())
}

/// What a catalog holds, as far as calls depend on it.
fn contents(catalog: &Catalog) -> String {
    let servers: Vec<_> = catalog.servers().iter().map(|server| format!("{server:?}")).collect();
    let tools: Vec<_> =
        catalog.tools().iter().map(|tool| format!("{} {}", tool.id, tool.definition)).collect();
    format!("{servers:?} {tools:?}")
}

/// The same value with the members of its objects in the opposite order.
fn turned(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(turned).collect::<Vec<_>>().join(" , ")),
        Value::Object(members) => {
            let members = members.iter().rev().map(|(key, item)| format!("{}: {}", json!(key), turned(item)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(",\n"))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "\\PC{0,200}|[{}\\[\\]\",:0-9a-z ]{0,80}", value in value()) {
        for text in [text, value.to_string()] {
            if let Err(error) = parse(&text) {
                prop_assert!(!error.is_empty());
            }
            let _any_result = Catalog::references(&text);
        }
    }

    #[test]
    fn a_catalog_with_any_value_anywhere_never_panics(form in forms(), at in any::<prop::sample::Index>(), value in value()) {
        let mut all = Vec::new();
        places(&form, "", &mut all);
        let mut changed = form;
        if let Some(place) = changed.pointer_mut(at.get::<String>(&all)) {
            *place = value;
        }
        if let Ok(catalog) = parse(&changed.to_string()) {
            prop_assert!(contents(&catalog).len() > 2);
        }
    }

    #[test]
    fn no_error_repeats_a_secret_in_the_place_of_a_value(form in forms(), at in any::<prop::sample::Index>()) {
        let mut all = Vec::new();
        places(&form, "", &mut all);
        // Names of servers, tools and tenants, and parts of schemas, are repeated so that an error can be found.
        let is_name = |place: &String| ["/id", "/name", "/server", "/toolId", "/toolName"].iter().any(|name| place.ends_with(name)) || ["tenants", "Schema", "input_schema", "pins"].iter().any(|part| place.contains(part));
        all.retain(|place| !is_name(place));
        let mut changed = form;
        if let Some(place) = changed.pointer_mut(at.get::<String>(&all)) {
            *place = json!(PLANTED);
        }
        if let Err(error) = parse(&changed.to_string()) {
            prop_assert!(!error.contains(PLANTED), "{}", error);
        }
    }

    #[test]
    fn a_server_written_as_an_entry_is_read_back_the_same(form in forms()) {
        if let Ok(catalog) = parse(&form.to_string()) {
            let servers = catalog.servers();
            let entries: Vec<_> = servers.iter().map(|server| serde_json::to_value(&***server).expect("JSON")).collect();
            let again = parse(&json!({"servers": entries, "tenants": {"queue": ["*"]}}).to_string());
            // What is a secret is written as `[redacted]`, so an entry with one written out cannot be read back.
            if let Ok(again) = again {
                prop_assert_eq!(format!("{:?}", again.servers()), format!("{servers:?}"));
            }
        }
    }

    #[test]
    fn the_order_of_keys_does_not_change_what_a_catalog_holds(form in forms()) {
        if let Ok(catalog) = parse(&form.to_string()) {
            let other = parse(&turned(&form)).expect("the same catalog");
            prop_assert_eq!(contents(&catalog), contents(&other));
        }
    }
}
