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

/// A document whose one operation asks for a scheme, and has the parameter that gives its key.
fn secured(scheme: &Value) -> Value {
    let name = scheme.get("name").cloned().unwrap_or(json!("X-Key"));
    let key = json!({"name": name, "in": "header", "required": true, "schema": {"type": "string"}});
    json!({"openapi": "3.0.4", "info": {"title": "t", "version": "1"}, "servers": [{"url": "https://h.example"}],
        "components": {"securitySchemes": {"s": scheme}},
        "paths": {"/a": {"get": {"operationId": "a", "parameters": [key], "security": [{"s": []}], "responses": {}}}}})
}

#[test]
fn auth_gives_the_security_scheme_of_its_own_header() {
    let header = json!({"type": "apiKey", "in": "header", "name": "X-API-Key"});
    let cookie = json!({"type": "apiKey", "in": "cookie", "name": "sid"});
    let bearer = json!({"type": "http", "scheme": "bearer"});
    let oauth = json!({"type": "oauth2", "flows": {}});
    let key = |name: &str| json!({"type": "api_key", "header": name, "key": "secret://k"});
    let headers = |name: &str| json!({"type": "headers", "headers": {name: "secret://k"}});
    let token = json!({"type": "bearer", "token": "secret://k"});
    for (scheme, auth, gives) in [
        (&header, key("x-api-key"), true),
        (&header, headers("X-Api-Key"), true),
        (&header, key("X-Other"), false),
        (&header, token.clone(), false),
        (&cookie, headers("Cookie"), true),
        (&bearer, token, true),
        (&bearer, json!({"type": "aws_sigv4"}), true),
        (&bearer, key("Authorization"), true),
        (&bearer, key("X-Other"), false),
        (&oauth, headers("X-Other"), false),
    ] {
        let server = json!({"openapi": secured(scheme), "auth": auth});
        let catalog = parse(server.clone(), json!([])).unwrap();
        let found = catalog.not_executable_server(&pets()).map(|found| found.reason.clone());
        assert_eq!(found.is_none(), gives, "{server}: {found:?}");
        if *scheme == header && gives {
            let operation = catalog.server(&pets()).unwrap().openapi().unwrap().interface.operation("a");
            assert!(operation.unwrap().parameters.is_empty(), "the key is the catalog's");
        }
    }
}

const PLACE: &str = "https://api.example/openapi.json";

/// The document of a provider with these operations; `locked` ones ask for a key.
fn provided(operations: &[&str], locked: &[&str]) -> String {
    let operation = |name: &&str| {
        let security = if locked.contains(name) { json!([{"key": []}]) } else { json!([]) };
        (format!("/{name}"), json!({"get": {"operationId": name, "security": security, "responses": {}}}))
    };
    let paths: serde_json::Map<String, Value> = operations.iter().map(operation).collect();
    let key = json!({"type": "apiKey", "in": "header", "name": "X-Key"});
    json!({"openapi": "3.0.4", "info": {"title": "t", "version": "1"}, "servers": [{"url": "/v1"}], "paths": paths,
        "components": {"securitySchemes": {"key": key}}})
    .to_string()
}

/// The catalog with the document as it is now, read after `before`.
fn refreshed(place: &str, server: &Value, document: &str, before: Option<&Catalog>) -> Catalog {
    let mut sources = CatalogSources::default();
    sources.included.insert(place.to_owned(), document.to_owned());
    if let Some(before) = before {
        sources.interfaces = before.known_interfaces();
    }
    Catalog::parse_with(&text(with(server.clone(), json!({"openapi": place})), json!([])), &sources).unwrap()
}

fn names(catalog: &Catalog) -> Vec<String> {
    let server =
        catalog.server(&pets()).unwrap_or_else(|| panic!("{:?}", catalog.not_executable_server(&pets())));
    server.openapi().unwrap().interface.names().map(str::to_owned).collect()
}

fn said(catalog: &Catalog) -> String {
    catalog.remarks().iter().map(|remark| format!("{}: {}\n", remark.entry, remark.text)).collect()
}

#[test]
fn what_a_provider_changes_leaves_the_other_operations_in_use() {
    let server = json!({"include": {"operations": ["a", "b"]}});
    let catalog = refreshed(PLACE, &server, &provided(&["a", "c"], &[]), None);
    assert_eq!(names(&catalog), ["a"]);
    assert!(
        said(&catalog).contains("`include.operations` names `b`, which the document does not have"),
        "{}",
        said(&catalog)
    );
    let catalog = refreshed(PLACE, &json!({}), &provided(&["a", "new"], &["new"]), None);
    assert_eq!(names(&catalog), ["a"]);
    assert!(said(&catalog).contains("`GET /new` asks for the security scheme `key`"), "{}", said(&catalog));
    // A document that belongs to whoever writes the catalog is as strict as the catalog.
    for (server, document) in [
        (json!({"include": {"operations": ["a", "b"]}, "url": "https://h.example"}), provided(&["a"], &[])),
        (json!({"url": "https://h.example"}), provided(&["a", "new"], &["new"])),
    ] {
        let catalog = refreshed("spec.json", &server, &document, None);
        assert!(catalog.not_executable_server(&pets()).is_some(), "{server}");
    }
}

#[test]
fn a_document_that_cannot_be_used_any_more_leaves_what_was_read() {
    let server = json!({"exclude": {"operations": ["b"]}, "url": "https://api.example"});
    for place in [PLACE, "spec.json"] {
        let before = refreshed(place, &server, &provided(&["a", "b"], &[]), None);
        for (document, says) in [
            (provided(&["a", "renamed"], &[]), "`exclude.operations` names with `b`"),
            ("<html>sorry</html>".to_owned(), "`openapi`"),
            (provided(&["b"], &[]), "has no operation that can be called"),
        ] {
            let after = refreshed(place, &server, &document, Some(&before));
            assert_eq!(names(&after), ["a"], "{document}");
            assert!(said(&after).contains(says) && said(&after).contains("stays in use"), "{}", said(&after));
            // It is kept from one version to the next, and the next document that can be used is used.
            let later = refreshed(place, &server, &document, Some(&after));
            assert_eq!(names(&later), ["a"]);
            let mended = refreshed(place, &server, &provided(&["a", "b", "c"], &[]), Some(&later));
            assert_eq!(
                (names(&mended).as_slice(), said(&mended).as_str()),
                (["a".to_owned(), "c".to_owned()].as_slice(), "")
            );
            // Another entry, and a worker that starts, know nothing of it.
            let other = refreshed(
                place,
                &json!({"exclude": {"operations": ["b"]}, "url": "https://other.example"}),
                &document,
                Some(&before),
            );
            assert!(other.not_executable_server(&pets()).is_some());
            assert!(refreshed(place, &server, &document, None).not_executable_server(&pets()).is_some());
        }
    }
}
