//! Sending calls and reading their results, each test with a fleet of its own.

use serde_json::Value;

use crate::run::{Dev, directory, file};

#[test]
fn a_calls_result_and_history_are_read_back() {
    let dev = Dev::start(&[]);
    let call = ["call", "--tenant", "acme", "--tool", "echo", "--arguments", r#"{"text": "hello"}"#];
    let named: Vec<_> = call
        .iter()
        .copied()
        .chain(["--call-id", "c1", "--session", "s1", "--user", "ann:staff:dev"])
        .collect();
    let ran = dev.toolfleet(&named).exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("hello\n", "call c1 of tenant acme\n"));

    let again = dev.toolfleet(&["result", "acme", "c1"]).exits(0);
    assert_eq!(again.stdout, "hello\n");
    let by_options =
        dev.toolfleet(&["result", "--tenant", "acme", "--call-id", "c1", "--json"]).exits(0).json();
    assert_eq!(by_options["outcome"], "succeeded");
    assert_eq!(by_options["state"], "done");
    assert_eq!(by_options["attempts"], 1);
    assert_eq!(by_options["content"]["content"][0]["text"], "hello");

    dev.wait_until_empty();
    for which in [vec![], vec!["--session", "s1"], vec!["--call-id", "c1"]] {
        let args: Vec<_> =
            ["history", "--tenant", "acme", "--json"].iter().copied().chain(which.clone()).collect();
        let history = dev.toolfleet(&args).exits(0).json();
        let records = history["records"].as_array().unwrap();
        assert_eq!(records.len(), 1, "{which:?}: {history}");
        assert_eq!(records[0]["call_id"], "c1");
        assert_eq!(records[0]["user"]["roles"][0], "dev");
        assert_eq!(records[0]["worker"], dev.ready["worker"]);
    }
    let table = dev.toolfleet(&["history", "--tenant", "acme"]).exits(0);
    let header = table.stdout.lines().next().unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(
        header,
        ["TIME", "CALL", "TOOL", "OUTCOME", "CODE", "ATTEMPTS", "WORKER", "DURATION", "MESSAGE"]
    );
    table.prints(&["c1", "echo", "succeeded"]);
    let none = dev.toolfleet(&["history", "--tenant", "acme", "--failed"]).exits(0);
    none.complains(&["no records of tenant acme"]);
}

#[test]
fn large_arguments_and_results_are_sent_and_read() {
    let dev = Dev::start(&[]);
    let directory = directory("payloads");
    let words: String =
        (0..200_000_u64).map(|n| format!("{:x} ", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let arguments =
        format!("@{}", file(&directory, "large.json", &serde_json::json!({ "text": words }).to_string()));
    let call = [
        "call",
        "--json",
        "--tenant",
        "acme",
        "--tool",
        "echo",
        "--call-id",
        "c1",
        "--arguments",
        &arguments,
    ];
    for args in [&call[..], &["result", "--json", "acme", "c1"]] {
        let shown = dev.toolfleet(args).exits(0).json();
        assert!(shown["content"]["content"][0]["text"] == words.as_str(), "{args:?}");
    }
    let elsewhere = ["--payload-bucket", ""];
    let refused = dev.toolfleet(&[&call[..], &elsewhere].concat()).exits(2).json();
    assert!(refused["error"]["message"].as_str().unwrap().contains("TOOLFLEET_PAYLOAD_BUCKET"), "{refused}");
}

#[test]
fn a_running_call_shows_its_progress() {
    let dev = Dev::start(&[]);
    let call = [
        "call",
        "--tenant",
        "acme",
        "--tool",
        "slow",
        "--call-id",
        "long",
        "--arguments",
        r#"{"ms": 30000}"#,
    ];
    let waited = dev.toolfleet(&[&call[..], &["--wait", "5500ms"]].concat()).exits(3);
    waited.complains(&[
        "claimed: call long",
        "  progress: ",
        " of 30, seconds waited, reported at ",
        "no result within 5.5 s",
    ]);
    let shown = dev.toolfleet(&["result", "acme", "long", "--json"]).exits(3).json();
    assert_eq!(
        (&shown["state"], &shown["notes"]["progress"]["total"]),
        (&"claimed".into(), &30.into()),
        "{shown}"
    );
    assert_eq!(shown["notes"]["progress"]["message"], "seconds waited");
    assert!(shown["notes"]["progress"]["progress"].as_f64().unwrap() >= 1.0, "{shown}");
}

#[test]
fn spans_in_milliseconds_are_taken_under_their_older_names() {
    let dev = Dev::start(&[]);
    let call = ["call", "--tenant", "acme", "--tool", "echo", "--arguments", r#"{"text": "x"}"#];
    let older = [&call[..], &["--wait-ms", "20000", "--timeout-ms", "15000", "--call-id", "older"]].concat();
    dev.toolfleet(&older).exits(0).prints(&["x"]);
    for both in [["--wait-ms", "1", "--wait", "1s"], ["--timeout-ms", "1", "--timeout", "1s"]] {
        dev.toolfleet(&[&call[..], &both].concat()).exits(2).complains(&["cannot be used with"]);
    }
}

#[test]
fn a_call_that_does_not_succeed_exits_with_1_and_its_error() {
    let dev = Dev::start(&[]);
    let ran = dev.toolfleet(&["call", "--tenant", "acme", "--tool", "ecko", "--call-id", "typo"]).exits(1);
    ran.complains(&["refused (unknown_tool)", "No tool `ecko` is registered", "echo", "may have run: no"]);
    assert_eq!(ran.stdout, "");

    let arguments = r#"{"message": "no such customer"}"#;
    let ran =
        dev.toolfleet(&["call", "--tenant", "acme", "--tool", "fail", "--arguments", arguments]).exits(1);
    ran.prints(&["no such customer"]);
    ran.complains(&["tool_error (tool_reported_error)", "may have run: yes"]);

    let schema = ["call", "--tenant", "acme", "--tool", "add", "--arguments", r#"{"a": 1}"#, "--json"];
    let refused = dev.toolfleet(&schema).exits(1).json();
    assert_eq!(refused["error"]["code"], "invalid_arguments");
    assert_eq!(refused["error"]["may_have_run"], "no");

    dev.wait_until_empty();
    let failed = dev.toolfleet(&["history", "--tenant", "acme", "--failed", "--json"]).exits(0).json();
    assert_eq!(failed["records"].as_array().unwrap().len(), 3, "{failed}");
    assert_eq!(failed["records"][0]["code"], "invalid_arguments", "newest first: {failed}");
    let first = dev.toolfleet(&["history", "--tenant", "acme", "--limit", "1", "--json"]).exits(0).json();
    assert_eq!((first["records"].as_array().unwrap().len(), &first["more"]), (1, &Value::Bool(true)));

    let resumed =
        ["call", "--tenant", "acme", "--tool", "echo", "--resume", "typo", "--input-responses", "{}"];
    dev.toolfleet(&resumed)
        .exits(1)
        .complains(&["refused (not_resumable)", "Call `typo` ended as `refused`"]);
}

#[test]
fn a_reused_id_is_reported_with_the_first_calls_result() {
    let dev = Dev::start(&[]);
    let ask = |text: &str| {
        let arguments = format!(r#"{{"text": "{text}"}}"#);
        dev.toolfleet(&[
            "call",
            "--tenant",
            "acme",
            "--tool",
            "echo",
            "--call-id",
            "c1",
            "--arguments",
            &arguments,
        ])
    };
    ask("first").exits(0);
    let second = ask("second").exits(1);
    second.complains(&["idempotency_mismatch", "an id of its own"]);
    assert_eq!(second.stdout, "first\n");
}

#[test]
fn without_a_worker_a_sent_call_is_shown_as_waiting() {
    let dev = Dev::start(&["--no-worker"]);
    assert_eq!(dev.ready["worker"], Value::Null);
    let sent = dev
        .toolfleet(&["send", "--tenant", "acme", "--tool", "echo", "--arguments", r#"{"text": "x"}"#])
        .exits(0);
    let id = sent.stdout.trim().to_owned();
    assert_eq!(id.len(), 36, "a UUID: {id}");
    sent.complains(&[&format!("toolfleet result acme {id}")]);

    let unknown = dev.toolfleet(&["result", "acme", &id]).exits(3);
    unknown.complains(&[
        "unknown: call",
        "no worker has received it, or one runs it without a claim: it is queued or running, or was never sent",
        "toolfleet why acme",
    ]);
    let json = dev.toolfleet(&["result", "acme", &id, "--json"]).exits(3).json();
    assert_eq!(json["state"], "unknown");

    let status = dev.toolfleet(&["queue", "status", "--json"]).exits(0).json();
    assert_eq!(status["queues"][0]["queue"], "toolfleet-calls");
    assert_eq!(status["queues"][0]["visible"], 1, "{status}");
    let last = status["queues"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["queue"], &last["dead_letter"]), (&"toolfleet-calls-dlq".into(), &true.into()));
    dev.toolfleet(&["queue", "status"]).exits(0).prints(&["QUEUE", "IN FLIGHT", "toolfleet-calls-dlq"]);

    let call =
        ["call", "--tenant", "acme", "--tool", "echo", "--arguments", r#"{"text": "x"}"#, "--wait", "1ms"];
    dev.toolfleet(&call)
        .exits(3)
        .complains(&["no result within 1 ms; the call goes on", "toolfleet result acme"]);
}

#[test]
fn a_raw_body_is_sent_unchanged_and_a_key_names_one_call() {
    let dev = Dev::start(&[]);
    let body = r#"{"v": 1, "idempotency_key": "order 17", "tenant": "acme", "tool": "counter", "arguments": {"name": "n"}}"#;
    let first = dev.toolfleet_with(&["call", "--body", "-", "--json"], body).exits(0).json();
    let second = dev.toolfleet_with(&["call", "--body", "-", "--json"], body).exits(0).json();
    assert_eq!(first["call_id"], second["call_id"]);
    assert_eq!(second["content"]["content"][0]["text"], "1", "it ran once");
    let by_option = [
        "--tenant",
        "acme",
        "--tool",
        "counter",
        "--arguments",
        r#"{"name": "n"}"#,
        "--idempotency-key",
        "order 17",
    ];
    let args: Vec<_> = ["send", "--json"].iter().chain(&by_option).copied().collect();
    assert_eq!(dev.toolfleet(&args).exits(0).json()["call_id"], first["call_id"]);
}

#[test]
fn an_interrupted_wait_says_that_the_call_goes_on() {
    let dev = Dev::start(&["--no-worker"]);
    let sent = || dev.toolfleet(&["queue", "status", "--json"]).exits(0).json()["queues"][0]["visible"] == 1;
    let args = ["call", "--tenant", "acme", "--tool", "echo", "--call-id", "auth0|c1", "--json"];
    let ran = dev.interrupt(&args, sent).exits(3);
    ran.complains(&[
        "call auth0|c1 of tenant acme",
        "the call goes on",
        "toolfleet result acme 'auth0|c1'",
        "toolfleet cancel acme 'auth0|c1'",
    ]);
    let error = &ran.json()["error"];
    assert_eq!((&error["kind"], &error["call_id"]), (&"interrupted".into(), &"auth0|c1".into()));
}

#[test]
fn a_call_for_a_tenant_that_is_not_allowed_ends_at_once() {
    let folder = directory("stranger");
    let catalog = r#"{"servers": [], "tools": [], "tenants": {"queue": ["acme"]}}"#;
    let dev = Dev::start(&["--catalog", &file(&folder, "catalog.json", catalog)]);
    let call = ["call", "--tenant", "globex", "--tool", "echo", "--session", "s-1", "--wait", "1m"];
    let refused = dev.toolfleet(&call).exits(1);
    refused.complains(&["refused (tenant_not_allowed)", "may not speak for tenant `globex`"]);
    let json = dev.toolfleet(&[&call[..], &["--call-id", "c1", "--json"]].concat()).exits(1).json();
    let seen = (&json["call_id"], &json["outcome"], &json["error"]["code"]);
    assert_eq!(seen, (&"c1".into(), &"refused".into(), &"tenant_not_allowed".into()));
    let sent = dev.toolfleet(&["send", "--tenant", "globex", "--tool", "echo", "--json"]).exits(0).json();
    dev.wait_until_empty();
    let message_id = sent["message_id"].as_str().unwrap();
    dev.toolfleet(&["result", "_message", message_id]).exits(1).complains(&["refused (tenant_not_allowed)"]);
}
