//! Why a call is not running, as text and as JSON.

use crate::run::{Dev, toolfleet};

#[test]
fn a_call_in_the_queue_names_what_is_known_and_what_is_not() {
    let dev = Dev::start(&["--no-worker"]);
    let send =
        ["send", "--tenant", "acme", "--tool", "echo", "--call-id", "c1", "--arguments", r#"{"text": "x"}"#];
    dev.toolfleet(&send).exits(0);
    let why = dev.toolfleet(&["why", "acme", "c1"]).exits(3);
    why.prints(&[
        "unknown: call c1 of tenant acme: no worker has received it",
        "waits for",
        "queue toolfleet-calls holds about 1 visible",
        "next         it goes on when a worker receives it",
        "not known    its deadline",
    ]);
    assert!(why.stdout.lines().count() <= 24, "one screen:\n{}", why.stdout);
    let json = dev.toolfleet(&["why", "--tenant", "acme", "--call-id", "c1", "--json"]).exits(3).json();
    assert_eq!((&json["place"], &json["call_id"]), (&"not_received".into(), &"c1".into()));
    assert_eq!(json["queues"][0]["visible"], 1, "{json}");
}

#[test]
fn a_call_that_has_ended_names_its_outcome() {
    let dev = Dev::start(&[]);
    let call = ["call", "--tenant", "acme", "--call-id", "c1", "--tool"];
    dev.toolfleet(&[&call[..], &["ecko"]].concat()).exits(1);
    let why = dev.toolfleet(&["why", "acme", "c1"]).exits(0);
    why.prints(&[
        "done: call c1 of tenant acme: it ended as refused (unknown_tool)",
        "toolfleet result acme c1",
    ]);
}

#[test]
fn a_held_call_says_so_in_result_and_in_why() {
    let dev = Dev::start(&[]);
    let long = [
        "send",
        "--tenant",
        "acme",
        "--tool",
        "slow",
        "--call-id",
        "long",
        "--arguments",
        r#"{"ms": 30000}"#,
    ];
    dev.toolfleet(&long).exits(0);
    let running = || dev.toolfleet(&["why", "acme", "long", "--json"]).json();
    let seen = (0..1_000).map(|_| running()).find(|json| json["place"] == "running").unwrap();
    assert!(seen["deadline"].is_string() && seen["next_at"].is_string(), "{seen}");
    let result = dev.toolfleet(&["result", "acme", "long"]).exits(3);
    result.complains(&[
        "claimed: call long of tenant acme: worker dev-",
        "attempt 1",
        "toolfleet why acme long",
    ]);
}

#[test]
fn a_call_without_its_id_is_a_usage_error() {
    toolfleet(&["why"]).exits(2).complains(&["Give TENANT and CALL_ID"]);
}

#[test]
fn a_pause_is_named_with_who_set_it_and_why() {
    let dev = Dev::start(&["--no-worker"]);
    let who = ["--why", "it drops orders", "--by", "ann"];
    dev.toolfleet(&[&["pause", "tenant", "acme"][..], &who].concat()).exits(0);
    dev.toolfleet(&[&["pause", "tool", "echo"][..], &who].concat()).exits(0);
    let why = dev.toolfleet(&["why", "acme", "c1"]).exits(3);
    why.prints(&[
        "the end of a pause: tenant:acme paused by ann since",
        "perhaps a pause (the row does not say whether it concerns this call): tool:echo",
        "it goes on when the pause is ended",
        "end the pause with `toolfleet resume`",
    ]);
    let other = dev.toolfleet(&["why", "globex", "c1", "--json"]).exits(3).json();
    let kinds: Vec<_> =
        other["waits_for"].as_array().unwrap().iter().map(|waits| waits["for"].clone()).collect();
    assert_eq!(kinds, ["worker", "possible_pause"], "{other}");
}
