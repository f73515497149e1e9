//! Reading audit records.

use serde_json::Value;
use toolfleet_aws::{Applied, apply};
use toolfleet_client::{Aws, AwsOptions, Tables, system_clock};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::call::{Caller, DeliveryContext, Event};
use toolfleet_core::digest::Digest;
use toolfleet_core::ids::{CallId, CallKey, Nonce, WorkerId};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::time::Timestamp;

use crate::run::Dev;

/// Stores the row and the record of a call that ended at `at`, like the one that `record` tells of.
fn end_at(dev: &Dev, record: &Value, call_id: &str, at: Timestamp) {
    let env = |name: &str| dev.ready["env"][name].as_str().unwrap().to_owned();
    let record: AuditRecord = serde_json::from_value(record.clone()).unwrap();
    let key = CallKey { tenant: record.tenant.clone(), call_id: CallId::parse(call_id).unwrap() };
    let expires_at = at.plus_ms(86_400_000).whole_s();
    let delivery = DeliveryContext {
        key: key.clone(),
        digest: Digest::from_stored(record.digest.clone()),
        earlier_digest: None,
        caller: Box::new(Caller::default()),
        nonce: Nonce::from_random(7),
        worker: WorkerId::parse("w").unwrap(),
        enqueued_at: at,
        deadline: None,
        now: at,
        skew_ms: 0,
        may_be_claimless: false,
        repeatable: false,
        expires_at,
    };
    let outcome = Outcome::refused(Code::UnknownTool, "for the test");
    let end = Event::Conclude { delivery, outcome, definition: None };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let aws = Aws::connect(AwsOptions {
            region: Some(env("AWS_REGION")),
            dynamodb_endpoint: Some(env("AWS_ENDPOINT_URL_DYNAMODB")),
            static_credentials: Some(("toolfleet".into(), "toolfleet".into())),
            ..AwsOptions::default()
        })
        .await;
        let tables = Tables::with_prefix("toolfleet");
        assert!(matches!(apply(&aws.calls(&tables), None, &end).await.unwrap(), Applied::Stored { .. }));
        let record = AuditRecord { call_id: key.call_id, at, ..record };
        assert!(aws.history(&tables).insert(&record, expires_at).await.unwrap());
    });
}

#[test]
fn the_record_of_a_call_is_found_whenever_it_ended() {
    let dev = Dev::start(&[]);
    let call = ["call", "--tenant", "acme", "--tool", "ecko", "--call-id", "c1"];
    dev.toolfleet(&call).exits(1);
    dev.wait_until_empty();
    let recent = dev.toolfleet(&["history", "acme", "c1", "--json"]).exits(0).json();
    let three_hours_ago = Timestamp::from_ms(system_clock()().as_ms() - 3 * 3_600_000);
    end_at(&dev, &recent["records"][0], "old", three_hours_ago);
    for which in [&["acme", "old"][..], &["acme", "--call-id", "old"]] {
        let found = dev.toolfleet(&[&["history", "--json"], which].concat()).exits(0).json();
        assert_eq!(found["records"][0]["at"], three_hours_ago.to_string(), "{found}");
    }
    let lately = ["history", "acme", "old", "--since", "1h"];
    dev.toolfleet(&lately).exits(3).complains(&["no records of call old", "look further back with --since"]);
    let unknown = dev.toolfleet(&["history", "acme", "c9"]).exits(3);
    unknown.complains(&["call c9 has no row", "no records of call c9", "between"]);
}

#[test]
fn history_is_read_between_two_instants_and_as_json_lines() {
    let dev = Dev::start(&[]);
    for n in 0..3 {
        let id = format!("c{n}");
        let tool = if n == 1 { "ecko" } else { "echo" };
        let call =
            ["call", "--tenant", "acme", "--tool", tool, "--call-id", &id, "--arguments", r#"{"text":"x"}"#];
        dev.toolfleet(&call).exits(i32::from(n == 1));
    }
    dev.wait_until_empty();
    let history = |more: &[&str]| {
        dev.toolfleet(&[&["history", "--tenant", "acme", "--since", "60d"], more].concat()).exits(0)
    };
    for jsonl in ["--json-lines", "--jsonl"] {
        let ran = history(&[jsonl]);
        let ids: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(ids.iter().map(|record| &record["call_id"]).collect::<Vec<_>>(), ["c2", "c1", "c0"]);
    }
    history(&[]).prints(&["MESSAGE", "No tool `ecko` is registered"]);
    let all = history(&["--json"]).json();
    let at = |n: usize| all["records"][n]["at"].as_str().unwrap().to_owned();
    let one = history(&["--json", "--until", &at(1), "--limit", "1"]).json();
    assert_eq!((&one["records"][0]["call_id"], &one["more"]), (&"c1".into(), &true.into()), "{one}");
    let part = |more: &[&str]| {
        let of_tool = ["history", "--tenant", "acme", "--since", "2h", "--json", "--tool", "ecko"];
        dev.toolfleet(&[&of_tool[..], &["--read-at-most", "1"][..], more].concat()).exits(0).json()
    };
    let (mut page, mut found) = (part(&[]), Vec::new());
    assert_eq!(
        (&page["read"], &page["more"]),
        (&2.into(), &true.into()),
        "two records of another tool: {page}"
    );
    // A page of one query looks back by an hour.
    for _ in 0..10 {
        found.extend(page["records"].as_array().unwrap().iter().map(|record| record["call_id"].clone()));
        let Some(next) = page["next"].as_str().map(str::to_owned) else { break };
        page = part(&["--after", &next]);
    }
    assert_eq!((found, &page["more"]), (vec![Value::from("c1")], &false.into()), "{page}");
    history(&["--tool", "ecko", "--read-at-most", "1"]).complains(&[
        "found among",
        "go on with --since",
        "--after",
    ]);
    history(&["--until", "1h"]).complains(&["no records of tenant acme between"]);
    for which in [vec!["--call-id", "c1"], vec!["--failed"]] {
        let found = history(&[&["--json"], &which[..]].concat()).json();
        assert_eq!(found["records"].as_array().unwrap().len(), 1, "{which:?}: {found}");
    }
    let unknown = ["history", "acme", "c9", "--since", "1d"];
    dev.toolfleet(&unknown).exits(3).complains(&["no records of call c9 of tenant acme between"]);
    let wrong = ["history", "--tenant", "acme", "--since", "1h", "--until", "2h"];
    dev.toolfleet(&wrong).exits(2).complains(&["--until", "is before --since"]);
}

/// An hour of a busy tenant is more than a command may read: an answer that is not whole says so, and how to go on.
#[test]
fn a_search_for_a_call_that_stops_says_so_and_goes_on() {
    let dev = Dev::start(&[]);
    for n in 0..12 {
        let id = format!("c{n:02}");
        let call =
            ["call", "--tenant", "acme", "--tool", "ecko", "--call-id", &id, "--session", "s1", "--json"];
        dev.toolfleet(&call).exits(1);
    }
    dev.wait_until_empty();
    let ask = |more: &[&str]| {
        dev.toolfleet(&[&["history", "acme", "c00", "--since", "2h", "--json"], more].concat())
    };
    let stopped = ask(&["--read-at-most", "4"]).exits(3);
    stopped.complains(&[
        "no records of call c00 of tenant acme were found yet among",
        "what is older was not looked at; go on with --since 2",
        "--after",
        "--session reads the records of that session alone",
    ]);
    let (mut page, mut found) = (stopped.json(), Vec::new());
    assert_eq!(page["more"], true, "{page}");
    assert!(page["read"].as_u64().unwrap() < 12, "{page}");
    for _ in 0..10 {
        let Some(next) = page["next"].as_str().map(str::to_owned) else { break };
        let part = ask(&["--read-at-most", "4", "--after", &next]);
        page = part.json();
        found.extend(page["records"].as_array().unwrap().iter().map(|record| record["call_id"].clone()));
    }
    assert_eq!((found, &page["more"]), (vec![Value::from("c00")], &false.into()), "{page}");
    for index in [&["--session", "s1"][..], &["--failed"]] {
        let whole = ask(index).exits(0).json();
        let records = whole["records"].as_array().unwrap();
        assert_eq!((records.len(), &whole["more"]), (1, &false.into()), "{whole}");
    }
    assert_eq!(ask(&["--session", "s2"]).exits(3).json()["records"], serde_json::json!([]));
}
