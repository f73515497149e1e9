//! Reading audit records.

use serde_json::Value;

use crate::run::Dev;

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
    history(&["--tool", "ecko", "--read-at-most", "1"]).complains(&["found among", "go on with --after"]);
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
