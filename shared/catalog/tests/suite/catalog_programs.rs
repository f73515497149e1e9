//! Servers that are programs: what a catalog may say of them, and what it may not.

use serde_json::{Value, json};
use toolfleet_catalog::{Catalog, CatalogSources, Programs};
use toolfleet_core::ids::ServerId;

fn parse(server: Value, programs: Programs) -> Result<Catalog, String> {
    let text =
        json!({"servers": [server], "tools": [{"id": "t", "server": "s"}], "tenants": {"queue": ["acme"]}});
    let material = CatalogSources { programs, ..CatalogSources::default() };
    Catalog::parse_with(&text.to_string(), &material).map_err(|error| error.to_string())
}

fn program() -> Value {
    json!({
        "id": "s", "command": "uvx", "args": ["mcp-server-git"], "cwd": "/srv",
        "env": {"TOKEN": "secret://git#token", "LANG": "C"}, "timeout_ms": 60000, "trusted": true
    })
}

#[test]
fn a_program_is_a_server_with_a_command_in_the_place_of_a_url() {
    let catalog = parse(program(), Programs::Allowed).unwrap();
    let server = catalog.server(&ServerId::parse("s").unwrap()).unwrap();
    let program = server.stdio().unwrap();
    assert_eq!(program.command, "uvx");
    assert!(program.env["TOKEN"].secret.is_some() && server.trusted);
}

#[test]
fn another_command_is_another_definition() {
    let definition = |server| parse(server, Programs::Allowed).unwrap().tools()[0].definition.clone();
    let mut other = program();
    other["args"] = json!(["mcp-server-time"]);
    assert_eq!(definition(program()), definition(program()));
    assert_ne!(definition(program()), definition(other));
}

#[test]
fn a_programs_mistake_names_the_field_and_no_value() {
    let with = |field: &str, value: Value| {
        let mut server = program();
        server[field] = value;
        server
    };
    let url = "http://127.0.0.1/mcp";
    let cases = [
        (
            json!({"id": "s"}),
            "servers.s.url: is missing; give `url` (streamable HTTP, or ws:// and wss:// for WebSocket), `command`",
        ),
        (with("url", json!(url)), "servers.s.command: is given beside `url`"),
        (
            json!({"id": "s", "url": url, "args": ["x"]}),
            "servers.s.args: belongs to a server with a `command`",
        ),
        (
            json!({"id": "s", "url": url, "env": {"A": "b"}}),
            "servers.s.env: belongs to a server with a `command`",
        ),
        (json!({"id": "s", "url": url, "cwd": "/"}), "servers.s.cwd: belongs to a server with a `command`"),
        (
            json!({"id": "s", "url": url, "stateless": true}),
            "servers.s.stateless: belongs to a server with a `command`",
        ),
        (
            json!({"id": "s", "url": url, "start_timeout_ms": 1}),
            "servers.s.start_timeout_ms: belongs to a server with a `command`",
        ),
        (with("start_timeout_ms", json!(0)), "servers.s.start_timeout_ms: is not from 1 to 3600000"),
        (with("command", json!(" ")), "servers.s.command: is no program"),
        (with("command", json!(["uvx"])), "servers.s.command: is not what it should be; expected a string"),
        (with("args", json!(["--token", "secret://git"])), "servers.s.args[1]: names a secret"),
        (with("env", json!({"A=B": "sk-live"})), "servers.s.env.A=B: is not a name"),
        (with("env", json!({"A": "sk-live\u{0}"})), "servers.s.env.A: has a NUL"),
        (with("env", json!({"A": "secret://"})), "servers.s.env.A: is no whole reference"),
        (with("env", json!({"A": 7})), "servers.s.env.A: is not a text"),
        (with("cwd", json!("here")), "servers.s.cwd: is not a whole path"),
        (with("headers", json!({"X": "sk-live"})), "servers.s.headers: belongs to a server with a `url`"),
        (
            with("auth", json!({"type": "bearer", "token": "secret://t"})),
            "servers.s.auth: belongs to a server",
        ),
        (with("timeout_ms", json!(0)), "servers.s.timeout_ms: is 0"),
        (with("shell", json!(true)), "unknown field `shell`"),
    ];
    for (server, expected) in cases {
        let error = parse(server, Programs::Allowed).expect_err(expected);
        assert!(error.contains(expected) && !error.contains("sk-live"), "{error}");
    }
}

#[test]
fn a_program_where_none_is_allowed_is_refused() {
    let error = parse(program(), Programs::Refused).unwrap_err();
    assert!(error.starts_with("catalog: servers.s.command: starts a program"), "{error}");
    assert!(error.contains("TOOLFLEET_ALLOW_STDIO=true"), "{error}");
}
