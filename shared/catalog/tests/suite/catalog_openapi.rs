//! Servers that are HTTP interfaces: their entries, their documents, what of them cannot be called.

use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, CatalogSources, Transport};
use toolfleet_core::ids::{ServerId, ToolId};

const PETSTORE: &str = include_str!("../openapi/petstore-2.0.yaml");

fn text(server: Value, tools: Value) -> String {
    let mut server = server;
    server["id"] = json!("pets");
    json!({"servers": [server, {"id": "other", "url": "https://m.example/mcp"}], "tools": tools, "tenants": {"queue": ["*"]}}).to_string()
}

fn parse(server: Value, tools: Value) -> Result<Catalog, String> {
    let mut sources = CatalogSources::default();
    let text = text(server, tools);
    for name in Catalog::references(&text).unwrap().documents {
        assert_eq!(name, "petstore.yaml");
        sources.included.insert(name, PETSTORE.to_owned());
    }
    Catalog::parse_with(&text, &sources).map_err(|error| error.to_string())
}

fn credentials() -> Value {
    json!({
        "openapi": "petstore.yaml", "headers": {"api_key": "secret://pets"},
        "auth": {"type": "bearer", "token": "secret://token"},
    })
}

fn with(mut server: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        server[name] = value.clone();
    }
    server
}

fn pets() -> ServerId {
    ServerId::parse("pets").unwrap()
}

#[test]
fn an_interface_is_a_server_with_the_operations_of_its_document() {
    let catalog = parse(credentials(), json!([])).unwrap();
    let server = catalog.server(&pets()).unwrap();
    let Transport::OpenApi(openapi) = &server.transport else { panic!("{server:?}") };
    assert_eq!(openapi.interface.names().count(), 10);
    assert_eq!((openapi.http.url.as_str(), server.discover), ("https://petstore.swagger.io/v2", true));
    assert!(server.lists_tools() && !server.is_mcp_endpoint());
    let delete = openapi.interface.operation("deletePet").unwrap();
    assert_eq!(delete.parameters.len(), 1, "the header `api_key` is the catalog's");
    let remarks: Vec<_> = catalog.remarks().iter().map(|remark| remark.text.as_str()).collect();
    assert!(
        remarks[0]
            .starts_with("1 of 11 operations cannot be called: `POST /user/createWithList` has a body in"),
        "{remarks:?}"
    );
    let written = serde_json::to_value(&**server).unwrap();
    assert_eq!(
        (&written["openapi"], &written["url"]),
        (&json!("petstore.yaml"), &json!("https://petstore.swagger.io/v2"))
    );
}

#[test]
fn a_key_in_the_query_is_a_reference_and_belongs_to_an_interface() {
    let keyed = json!({"query": {"api_key": "secret://pets#key", "format": "json"}});
    let catalog = parse(with(credentials(), keyed.clone()), json!([])).unwrap();
    let server = catalog.server(&pets()).unwrap();
    let query = &server.openapi().unwrap().query;
    let values: Vec<_> = query.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(values, [("api_key", "secret://pets#key"), ("format", "json")]);
    assert!(server.secrets().iter().any(|secret| secret.to_string() == "secret://pets#key"));
    let other = parse(credentials(), json!([])).unwrap();
    assert_ne!(other.digest(), catalog.digest(), "another definition");
    let wrong = |server: Value| parse(server, json!([])).unwrap_err();
    let literal = wrong(with(credentials(), json!({"query": {"api_key": "sk-live-0123456789abcdef"}})));
    assert!(literal.contains("query.api_key") && !literal.contains("sk-live"), "{literal}");
    let nameless = wrong(with(credentials(), json!({"query": {"": "x"}})));
    assert!(nameless.contains("has an empty name"), "{nameless}");
    let of_mcp = wrong(with(json!({"url": "https://m.example/mcp"}), keyed));
    assert!(of_mcp.contains("query: belongs to a server with a `openapi`"), "{of_mcp}");
}

#[test]
fn the_address_the_filters_and_the_key_are_the_catalogs() {
    let more = json!({
        "url": "https://mine.example/api", "include": {"tags": ["pet"]}, "exclude": {"operations": ["uploadFile"]},
        "idempotency_key": true, "discover": false,
    });
    let catalog = parse(with(credentials(), more), json!([])).unwrap();
    let server = catalog.server(&pets()).unwrap();
    let openapi = server.openapi().unwrap();
    assert_eq!(
        (openapi.http.url.as_str(), openapi.interface.names().count()),
        ("https://mine.example/api", 6)
    );
    assert_eq!((openapi.idempotency_key.as_deref(), server.discover), (Some("Idempotency-Key"), false));
    let named = with(credentials(), json!({"idempotency_key": "X-Key"}));
    let catalog = parse(named, json!([])).unwrap();
    assert_eq!(catalog.server(&pets()).unwrap().openapi().unwrap().idempotency_key.as_deref(), Some("X-Key"));
}

#[test]
fn a_document_that_cannot_be_used_leaves_the_rest_of_the_catalog() {
    for (server, says) in [
        (
            json!({"openapi": "petstore.yaml"}),
            "`openapi`: the operation `POST /pet` asks for the security scheme `petstore_auth`",
        ),
        (json!({"openapi": "petstore.yaml"}), "set `auth`"),
        (with(credentials(), json!({"exclude": {"tags": ["dog"]}})), "`exclude.tags` names with `dog`"),
        (json!({"openapi": {"openapi": "3.0.0", "paths": {}}}), "give the interface's address as `url`"),
        (json!({"openapi": {"openapi": "9"}, "url": "https://a.example"}), "is OpenAPI `9`"),
        (
            json!({"openapi": {"openapi": "3.0.0", "paths": {}}, "url": "https://a.example"}),
            "has no operation that can be called",
        ),
    ] {
        let catalog = parse(server.clone(), json!([])).unwrap();
        let found = catalog.not_executable_server(&pets()).unwrap_or_else(|| panic!("{server}"));
        assert!(found.reason.contains(says), "{server}: {}", found.reason);
        assert_eq!(found.entry, "servers.pets");
        assert!(catalog.server(&ServerId::parse("other").unwrap()).is_some());
    }
    let catalog = parse(
        json!({"openapi": "petstore.yaml", "include": {"operations": ["placeOrder", "logoutUser"]}}),
        json!([]),
    );
    assert_eq!(catalog.unwrap().server(&pets()).unwrap().openapi().unwrap().interface.names().count(), 2);
}

#[test]
fn a_field_that_does_not_fit_is_an_error_with_its_place() {
    for (server, says) in [
        (
            json!({"openapi": 7}),
            "servers.pets.openapi: is a number; accepted is the place of an OpenAPI document",
        ),
        (json!({"openapi": ""}), "servers.pets.openapi: is empty"),
        (
            with(credentials(), json!({"idempotency_key": 7})),
            "servers.pets.idempotency_key: is neither true, false nor the name",
        ),
        (with(credentials(), json!({"include": {"tag": []}})), "servers.pets.include.tag"),
        (with(credentials(), json!({"command": "npx"})), "is given beside"),
        (
            with(credentials(), json!({"stateless": true})),
            "servers.pets.stateless: belongs to a server with a `command`",
        ),
        (with(credentials(), json!({"url": "ftp://x.example"})), "servers.pets.url: has the scheme `ftp`"),
        (
            json!({"url": "https://x.example", "include": {"tags": ["a"]}}),
            "servers.pets.include: belongs to a server with a `openapi`",
        ),
        (
            json!({"url": "https://x.example", "idempotency_key": true}),
            "servers.pets.idempotency_key: belongs to",
        ),
    ] {
        let error = parse(server.clone(), json!([])).unwrap_err();
        assert!(error.contains(says), "{server}: {error}");
    }
}

#[test]
fn a_single_operation_is_registered_as_a_tool() {
    let tools = json!([
        {"id": "order", "server": "pets", "name": "placeOrder", "idempotent": true},
        {"id": "lost", "server": "pets", "name": "placeOrders"},
    ]);
    let catalog = parse(credentials(), tools).unwrap();
    let tool = catalog.tool(&ToolId::parse("order").unwrap()).unwrap();
    assert!(tool.functions[0].idempotent && tool.functions[0].schema.is_none());
    let lost = catalog.not_executable_tool(&ToolId::parse("lost").unwrap()).unwrap();
    assert!(
        lost.reason.contains("has no operation `placeOrders`") && lost.reason.contains("placeOrder,"),
        "{}",
        lost.reason
    );
}

/// The key of a call is the same for each of its attempts, and the calls of a batch are others at the next attempt.
#[test]
fn an_operation_takes_no_batches() {
    let tool = json!([{"id": "t", "server": "pets", "name": "getPetById", "idempotent": true, "batch": {"argument": "petId"}}]);
    let error = parse(credentials(), tool).unwrap_err();
    assert!(error.contains("tools.t.batch: is set for an operation of an HTTP interface"), "{error}");
}
