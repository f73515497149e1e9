//! The guided tour: it checks itself, and these tests check that it does.

use crate::run::toolfleet;

#[test]
fn the_tour_shows_every_outcome_and_exits_with_0() {
    let ran = toolfleet(&["dev", "--demo"]).exits(0);
    ran.prints(&[
        "succeeded after 1 attempt",
        "tool_error after 1 attempt",
        "no such customer",
        "succeeded after 3 attempts",
        "refused after 0 attempts",
        "invalid_arguments: The arguments do not fit the tool's schema: arguments/b",
        "unknown_tool: No tool `ecko` is registered; registered are add, counter, echo",
        "(2 times)",
        "the server ran `counter` 1 time",
        "timed_out after 1 attempt",
        "The calls, as they stand in DynamoDB:",
        "The audit records of the tenant, newest first:",
        "7 of 7 steps ended as expected",
    ]);
    assert!(!ran.stdout.contains("NOT AS EXPECTED"), "{}", ran.stdout);
    assert_eq!(ran.stderr, "", "a tour that goes well has nothing to complain about");
}

#[test]
fn the_tour_is_one_json_document() {
    let tour = toolfleet(&["dev", "--demo", "--json"]).exits(0).json();
    assert_eq!(tour["as_expected"], true, "{tour}");
    let outcome = |n: usize| tour["steps"][n]["result"]["outcome"].as_str().unwrap();
    let outcomes: Vec<_> = (0..7).map(outcome).collect();
    assert_eq!(
        outcomes,
        ["succeeded", "tool_error", "succeeded", "refused", "refused", "succeeded", "timed_out"]
    );
    assert_eq!(tour["steps"][2]["result"]["attempts"], 3);
    assert_eq!(tour["steps"][5]["executions"], 1);
    assert_eq!(tour["steps"][6]["result"]["trouble"]["may_have_run"], "unknown");
    assert_eq!(tour["records"].as_array().unwrap().len(), 7);
    assert!(tour["took_ms"].as_u64().unwrap() < 15_000, "{}", tour["took_ms"]);
}
