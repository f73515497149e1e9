//! What the commands say of a running fleet: workers, servers, status, stats.

use serde_json::Value;

use crate::run::Dev;

/// Asks until the answer fits: workers report every five seconds.
fn until(dev: &Dev, args: &[&str], fits: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    // Each round starts a process: far more rounds than two beats have.
    for _ in 0..2_000 {
        last = dev.toolfleet(args).json();
        if fits(&last) {
            return last;
        }
    }
    panic!("{args:?} never fits: {last}");
}

#[test]
fn a_fleet_shows_its_worker_its_server_and_its_failing_tool() {
    let dev = Dev::start(&[]);
    for (tool, arguments) in [("echo", r#"{"text": "x"}"#), ("fail", "{}")] {
        dev.toolfleet(&["call", "--tenant", "acme", "--tool", tool, "--arguments", arguments]);
    }
    let called = |rows: &Value| rows[0]["worker"]["calls"].is_object();
    let rows = until(&dev, &["workers", "--json"], called);
    assert_eq!((&rows[0]["state"], &rows[0]["worker"]["version"]), (&"running".into(), &"0.1.0".into()));
    dev.toolfleet(&["workers"]).exits(0).prints(&["WORKER", "running", "0.1.0"]);

    let status = until(&dev, &["status", "--json"], |status| status["fleet"]["tools"]["fail"].is_object());
    assert_eq!(status["fleet"]["tools"]["fail"], serde_json::json!({"n": 1, "f": 1}));
    assert_eq!(status["fleet"]["workers"]["alive"], 1);
    let screen = dev.toolfleet(&["status"]).exits(0);
    screen.prints(&[
        "toolfleet-calls ",
        "toolfleet-calls-dlq",
        "workers   1 running; 0 of ",
        "breakers  all closed",
        "limits    none made a call wait",
        "set       nothing paused",
        "tenants   ",
        "failures  fail: 1 of 1 calls (100.0 %)",
    ]);
    assert!(
        screen.stdout.lines().count() <= 24 && screen.stdout.lines().all(|line| line.chars().count() <= 80)
    );
    let top = dev.toolfleet(&["top", "--once"]).exits(0);
    top.prints(&["toolfleet top  data ", "[overview]", "failures  fail: 1 of 1 calls", "q quit"]);
    assert_eq!(top.stdout.lines().count(), 24);
    let status = dev.toolfleet(&["top", "--once", "--json"]).json();
    assert_eq!(status["fleet"]["tools"]["fail"], serde_json::json!({"n": 1, "f": 1}));
    dev.toolfleet(&["top"]).exits(2).complains(&["not a terminal", "--once"]);

    dev.toolfleet(&["pause", "server", "demo", "--why", "a test", "--by", "ann"]).exits(0);
    dev.toolfleet(&["servers"]).exits(0).prints(&["demo", "closed", "by ann"]);
    dev.toolfleet(&["status"]).exits(0).prints(&["set       server:demo paused by ann: a test"]);
}

#[test]
fn a_fleet_without_workers_says_so() {
    let dev = Dev::start(&["--no-worker"]);
    dev.toolfleet(&["workers"]).exits(3).complains(&["no worker has reported"]);
    dev.toolfleet(&["servers"]).exits(3).complains(&["no worker has ever reported"]);
    dev.toolfleet(&["status"]).exits(0).prints(&["workers   none has ever reported"]);
    dev.toolfleet(&["top", "--once"]).exits(0).prints(&["no data", "workers   none has ever reported"]);
    dev.toolfleet(&["stats"]).exits(3).complains(&["no call is counted"]);
    dev.toolfleet(&["stats", "--last", "yesterday"]).exits(2).complains(&["30m, 1h or 2d"]);
}
