//! Creating, changing and ending sessions.

use serde_json::Value;

use crate::run::{Dev, is_golden};

#[test]
fn a_session_is_planned_created_granted_and_revoked() {
    let dev = Dev::start(&[]);
    let verb = |verb: &'static str, rest: &[&'static str]| {
        let named = ["sessions", verb, "--tenant", "acme", "--session", "s1"];
        dev.toolfleet(&named.into_iter().chain(rest.iter().copied()).collect::<Vec<_>>())
    };
    let end = ["--grant", "echo", "--ends-at", "2100-01-01T00:00:00Z"];
    let planned = verb("create", &end).exits(0);
    planned.complains(&["nothing is changed yet; add --apply"]);
    is_golden("sessions-plan.txt", &planned.stdout);
    verb("show", &[]).exits(3).complains(&["unknown: session s1 of tenant acme was never created"]);
    let all: Vec<_> = end.into_iter().chain(["--apply"]).collect();
    verb("create", &all).exits(0).complains(&["for up to 60 s"]);
    verb("create", &all).exits(2).complains(&["session `s1` exists already", "another id"]);
    is_golden("sessions-show.txt", &verb("show", &[]).exits(0).stdout);

    verb("grant", &["--withdraw", "add"]).exits(2).complains(&["--withdraw: `add` is not granted", "echo"]);
    let granted = verb("grant", &["--grant", "demo/*", "--apply", "--json"]).exits(0).json();
    assert_eq!(
        (&granted["applied"], &granted["changes"][0]["to"]),
        (&Value::Bool(true), &"echo, demo/*".into())
    );
    let call =
        ["call", "--tenant", "acme", "--tool", "echo", "--session", "s1", "--arguments", r#"{"text": "x"}"#];
    assert_eq!(dev.toolfleet(&call).exits(0).stdout, "x\n");

    verb("expire", &["--ends-in", "2h"]).exits(0).complains(&["add --apply"]);
    verb("revoke", &["--apply"]).exits(0);
    let shown = verb("show", &["--json"]).exits(0).json();
    assert_eq!((&shown["state"], &shown["grants"][1]), (&"ended".into(), &"demo/*".into()));
    verb("expire", &["--apply"]).exits(2).complains(&["an end is final"]);
    verb("grant", &["--grant", "add", "--apply"]).exits(2).complains(&["session `s1` ended at"]);
}
