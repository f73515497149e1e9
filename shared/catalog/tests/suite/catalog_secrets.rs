//! Secrets that a catalog writes out, and placeholders, are refused by place and never repeated.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, CatalogSources, Literals, Programs};

use crate::catalog::all_executable;

/// Never in an error.
const SECRET: &str = "Zq7hunter2";

fn parse(catalog: &Value, literals: Literals) -> Result<Catalog, String> {
    let material = CatalogSources { programs: Programs::Allowed, literals, ..CatalogSources::default() };
    all_executable(Catalog::parse_with(&catalog.to_string(), &material))
}

fn server(change: impl Fn(&mut Value)) -> Result<Catalog, String> {
    let mut server = json!({"id": "s", "url": "https://h.example/mcp"});
    change(&mut server);
    parse(&json!({"servers": [server], "tenants": {"queue": ["acme"]}}), Literals::Accepted)
}

fn program(field: &str, value: Value) -> Result<Catalog, String> {
    let mut server = json!({"id": "s", "command": "uvx"});
    server[field] = value;
    parse(&json!({"servers": [server], "tenants": {"queue": ["acme"]}}), Literals::Accepted)
}

fn refused(found: Result<Catalog, String>, place: &str) {
    let error = found.expect_err(place);
    assert!(error.starts_with(&format!("catalog: {place}")), "{error}\n instead of {place}");
    assert!(!error.contains(SECRET), "{error}");
    assert!(
        error.contains("secret://name")
            || error.contains("`auth` or `headers`")
            || error.contains("placeholder"),
        "{error}"
    );
}

#[test]
fn a_header_may_name_a_secret_but_not_write_it_out() {
    for (name, value) in [
        ("Authorization", format!("Bearer {SECRET}")),
        ("authorization", SECRET.to_owned()),
        ("X-API-Key", SECRET.to_owned()),
        ("Cookie", format!("sid={SECRET}")),
        ("X-Auth-Token", SECRET.to_owned()),
        ("X-Team", format!("Bearer {SECRET}")),
        ("X-Link", format!("https://u:{SECRET}@h/")),
        ("Authorization", "Bearer ${env:TOKEN}".to_owned()),
        ("X-Api-Key", "{{KEY}}".to_owned()),
        ("X-Team", "<YOUR_TEAM>".to_owned()),
    ] {
        refused(
            server(|s| s["headers"] = json!({name: value})),
            &format!("servers.s.headers.{name}: holds a "),
        );
        let auth = json!({"type": "headers", "headers": {name: value}});
        refused(server(|s| s["auth"] = auth.clone()), "servers.s.auth");
    }
    for (name, value) in [
        ("Authorization", "Bearer secret://crm#token"),
        ("X-Team", "a"),
        ("Accept-Language", "en, de;q=0.5"),
        ("Idempotency-Key", "fleet"),
    ] {
        server(|s| s["headers"] = json!({name: value})).unwrap();
    }
}

#[test]
fn an_address_that_tells_a_secret_is_refused() {
    for url in [
        format!("https://u:{SECRET}@h.example/mcp"),
        format!("https://h.example/mcp?api_key={SECRET}"),
        format!("https://h.example/mcp?a=b&tavilyApiKey={SECRET}"),
        format!("https://h.example/mcp#token={SECRET}"),
        "https://h.example/${TOKEN}/mcp".to_owned(),
    ] {
        refused(server(|s| s["url"] = json!(url)), "servers.s.url: ");
        let token_url = json!({"type": "oauth2_client_credentials", "client_id": "c", "client_secret": "secret://s", "token_url": url});
        refused(server(|s| s["auth"] = token_url.clone()), "servers.s.auth");
    }
    server(|s| s["url"] = json!("https://h.example/mcp?project=a")).unwrap();
}

#[test]
fn a_placeholder_in_a_credential_is_refused_with_the_remedy() {
    for auth in [
        json!({"type": "bearer", "token": "${TOKEN}"}),
        json!({"type": "bearer", "token": "secret://${NAME}"}),
        json!({"type": "basic", "username": "%USERNAME%", "password": "secret://p"}),
        json!({"type": "oauth2_client_credentials", "client_id": "{{ID}}", "client_secret": "secret://s"}),
        json!({"type": "cognito", "user_pool_id": "<YOUR_POOL>", "client_id": "c", "username": "u", "password": "secret://p"}),
    ] {
        refused(server(|s| s["auth"] = auth.clone()), "servers.s.auth");
    }
}

#[test]
fn a_program_is_told_no_secret_in_its_arguments_or_variables() {
    for (args, at) in [
        (json!(["--token", SECRET]), 1),
        (json!(["-y", format!("--api-key={SECRET}")]), 1),
        (json!(["mcp-remote", "https://h/mcp", "--header", format!("Authorization: Bearer {SECRET}")]), 3),
        (json!([format!("postgresql://app:{SECRET}@db/x")]), 0),
        (json!(["--key", "${input:key}"]), 1),
    ] {
        let error = program("args", args).unwrap_err();
        assert!(error.starts_with(&format!("catalog: servers.s.args[{at}]: holds a ")), "{error}");
        assert!(error.contains("`env`") && !error.contains(SECRET), "{error}");
    }
    for (name, value) in [
        ("GITHUB_TOKEN", SECRET.to_owned()),
        ("DB_PASSWORD", SECRET.to_owned()),
        ("DATABASE_URL", format!("postgres://app:{SECRET}@db/x")),
        ("TOKEN", "${env:TOKEN}".to_owned()),
        ("ANY", "${HOME}".to_owned()),
    ] {
        refused(program("env", json!({name: value})), &format!("servers.s.env.{name}: holds a "));
    }
    program("env", json!({"GITHUB_TOKEN": "secret://git#token", "LANG": "C", "MAX_TOKENS": "100", "TLS_KEY": "/etc/tls.key"})).unwrap();
    program("args", json!(["-c", "echo \"${1}\"; exec server", "child"])).unwrap();
}

fn pika(authentication: Value) -> Value {
    json!([{"toolId": "t", "executionType": "mcp", "url": "https://h.example/mcp", "authentication": authentication}])
}

#[test]
fn imported_secrets_are_refused_in_a_file() {
    let oauth = pika(
        json!({"type": "oauth2-client-credentials", "clientId": "fleet", "clientSecret": SECRET, "tokenUrl": "https://as.example/t"}),
    );
    let headers = pika(json!({"type": "custom-headers", "headers": {"X-API-Key": SECRET}}));
    let older = json!([{"executionType": "mcp", "url": "https://h.example/mcp",
        "auth": {"clientId": "fleet", "clientSecret": SECRET, "tokenUrl": "https://as.example/t"}}]);
    let idp = json!([{"mcp_url": "https://h.example/mcp", "cognito_user_pool_id": "us-east-1_a", "cognito_client_id": "c",
        "cognito_username": "u", "cognito_password": SECRET}]);
    for (section, definition, place) in [
        ("pika", oauth, "pika.t.authentication.clientSecret"),
        ("pika", headers, "pika.t.headers.X-API-Key"),
        ("pika", older, "pika[0].auth.clientSecret"),
        ("idp", idp, "idp[0].cognito_password"),
    ] {
        refused(parse(&definition, Literals::Refused), place);
        let catalog = parse(&definition, Literals::Accepted).unwrap();
        assert!(!format!("{catalog:?}").contains(SECRET), "{place}");
        let inline = json!({section: definition, "tenants": {"queue": ["acme"]}});
        refused(parse(&inline, Literals::Refused), place);
        for (named, accepted) in [("secret://d", true), ("table://d", true), ("d.json", false)] {
            let included = BTreeMap::from([(named.to_owned(), definition.to_string())]);
            let text = json!({section: named, "tenants": {"queue": ["acme"]}}).to_string();
            let read = all_executable(Catalog::parse_with(
                &text,
                &CatalogSources { included, ..CatalogSources::default() },
            ));
            assert_eq!(read.is_ok(), accepted, "{named}: {read:?}");
        }
    }
}

#[test]
fn a_placeholder_is_none_even_in_a_secret() {
    for authentication in [
        json!({"type": "oauth2-client-credentials", "clientId": "${ID}", "clientSecret": "x-1", "tokenUrl": "https://as.example/t"}),
        json!({"type": "oauth2-client-credentials", "clientId": "c", "clientSecret": "${SECRET}", "tokenUrl": "https://as.example/t"}),
        json!({"type": "custom-headers", "headers": {"X-API-Key": "${KEY}"}}),
    ] {
        refused(parse(&pika(authentication), Literals::Accepted), "pika.t");
    }
}

#[test]
fn no_error_of_a_catalog_repeats_a_value() {
    for change in [
        json!({"headers": SECRET}),
        json!({"headers": {"X-Team": [SECRET]}}),
        json!({"timeout_ms": SECRET}),
        json!({"trusted": SECRET}),
        json!({"url": format!("https://u:{SECRET}@ h/")}),
        json!({"url": [SECRET]}),
        json!({"id": format!("{SECRET} x")}),
        json!({"auth": {"type": SECRET}}),
        json!({"client_certificate": SECRET}),
        json!({"progress": SECRET}),
    ] {
        let error =
            server(|s| s.as_object_mut().unwrap().extend(change.as_object().unwrap().clone())).unwrap_err();
        let named_by_id = change.get("id").is_some();
        assert!(named_by_id || !error.contains(SECRET), "{error}");
    }
    for catalog in [
        json!({"servers": SECRET, "tenants": {"queue": ["a"]}}),
        json!({"servers": [], "tools": [{"id": "t", "server": "s", "max_attempts": SECRET}], "tenants": {"queue": ["a"]}}),
        json!({"servers": [], "tools": [{"id": "t", "server": "s", "pin": SECRET}], "tenants": {"queue": ["a"]}}),
        json!({"servers": [], "tenants": {"queue": [format!("{SECRET} x")]}}),
        json!({"servers": [], "tenants": {"queue": ["a"], "sessions": {"a": SECRET}}}),
        json!({"servers": [], "pins": {"s/t": SECRET}, "tenants": {"queue": ["a"]}}),
    ] {
        let error = parse(&catalog, Literals::Refused).unwrap_err();
        assert!(!error.contains(SECRET), "{error}");
    }
}
