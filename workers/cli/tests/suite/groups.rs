//! Groups on the command line: shown, waited for, cancelled, and sent again.

use serde_json::{Value, json};

use crate::run::{Dev, Ran, directory, file};

fn member(id: &str, index: u32, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"v":1,"call_id":"{id}","tenant":"demo","tool":"{tool}","arguments":{arguments},"group":{{"id":"turn","index":{index},"size":2}}}}"#
    )
}

fn send(dev: &Dev, body: &str) {
    dev.toolfleet_with(&["send", "--body", "-"], body).exits(0);
}

fn group(dev: &Dev, verb: &str, more: &[&str]) -> Ran {
    let args: Vec<&str> = ["group", verb, "turn", "--tenant", "demo"].iter().chain(more).copied().collect();
    dev.toolfleet(&args)
}

#[test]
fn a_group_is_waited_for_shown_and_what_failed_is_sent_again() {
    let dev = Dev::start(&[]);
    group(&dev, "show", &[])
        .exits(3)
        .complains(&["nothing is known of group demo/turn", "check tenant, id and --round"]);
    let bodies = [member("a", 0, "add", r#"{"a":1,"b":2}"#), member("b", 1, "add", r#"{"a":1}"#)];
    send(&dev, &bodies[0]);
    let path = directory("groups");
    let requests = file(&path, "turn.jsonl", &bodies.join("\n"));
    let early = group(&dev, "wait", &["--for", "1s"]).exits(3);
    early.prints(&["group demo/turn: open; decided at"]);
    group(&dev, "redrive", &["--requests", &requests]).exits(2).complains(&["is not decided yet"]);
    send(&dev, &bodies[1]);
    let waited = group(&dev, "wait", &[]).exits(1);
    waited.prints(&[
        "group demo/turn: failed at",
        "policy all, 2 members: 1 succeeded, 1 failed, 0 open",
        "invalid_arguments",
    ]);
    let json = group(&dev, "show", &["--json"]).exits(1).json();
    assert_eq!(
        (&json["decision"]["result"], &json["members"][0]["state"]),
        (&"failed".into(), &"succeeded".into())
    );
    let plan = group(&dev, "redrive", &["--requests", &requests]).exits(0);
    plan.prints(&[
        "not sent: 0 a: it succeeded",
        "would send: b.r2",
        "would send 1 call as round 2 of group turn",
    ]);
    plan.complains(&["nothing is sent; add --apply"]);
    group(&dev, "show", &["--round", "2"]).exits(3);
    group(&dev, "redrive", &["--requests", &requests, "--apply"]).exits(0).prints(&["sent: b.r2"]);
    group(&dev, "wait", &["--round", "2"]).exits(1).prints(&["group demo/turn#2: failed at"]);
}

#[test]
fn a_group_is_cancelled_with_apply_only() {
    let dev = Dev::start(&[]);
    send(&dev, &member("a", 0, "add", r#"{"a":1,"b":2}"#));
    group(&dev, "wait", &["--for", "1s"]).exits(3);
    group(&dev, "cancel", &[]).exits(0).complains(&["nothing is changed; add --apply to cancel it"]);
    let json = group(&dev, "cancel", &["--apply", "--json"]).exits(0).json();
    assert_eq!((&json["applied"], &json["open"]), (&true.into(), &1.into()));
    group(&dev, "wait", &[]).exits(1).prints(&["group demo/turn: cancelled at", "not started"]);
    group(&dev, "cancel", &["--apply"]).exits(1).complains(&["was decided before; nothing is cancelled"]);
}

/// Its members wait behind others, or are sent later.
#[test]
fn a_group_that_is_not_known_is_cancelled_by_its_first_member() {
    let dev = Dev::start(&[]);
    group(&dev, "cancel", &[]).exits(3).complains(&[
        "nothing is known of group demo/turn",
        "check tenant, id and --round",
        "nothing is changed; add --apply to have its first member end it as cancelled",
    ]);
    let plan = group(&dev, "cancel", &["--json"]).exits(3).json();
    assert_eq!(
        (&plan["state"], &plan["open"], &plan["applied"]),
        (&"unknown".into(), &Value::Null, &false.into())
    );
    let ahead = group(&dev, "cancel", &["--apply", "--json"]).exits(0);
    ahead.complains(&["the first member that comes within 60 days ends the group", "not to be used again"]);
    assert_eq!(
        ahead.json(),
        json!({"tenant": "demo", "group": "turn", "round": 1, "state": "unknown", "open": null, "applied": true})
    );
    dev.wait_until_empty();
    send(&dev, &member("a", 0, "add", r#"{"a":1,"b":2}"#));
    group(&dev, "wait", &[]).exits(1).prints(&["group demo/turn: cancelled at"]);
    dev.wait_until_empty();
    let first = dev.toolfleet(&["result", "demo", "a", "--json"]).exits(1).json();
    assert_eq!(first["error"]["code"], "group_decided", "{first}");
}
