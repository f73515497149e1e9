//! Pausing, resuming, limits, strikes, weights and cancel rules, against a running fleet.

use serde_json::Value;

use crate::run::{Dev, Ran};

const WHO: [&str; 4] = ["--why", "it drops orders", "--by", "ann"];

fn run(dev: &Dev, args: &[&str]) -> Ran {
    dev.toolfleet(&args.iter().copied().chain(WHO).collect::<Vec<_>>())
}

#[test]
fn a_paused_tool_waits_says_why_and_runs_when_resumed() {
    let dev = Dev::start(&[]);
    run(&dev, &["pause", "tool", "echo"])
        .exits(0)
        .complains(&["later than five seconds", "wait until their deadlines"]);
    let shown = dev.toolfleet(&["switches"]).exits(0).stdout;
    assert!(
        shown.contains("tool:echo") && shown.contains("ann") && shown.contains("it drops orders"),
        "{shown}"
    );

    // The worker reads the switch within five seconds.
    let call = |id: &str| {
        dev.toolfleet(&[
            "send",
            "--tenant",
            "acme",
            "--tool",
            "echo",
            "--call-id",
            id,
            "--arguments",
            r#"{"text": "x"}"#,
        ])
        .exits(0);
    };
    let mut held = None;
    // Each round starts three processes: far more rounds than five seconds have.
    for n in 0..1_000 {
        let id = format!("c{n}");
        call(&id);
        let row = loop {
            let row = dev.toolfleet(&["result", "--tenant", "acme", "--call-id", &id, "--json"]).json();
            if row["state"] != "unknown" {
                break row;
            }
        };
        if row["held"]["reason"] == "paused" {
            held = Some((id, row));
            break;
        }
    }
    let (id, row) = held.expect("a call that is held");
    let detail = row["held"]["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("tool:echo paused by ann since") && detail.ends_with("it drops orders"),
        "{detail}"
    );

    // Cancelled while it waits: it has ended at once.
    dev.toolfleet(&["cancel", "--tenant", "acme", "--call-id", &id]).exits(0);
    let row = dev.toolfleet(&["result", "--tenant", "acme", "--call-id", &id, "--json"]).json();
    assert_eq!((&row["outcome"], &row["error"]["may_have_run"]), (&"cancelled".into(), &"no".into()));

    run(&dev, &["resume", "tool", "echo"]).exits(0).complains(&["tried within a minute"]);
    run(&dev, &["resume", "tool", "echo"]).exits(3).complains(&["was not paused"]);
    dev.toolfleet(&["switches"]).exits(0);
    let records = dev.toolfleet(&["history", "--tenant", "_fleet", "--json"]).exits(0).json();
    let changes: Vec<_> =
        records["records"].as_array().unwrap_or(&Vec::new()).iter().map(|r| r["tool"].clone()).collect();
    assert_eq!(changes, [Value::from("pause#tool:echo#*"), Value::from("pause#tool:echo#*")], "{records}");
}

#[test]
fn limits_strikes_and_weights_are_set_listed_and_ended() {
    let dev = Dev::start(&["--no-worker"]);
    run(&dev, &["limit", "set", "server:demo", "--rate", "20/s", "--concurrency", "5", "--for", "1h"])
        .exits(0);
    run(&dev, &["strike", "--digest", "0123456789ABCDEF"]).exits(0);
    run(&dev, &["weight", "acme", "3"]).exits(0);
    let set = dev.toolfleet(&["switches", "--json"]).exits(0).json();
    let kinds: Vec<_> =
        set.as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["limit", "limit", "strike", "weight"]);
    let limits = dev.toolfleet(&["limit", "list"]).exits(0).stdout;
    for part in ["server:demo: rate 20/s", "server:demo: at most 5 at once"] {
        assert!(limits.contains(part), "{limits}");
    }

    // One part is set and ended alone; the other stays, with its own end.
    let set = run(&dev, &["limit", "set", "server:demo", "--concurrency", "9"]).exits(0);
    assert!(set.stdout.contains("server:demo: rate 20/s, at most 9 at once"), "{}", set.stdout);
    set.complains(&["it replaces server:demo: at most 5 at once, set by "]);
    let limits = dev.toolfleet(&["limit", "list", "--json"]).exits(0).json();
    let ends: Vec<_> = limits
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["change"]["rate"].is_null(), entry["until"].is_null()))
        .collect();
    assert_eq!(ends, [(true, true), (false, false)], "{limits}");
    let left = run(&dev, &["limit", "clear", "server:demo", "--rate"]).exits(0).stdout;
    assert!(left.contains("the catalog's limit holds again; still changed: at most 9 at once"), "{left}");
    run(&dev, &["limit", "clear", "server:demo", "--rate"]).exits(3).complains(&["still changed: at most 9"]);
    run(&dev, &["limit", "clear", "server:demo"]).exits(0);
    run(&dev, &["limit", "clear", "server:demo"]).exits(3).complains(&["the catalog's limit holds"]);
    run(&dev, &["strike", "--digest", "0123456789abcdef", "--lift"]).exits(0);
    run(&dev, &["weight", "acme", "1"]).exits(0);
    let set = dev.toolfleet(&["switches", "--json"]).exits(0).json();
    assert!(set.as_array().unwrap().is_empty(), "{set}");
}

#[test]
fn a_limit_is_set_shown_and_ended_by_the_tenants_own_name() {
    let dev = Dev::start(&["--no-worker"]);
    for name in ["tenant:org/team", "tenant:a%2Fb", "tenant:org/team/tool:echo"] {
        let set = run(&dev, &["limit", "set", name, "--rate", "1/s", "--json"]).exits(0).json();
        assert_eq!(set[0]["limit"], name);
        let listed = dev.toolfleet(&["limit", "list"]).exits(0).stdout;
        assert!(listed.contains(&format!("{name}: rate 1/s")), "{listed}");
        run(&dev, &["limit", "clear", name]).exits(0);
        run(&dev, &["limit", "clear", name]).exits(3);
    }
}

#[test]
fn a_cancel_rule_is_shown_first_and_stored_with_apply() {
    let dev = Dev::start(&["--no-worker"]);
    let rule = ["cancel", "--tenant", "acme", "--tool", "echo", "--older-than", "10m"];
    let shown = run(&dev, &rule).exits(0);
    shown.complains(&["nothing is changed; add --apply", "how many calls fit is not known", "0 calls ended"]);
    shown.complains(&["messages are in the queues, of all calls and not only of those that fit"]);
    assert_eq!(dev.toolfleet(&["switches", "--json"]).exits(0).json(), Value::Array(Vec::new()));
    let apply: Vec<_> = rule.into_iter().chain(["--apply"]).collect();
    run(&dev, &apply).exits(0);
    let set = dev.toolfleet(&["switches", "--json"]).exits(0).json();
    assert_eq!((&set[0]["kind"], &set[0]["filter"]["tool"]), (&"cancel".into(), &"echo".into()));
    let id = set[0]["id"].as_str().unwrap();
    run(&dev, &["cancel", "--lift", id]).exits(0);
    run(&dev, &["cancel", "--lift", id]).exits(3).complains(&["there is no rule"]);
    let remedy = ["--tenant", "--tool", "--session", "CALL_ID", "--lift"];
    run(&dev, &["cancel", "--older-than", "10m"]).exits(2).complains(&remedy);
    assert_eq!(dev.toolfleet(&["switches", "--json"]).exits(0).json(), Value::Array(Vec::new()));
}

/// The history alone tells whether a filter names what exists.
#[test]
fn a_cancel_rule_that_is_only_shown_says_how_many_such_calls_ended_lately() {
    let dev = Dev::start(&[]);
    for (id, tool) in [("c1", "echo"), ("c2", "echo"), ("c3", "ecko")] {
        let call =
            ["call", "--tenant", "acme", "--tool", tool, "--call-id", id, "--arguments", r#"{"text":"x"}"#];
        dev.toolfleet(&call).exits(i32::from(tool == "ecko"));
    }
    dev.wait_until_empty();
    for (filter, fit) in [
        (&["--tenant", "acme", "--tool", "echo"][..], Value::from(2)),
        (&["--tenant", "acme"], 3.into()),
        (&["--tenant", "acme", "--tool", "ech"], 0.into()),
        // Records are listed by tenant.
        (&["--tool", "echo"], Value::Null),
    ] {
        let rule = [&["cancel", "--json"], filter].concat();
        let shown = run(&dev, &rule).exits(0).json();
        assert_eq!((&shown["ended_lately"]["fit"], &shown["applied"]), (&fit, &false.into()), "{shown}");
    }
    run(&dev, &["cancel", "--tenant", "acme", "--tool", "echo"])
        .exits(0)
        .complains(&["2 calls ended within"]);
}

#[test]
fn a_shorter_pause_replaces_that_of_another_operator_only_if_asked() {
    let dev = Dev::start(&["--no-worker"]);
    run(&dev, &["pause", "server", "demo"]).exits(0);
    let of_bob = |rest: &[&str]| {
        let bob = ["pause", "server", "demo", "--why", "a test", "--by", "bob", "--for", "5m"];
        dev.toolfleet(&bob.iter().chain(rest).copied().collect::<Vec<_>>())
    };
    of_bob(&[]).exits(2).complains(&["paused by ann", "--replace"]);
    of_bob(&["--replace"]).exits(0).complains(&["replaces: server:demo paused by ann"]);
    let set = dev.toolfleet(&["switches", "--json"]).exits(0).json();
    assert_eq!((set.as_array().unwrap().len(), &set[0]["by"]), (1, &"bob".into()));
}

#[test]
fn a_wrong_switch_says_what_is_accepted() {
    let dev = Dev::start(&["--no-worker"]);
    run(&dev, &["pause", "queue", "fast"]).exits(2).complains(&["high, default and low"]);
    run(&dev, &["pause", "tenant", "acme", "--tenant", "globex"]).exits(2).complains(&["--tenant: narrows"]);
    run(&dev, &["limit", "set", "demo", "--rate", "1/s"]).exits(2).complains(&["accepted are server:ID"]);
    run(&dev, &["limit", "set", "server:demo", "--rate", "fast"]).exits(2).complains(&["20/s"]);
    run(&dev, &["strike", "--digest", "012"]).exits(2).complains(&["at least 8"]);
    dev.toolfleet(&["pause", "tool", "echo", "--why", " ", "--by", "ann"])
        .exits(2)
        .complains(&["--why: has 0 characters"]);
}

#[test]
fn a_name_that_the_fleet_does_not_know_is_remarked_and_held_all_the_same() {
    let dev = Dev::start(&["--no-worker"]);
    let is_known = |args: &[&str]| {
        let ran = run(&dev, &[args, &["--json"]].concat()).exits(0);
        let document = ran.json();
        let entry = if document.is_array() { document[0].clone() } else { document };
        (entry["known"].clone(), ran.stderr)
    };
    for args in [
        ["pause", "tool", "echo"].as_slice(),
        &["pause", "tool:demo/echo"],
        &["pause", "server", "demo"],
        &["pause", "queue", "low"],
        &["limit", "set", "tool", "counter", "--rate", "9/s"],
        &["limit", "set", "tenant:acme/tool:echo", "--rate", "9/s"],
    ] {
        let (known, said) = is_known(args);
        assert!(known == true && !said.contains("is the name right?"), "{args:?}: {known} {said}");
    }
    for (args, parts) in [
        (["pause", "tool", "ecko"].as_slice(), ["No call of tool ecko", "Nearest: echo"]),
        (&["pause", "server", "dem"], ["No call of server dem", "Nearest: demo"]),
        (&["limit", "set", "tool:ecko", "--rate", "9/s"], ["No call of tool ecko", "Nearest: echo"]),
        (&["weight", "acme", "3"], ["No call of tenant acme", "within a day"]),
    ] {
        let (known, said) = is_known(args);
        assert!(known == false && parts.iter().all(|part| said.contains(part)), "{args:?}: {known} {said}");
    }
    let set = dev.toolfleet(&["switches"]).exits(0).stdout;
    assert!(set.contains("tool:ecko"), "it is set all the same: {set}");
}

#[test]
fn a_worker_that_nobody_knows_is_not_drained() {
    let dev = Dev::start(&[]);
    let workers = || dev.toolfleet(&["workers", "--json"]);
    // It reports as soon as it takes calls.
    let reported = (0..1_000).map(|_| workers()).find(|ran| ran.code == 0).expect("a worker").json();
    let worker = reported[0]["worker"]["id"].as_str().unwrap().to_owned();
    let mistyped = format!("{worker}x");
    run(&dev, &["drain", &mistyped]).exits(2).complains(&[
        "no worker",
        &format!("nearest: {worker}"),
        "toolfleet workers",
    ]);
    assert_eq!(dev.toolfleet(&["switches", "--json"]).exits(0).json(), Value::Array(Vec::new()));
    run(&dev, &["drain", &worker]).exits(0).complains(&["finishes those that run, and exits"]);
}
