//! The demo: it checks itself, and these tests check that it does.

use crate::run::{is_golden, toolfleet};

#[test]
fn the_demo_shows_every_outcome_and_exits_with_0() {
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
        "The calls in DynamoDB:",
        "The audit records of the tenant, newest first:",
        "7 of 7 steps ended as expected",
    ]);
    assert!(!ran.stdout.contains("NOT AS EXPECTED"), "{}", ran.stdout);
    is_golden("demo.txt", &timeless(&ran.stdout));
    assert_eq!(ran.stderr, "", "a demo without problems prints nothing on stderr");
}

#[test]
fn the_demo_is_one_json_document() {
    let demo = toolfleet(&["dev", "--demo", "--json"]).exits(0).json();
    assert_eq!(demo["as_expected"], true, "{demo}");
    let outcome = |n: usize| demo["steps"][n]["result"]["outcome"].as_str().unwrap();
    let outcomes: Vec<_> = (0..7).map(outcome).collect();
    assert_eq!(
        outcomes,
        ["succeeded", "tool_error", "succeeded", "refused", "refused", "succeeded", "timed_out"]
    );
    assert_eq!(demo["steps"][2]["result"]["attempts"], 3);
    assert_eq!(demo["steps"][5]["executions"], 1);
    assert_eq!(demo["steps"][6]["result"]["error"]["may_have_run"], "unknown");
    assert_eq!(demo["records"].as_array().unwrap().len(), 8);
    assert!(demo["took_ms"].as_u64().unwrap() < 15_000, "{}", demo["took_ms"]);
}

/// The text without what differs from run to run: spans, instants, process ids, and the widths of columns that follow.
fn timeless(text: &str) -> String {
    let mut lines = String::new();
    for line in text.lines() {
        // How a member of JSON is ordered, and which of two clocks saw the deadline first, is not agreed.
        let line = match (line.find("> {"), line.find("while the tool ran")) {
            (Some(at), _) => line.get(..at + 1).unwrap(),
            (None, Some(at)) => line.get(..at).unwrap(),
            (None, None) => line,
        };
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let mut words: Vec<&str> = Vec::new();
        for word in line.split_whitespace() {
            let bare = word.trim_end_matches([':', ',', '.', ')']);
            let number = words.last().is_some_and(|w| w.parse::<f64>().is_ok());
            if number && matches!(bare, "ms" | "s") && !line.trim_start().starts_with("The tool") {
                words.pop();
                words.push("TIME");
            } else if word.starts_with("dev-") {
                words.push("WORKER");
            } else if word.len() == 24 && word.ends_with('Z') && word.starts_with("20") {
                words.push("INSTANT");
            } else {
                words.push(word);
            }
        }
        lines.push_str(&indent);
        lines.push_str(&words.join(" "));
        lines.push('\n');
    }
    lines
}
