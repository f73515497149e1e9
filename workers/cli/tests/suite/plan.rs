//! `toolfleet plan`.

use crate::run::{Dev, directory, file, toolfleet};

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

#[test]
fn a_deadline_asks_for_workers_and_says_what_is_late_by_its_tool() {
    let plan = |calls: &str, more: &[&str]| {
        let args = ["plan", "--rate", "20/s", "--calls", calls, "--slots", "2", "--wait", "10s"];
        toolfleet(&[&args[..], more].concat()).exits(0)
    };
    let number = |more: &[&str], name: &str| {
        plan("1:1s", &[more, &["--json"]].concat()).json()[name].as_f64().unwrap()
    };
    let deadline = ["--deadline", "1100ms"];
    assert!(number(&deadline, "workers") > number(&[], "workers"), "waits make calls late");
    assert!(number(&deadline, "late") <= 0.01 && number(&deadline, "late_by_tools") == 0.0);
    let more_may_be_late = number(&["--deadline", "1100ms", "--late", "0.2"], "workers");
    assert!(more_may_be_late < number(&deadline, "workers"));
    // A twentieth is slower than two seconds, however many workers there are.
    let slow = plan("1:500ms:2s", &["--deadline", "2s"]);
    slow.complains(&["late by their tools alone", "--deadline"]);
    slow.prints(&["of the calls take longer than 2", "by their tools alone"]);
    toolfleet(&["plan", "--rate", "1/s", "--calls", "1:1s", "--late", "0.1"])
        .exits(2)
        .complains(&["--deadline"]);
}

#[test]
fn a_plan_has_shards_queues_places_and_where_they_pay() {
    let args = ["plan", "--rate", "4000/s", "--calls", "1:20s", "--peak", "2", "--slots", "512"];
    toolfleet(&args).exits(0).prints(&[
        "TOOLFLEET_HISTORY_SHARDS=16",
        "2 queues",
        "Fargate, x86",
        "Fargate Spot",
        "EC2 costs less than Fargate",
        "A Lambda function for each call",
    ]);
    let plan = toolfleet(&[&args[..], &["--json"]].concat()).exits(0).json();
    assert_eq!((&plan["history_shards"], &plan["queues_of_calls"]), (&16.0.into(), &2.0.into()), "{plan}");
    let places: Vec<_> =
        plan["places"].as_array().unwrap().iter().map(|place| place["place"].clone()).collect();
    assert_eq!(places, ["fargate_arm", "fargate_x86", "fargate_spot", "ec2", "lambda"]);
    assert!(plan["ec2_pays_from_workers"].as_u64().unwrap() > 1, "{plan}");
}

#[test]
fn prices_are_printed_changed_and_checked() {
    let printed = toolfleet(&["plan", "--print-prices"]).exits(0).stdout;
    let folder = directory("plan-prices");
    let args = |path: &str| {
        ["plan", "--rate", "10/s", "--calls", "1:1s", "--json", "--prices", path].map(str::to_owned)
    };
    let usd = |path: &str| {
        let args = args(path);
        let ran = toolfleet(&args.iter().map(String::as_str).collect::<Vec<_>>()).exits(0);
        ran.json()["usd_a_month"].as_f64().unwrap()
    };
    let same = usd(&file(&folder, "same.json", &printed));
    let plain = toolfleet(&["plan", "--rate", "10/s", "--calls", "1:1s", "--json"]).exits(0).json();
    assert_eq!(plain["usd_a_month"].as_f64().unwrap(), same, "what is printed is what is reckoned with");
    let dear = usd(&file(&folder, "dear.json", r#"{"sqs_million_requests": 4}"#));
    assert!(dear > same + 100.0, "{dear} {same}");
    let wrong = file(&folder, "wrong.json", r#"{"sqs": 1}"#);
    let args = args(&wrong);
    toolfleet(&args.iter().map(String::as_str).collect::<Vec<_>>()).exits(2).complains(&[
        "--prices",
        "unknown field `sqs`",
        "sqs_million_requests",
        "--print-prices",
    ]);
}
