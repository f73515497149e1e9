//! Options of a call that choose its queue and its time: --priority, --in, --not-before, --supersede.

use crate::run::{Dev, toolfleet};

const ECHO: [&str; 6] = ["--tenant", "acme", "--tool", "echo", "--arguments", r#"{"text": "x"}"#];

#[test]
fn a_call_of_high_priority_goes_to_its_queue_and_runs() {
    let idle = Dev::start(&["--no-worker"]);
    for priority in ["high", "normal", "low"] {
        idle.toolfleet(&[&["send", "--priority", priority][..], &ECHO].concat()).exits(0);
    }
    let status = idle.toolfleet(&["queue", "status", "--json"]).exits(0).json();
    let shown = status["queues"].as_array().unwrap().iter();
    let shown: Vec<_> = shown.map(|q| (q["priority"].as_str(), q["visible"].as_u64())).collect();
    assert_eq!(
        shown,
        [(Some("normal"), Some(1)), (Some("high"), Some(1)), (Some("low"), Some(1)), (None, Some(0))]
    );
    let dev = Dev::start(&[]);
    dev.toolfleet(&[&["call", "--priority", "high"][..], &ECHO].concat()).exits(0);
    dev.toolfleet(&[&["call", "--priority", "low", "--supersede", "report"][..], &ECHO].concat()).exits(0);
}

#[test]
fn a_call_that_is_due_later_is_delayed() {
    let dev = Dev::start(&[]);
    dev.toolfleet(&[&["send", "--in", "20m"][..], &ECHO].concat()).exits(0);
    let status = dev.toolfleet(&["queue", "status", "--json"]).exits(0).json();
    assert_eq!(
        (&status["queues"][0]["delayed"], &status["queues"][0]["visible"]),
        (&1.into(), &0.into()),
        "{status}"
    );
}

#[test]
fn wrong_times_and_priorities_are_refused_with_the_remedy() {
    let call = |option: &[&str]| toolfleet(&[&["send"][..], option, &ECHO].concat()).exits(2);
    call(&["--priority", "urgent"]).complains(&["high, normal, low"]);
    call(&["--in", "soon"]).complains(&["30m, 1h or 2d"]);
    call(&["--in", "20m", "--not-before", "2099-01-01T00:00:00Z"]).complains(&["cannot be used with"]);
    let late = ["--not-before", "2099-01-02T00:00:00Z", "--deadline", "2099-01-01T00:00:00Z"];
    call(&late).complains(&["not_before", "not before `deadline`"]);
    call(&["--supersede", ""]).complains(&["supersede", "1 to 128"]);
}
