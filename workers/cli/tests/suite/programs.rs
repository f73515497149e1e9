//! Servers that are programs of this machine.

use serde_json::Value;

use crate::run::{Dev, directory, file, toolfleet};

/// A catalog file whose server `files` is the scripted program that the workers' own tests use.
fn catalog_of_a_program(directory: &std::path::Path, more: &Value) -> String {
    let script = include_str!("../../../../shared/testkit/src/child.sh");
    let mut server = serde_json::json!({
        "id": "files", "command": "sh", "args": ["-c", script, "child", directory], "discover": true
    });
    for (field, value) in more.as_object().unwrap() {
        server[field] = value.clone();
    }
    let text = serde_json::json!({
        "servers": [server], "tools": [{"id": "read", "server": "files", "name": "echo"}], "tenants": {"queue": ["*"]}
    });
    file(directory, "catalog.json", &text.to_string())
}

#[test]
fn a_program_is_listed_called_and_stopped_with_the_fleet() {
    let directory = directory("program");
    let catalog = catalog_of_a_program(&directory, &serde_json::json!({}));
    let live = toolfleet(&["tools", "list", "--live", "--catalog", &catalog]).exits(0);
    live.prints(&["server files at `sh` (stdio) lists:", "echo", "pay"]);
    let dev = Dev::start(&["--catalog", &catalog]);
    let called = dev.toolfleet(&["call", "--tenant", "acme", "--tool", "read", "--arguments", "{}"]).exits(0);
    let process: u32 = called.stdout.split(' ').next().unwrap().parse().unwrap();
    assert!(std::fs::exists(format!("/proc/{process}")).unwrap());
    let (code, said) = dev.terminate();
    assert_eq!(code, 0, "{said}");
    let log = std::fs::read_to_string(directory.join("log")).unwrap();
    for started in log.lines().filter_map(|line| line.strip_prefix("start ")) {
        assert!(!std::fs::exists(format!("/proc/{started}")).unwrap(), "{log}");
    }
}

#[test]
fn a_program_that_cannot_be_started_is_reported() {
    let directory = directory("no-program");
    let catalog = catalog_of_a_program(&directory, &serde_json::json!({"command": "/no/such/program"}));
    let live = toolfleet(&["tools", "list", "--live", "--catalog", &catalog]).exits(1);
    live.prints(&["`/no/such/program` (stdio): ", "cannot be started", "No such file"]);
    let secret = serde_json::json!({"env": {"KEY": "secret://key"}});
    let catalog = catalog_of_a_program(&directory, &secret);
    let live = toolfleet(&["tools", "list", "--live", "--catalog", &catalog]).exits(1);
    live.prints(&["`sh` (stdio): ", "secret `key`: no AWS credentials were found"]);
    let catalog = catalog_of_a_program(&directory, &serde_json::json!({"url": "http://127.0.0.1/mcp"}));
    let both = toolfleet(&["tools", "list", "--catalog", &catalog]).exits(2);
    both.complains(&["servers.files.command: is given beside `url`"]);
    let both = toolfleet(&["dev", "--catalog", &catalog]).exits(2);
    both.complains(&["servers.files.command: is given beside `url`"]);
}
