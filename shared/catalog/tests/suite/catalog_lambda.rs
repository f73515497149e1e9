//! Servers that are Lambda functions: what a catalog may say of them, and what it may not.

use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, LambdaPayload};
use toolfleet_core::ids::ServerId;

const ARN: &str = "arn:aws:lambda:eu-west-1:123456789012:function:orders:live";

fn parse(server: Value) -> Result<Catalog, String> {
    with_tool(server, json!({"id": "t", "server": "s"}))
}

fn with_tool(server: Value, tool: Value) -> Result<Catalog, String> {
    let text = json!({"servers": [server], "tools": [tool], "tenants": {"queue": ["acme"]}});
    Catalog::parse(&text.to_string()).map_err(|error| error.to_string())
}

fn function() -> Value {
    json!({"id": "s", "lambda": ARN, "payload": "arguments", "timeout_ms": 60000, "limits": {"rate": "5/s"}})
}

fn with(field: &str, value: Value) -> Value {
    let mut server = function();
    server[field] = value;
    server
}

#[test]
fn a_function_is_a_server_with_its_arn_in_the_place_of_a_url() {
    for (word, payload) in [
        ("bedrock", LambdaPayload::Bedrock),
        ("arguments", LambdaPayload::Arguments),
        ("mcp", LambdaPayload::Mcp),
        ("api-gateway", LambdaPayload::ApiGateway),
    ] {
        let catalog = parse(with("payload", json!(word))).unwrap();
        let server = catalog.server(&ServerId::parse("s").unwrap()).unwrap();
        let lambda = server.lambda().unwrap();
        assert_eq!((lambda.function.as_str(), lambda.function.region()), (ARN, "eu-west-1"));
        assert_eq!((lambda.payload, server.timeout_ms), (payload, Some(60_000)));
        assert!(!server.is_mcp_endpoint());
        assert_eq!(server.lists_tools(), ["mcp", "api-gateway"].contains(&word), "{word}");
    }
}

#[test]
fn a_durable_function_is_named_with_a_version_or_an_alias() {
    let durable = |arn: &str| {
        let mut server = with("durable", json!(true));
        server["lambda"] = json!(arn);
        parse(server)
    };
    let plain = ARN.strip_suffix(":live").unwrap();
    let error = durable(plain).unwrap_err();
    assert!(
        error.contains("servers.s.lambda") || error.contains("lambda: names no version or alias"),
        "{error}"
    );
    assert!(error.contains("`:$LATEST`"), "{error}");
    for arn in [ARN.to_owned(), format!("{plain}:7"), format!("{plain}:$LATEST")] {
        assert!(durable(&arn).is_ok(), "{arn}");
    }
}

#[test]
fn a_server_is_serialised_as_the_entry_that_it_was_read_from() {
    let mut entry = function();
    entry["role_arn"] = json!("arn:aws:iam::210987654321:role/tools/invoke");
    entry["external_id"] = json!("fleet-7");
    entry["target_name"] = json!("orders");
    let catalog = parse(entry.clone()).unwrap();
    let written = serde_json::to_value(catalog.servers()[0].as_ref()).unwrap();
    for (field, value) in entry.as_object().unwrap().iter().filter(|(field, _)| *field != "limits") {
        assert_eq!(&written[field], value, "{field}");
    }
}

#[test]
fn another_function_or_form_is_another_definition() {
    let definition = |server| parse(server).unwrap().tools()[0].definition.clone();
    assert_eq!(definition(function()), definition(function()));
    assert_ne!(definition(function()), definition(with("payload", json!("bedrock"))));
    assert_ne!(definition(function()), definition(with("lambda", json!(format!("{ARN}2")))));
}

#[test]
fn a_functions_mistake_names_the_field_and_the_remedy() {
    let role = "arn:aws:iam::210987654321:role/invoke";
    let cases = [
        (with("lambda", json!("orders")), "servers.s.lambda: is missing or no ARN of a function"),
        (with("payload", Value::Null), "servers.s.payload: is missing; accepted are bedrock, arguments"),
        (with("payload", json!("rest")), "servers.s.payload: is `rest`; accepted are bedrock"),
        (with("url", json!("https://h.example/mcp")), "servers.s.lambda: is given beside `url`"),
        (with("command", json!("uvx")), "servers.s.lambda: is given beside `command`"),
        (with("args", json!(["x"])), "servers.s.args: belongs to a server with a `command`"),
        (with("headers", json!({"X": "y"})), "servers.s.headers: belongs to a server with a `url`"),
        (with("auth", json!({"type": "aws_sigv4"})), "the workers' own role invokes a function"),
        (with("discover", json!(true)), "servers.s.discover: needs a list of tools"),
        (with("target_name", json!("a b")), "servers.s.target_name: is not 1 to 100 of"),
        (with("role_arn", json!("invoke")), "servers.s.role_arn: is no ARN of a role"),
        (with("external_id", json!("x7")), "servers.s.external_id: is given without the `role_arn`"),
        (with("qualifier", json!("live")), "unknown field `qualifier`"),
        (
            json!({"id": "s", "lambda": ARN, "payload": "mcp", "role_arn": role, "external_id": "a b"}),
            "servers.s.external_id: is not 2 to 1224",
        ),
        (
            json!({"id": "s", "url": "https://h.example/mcp", "role_arn": role}),
            "servers.s.role_arn: belongs to a server with a `lambda`; this one has a `url`",
        ),
    ];
    for (server, expected) in cases {
        let error = parse(server).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn pins_and_discovery_need_a_payload_with_a_list_of_tools() {
    let pin = format!("sha256:{}", "a".repeat(64));
    let tool = json!({"id": "t", "server": "s", "pin": pin});
    let error = with_tool(function(), tool.clone()).unwrap_err();
    assert!(
        error.contains("tools.t.pin: pins a tool of `s`, a function whose payload has no list"),
        "{error}"
    );
    for word in ["mcp", "api-gateway"] {
        let mut server = with("payload", json!(word));
        server["discover"] = json!(true);
        let catalog = with_tool(server, tool.clone()).unwrap();
        assert_eq!(catalog.pinned().len(), 1, "{word}");
    }
}

/// A durable execution has the name of one call: another batch under that name is refused by Lambda, whatever its calls.
#[test]
fn a_durable_function_takes_no_batches() {
    for (durable, refused) in [(true, true), (false, false)] {
        let tool = json!({"id": "t", "server": "s", "idempotent": true, "batch": {"argument": "city"}});
        let error = with_tool(with("durable", json!(durable)), tool).err();
        assert_eq!(error.is_some(), refused, "{error:?}");
        assert!(
            error
                .is_none_or(|error| error.contains("tools.t.batch: is set for a tool of a durable function"))
        );
    }
}
