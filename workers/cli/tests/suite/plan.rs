//! `toolfleet plan`.

use crate::run::{Dev, directory, toolfleet};

#[test]
fn a_load_has_workers_waits_and_a_bill() {
    let args = ["plan", "--rate", "200/s", "--calls", "60:300ms:1s", "--calls", "40:2s:8s"];
    toolfleet(&args).exits(0).prints(&[
        "200.0 calls a second, 400.0 at the highest",
        "Fargate",
        "USD for a million calls",
        "Lambda",
    ]);
    let plan = toolfleet(&[&args[..], &["--json"]].concat()).exits(0).json();
    let number = |name: &str| plan[name].as_f64().unwrap();
    // Calls of 1.5 s on average, 400 a second: about 600 slots are taken at the highest rate.
    assert!((8.0..=14.0).contains(&number("workers")), "{plan}");
    assert!(number("slots_used") < 1.0 && number("cpu_used") < 0.6 && number("wait_p95_s") <= 1.0, "{plan}");
    let bill = plan["bill"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["usd_a_month"].as_f64().unwrap())
        .sum::<f64>();
    assert!((bill - number("usd_a_month")).abs() < 0.1, "{plan}");
}

#[test]
fn fewer_waits_need_more_workers() {
    let workers = |wait: &str| {
        let args = [
            "plan",
            "--rate",
            "20/s",
            "--calls",
            "1:500ms:2s",
            "--slots",
            "2",
            "--vcpu",
            "1",
            "--wait",
            wait,
            "--json",
        ];
        toolfleet(&args).exits(0).json()["workers"].as_u64().unwrap()
    };
    assert!(workers("1ms") > workers("10s"));
}

#[test]
fn a_very_large_load_is_planned_at_once() {
    let args =
        ["plan", "--rate", "1000000/s", "--calls", "1:1ms", "--slots", "10000", "--vcpu", "16", "--json"];
    let plan = toolfleet(&args).exits(0).json();
    assert!(plan["workers"].as_u64().unwrap() > 10, "{plan}");
    let waits = plan["waits_by_workers"].as_array().unwrap();
    assert!(waits.iter().any(|wait| wait["workers"] == plan["workers"]), "{plan}");
}

#[test]
fn a_load_that_no_fleet_keeps_up_with_is_named() {
    let ran = toolfleet(&["plan", "--rate", "1000000/s", "--calls", "1:60s", "--slots", "1"]).exits(2);
    ran.complains(&["--rate", "10000 workers", "--slots"]);
    toolfleet(&["plan"]).exits(2).complains(&["--rate"]);
    toolfleet(&["plan", "--rate", "1/s", "--calls", "1:2s:1s"]).exits(2).complains(&["below the median"]);
}

#[test]
fn waits_are_drawn_as_a_picture() {
    let path = directory("plan-svg").join("waits.svg").display().to_string();
    toolfleet(&["plan", "--rate", "50/s", "--calls", "1:1s:3s", "--slots", "8", "--svg", &path]).exits(0);
    let picture = std::fs::read_to_string(path).unwrap();
    assert!(
        picture.starts_with("<svg ") && picture.contains("<polyline points=\"") && !picture.contains("NaN"),
        "{picture}"
    );
}

#[test]
fn a_plan_is_checked_within_a_time() {
    let path = directory("plan-check").join("plan.json").display().to_string();
    let planned = toolfleet(&["plan", "--rate", "1000/s", "--calls", "1:1s", "--json"]).exits(0);
    std::fs::write(&path, planned.json().to_string()).unwrap();
    toolfleet(&["plan", "--rate", "1/s", "--calls", "1:1s", "--check", &path])
        .exits(2)
        .complains(&["--check"]);
    toolfleet(&["plan", "--check", &path]).exits(2).complains(&["--from-history"]);
    let dev = Dev::start(&[]);
    let ran = dev.toolfleet(&["plan", "--check", &path, "--from-history", "1h"]).exits(2);
    ran.complains(&["no call is counted"]);
}

#[test]
fn a_plan_from_history_counts_the_calls_of_the_fleet() {
    let dev = Dev::start(&[]);
    dev.toolfleet(&["plan", "--from-history", "1h"]).exits(2).complains(&["no call is counted"]);
}
