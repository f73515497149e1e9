//! Wrong input: each error names what was found and what is accepted, and nothing is sent.

use crate::run::{directory, file, toolfleet, toolfleet_of_bytes, toolfleet_with, toolfleet_within};

#[test]
fn a_missing_queue_url_says_what_to_set() {
    let ran = toolfleet(&["call", "--tenant", "t", "--tool", "echo"]).exits(2);
    ran.complains(&["no fleet is configured", "--queue-url", "`toolfleet dev`"]);
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_queue_name_is_not_taken_for_its_url() {
    toolfleet(&["queue", "status", "--queue-url", "toolfleet-calls"])
        .exits(2)
        .complains(&["--queue-url: is `toolfleet-calls`", "whole URL"]);
    toolfleet(&["queue", "status", "--queue-url", "http//host/calls"])
        .exits(2)
        .complains(&["--queue-url: is `http//host/calls`", "https://sqs."]);
}

#[test]
fn a_tenant_with_a_key_separator_names_the_rule() {
    toolfleet(&["call", "--tenant", "a#b", "--tool", "echo"]).exits(2).complains(&[
        "is not a valid tenant: it has '#'",
        "1 to 128 characters",
        "--tenant <TENANT>",
    ]);
}

#[test]
fn arguments_that_are_not_json_name_the_place() {
    toolfleet(&["send", "--tenant", "t", "--tool", "echo", "--arguments", "{\"text\": hello}"])
        .exits(2)
        .complains(&["--arguments: is not valid JSON", "line 1 column 10", "{\"text\": ·····}"]);
}

#[test]
fn arguments_that_are_no_object_are_refused() {
    toolfleet_with(&["send", "--tenant", "t", "--tool", "echo", "--arguments", "-"], "[1, 2]")
        .exits(2)
        .complains(&["--arguments: is an array", "JSON object"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    toolfleet(&["send", "--tenant", "t", "--tool", "echo", "--arguments", "@/no/such/file"])
        .exits(2)
        .complains(&["--arguments: cannot read /no/such/file"]);
}

#[test]
fn a_raw_body_is_checked_and_its_field_is_named() {
    let body = r#"{"v": 1, "call_id": "c", "tenant": "t", "tool": "echo", "arguments": {}, "retries": 3}"#;
    toolfleet_with(&["send", "--body", "-"], body).exits(2).complains(&["retries", "unknown field"]);
    let body = r#"{"v": 1, "call_id": "c", "tenant": "t", "arguments": {}}"#;
    toolfleet_with(&["send", "--body", "-"], body).exits(2).complains(&["tool: is missing"]);
}

#[test]
fn an_option_beside_a_raw_body_is_refused() {
    for option in [["--session", "s"], ["--arguments", "{}"], ["--timeout", "5s"], ["--user", "u"]] {
        let args: Vec<_> = ["send", "--body", "-"].into_iter().chain(option).collect();
        toolfleet(&args).exits(2).complains(&["cannot be used with", option[0]]);
    }
}

#[test]
fn a_result_without_its_call_says_how_to_name_one() {
    for args in [vec!["result"], vec!["result", "acme"], vec!["result", "--tenant", "acme"]] {
        toolfleet(&args).exits(2).complains(&["TENANT"]);
    }
}

#[test]
fn a_call_without_a_tool_says_which_options_name_one() {
    toolfleet(&["call", "--tenant", "t"]).exits(2).complains(&["--tool <ID>"]);
    toolfleet(&["call", "--tenant", "t", "--server", "s"]).exits(2).complains(&["needs the tool's `name`"]);
}

#[test]
fn a_wrong_resumption_names_the_option_or_the_field() {
    let call = |more: &[&str]| {
        let call = ["call", "--tenant", "t", "--tool", "x", "--call-id", "c2"];
        toolfleet(&call.iter().chain(more).copied().collect::<Vec<_>>()).exits(2)
    };
    call(&["--input-responses", "{}"]).complains(&["--resume <CALL_ID>"]);
    call(&["--resume", "c1", "--input-responses", "[1]"]).complains(&["--input-responses: is an array"]);
    call(&["--resume", "c1", "--input-responses", r#"{"who": "Ann"}"#])
        .complains(&["resume.input_responses: `who` is no object", r#"{"who": {"action": "accept""#]);
    call(&["--resume", "c2"]).complains(&["resume.call_id: names this very call"]);
    call(&["--resume", "c1", "--arguments", "-", "--input-responses", "-"])
        .complains(&["stdin is read once"]);
}

#[test]
fn an_operation_without_what_it_needs_names_it() {
    let read = ["call", "--tenant", "t", "--server", "s", "--operation", "resources/read"];
    toolfleet(&read).exits(2).complains(&["arguments", "missing field `uri`", "{\"uri\": \"...\"}"]);
    toolfleet(&["call", "--tenant", "t", "--tool", "x", "--operation", "tools/list"])
        .exits(2)
        .complains(&["`tools/list` is asked of a `server`"]);
    toolfleet(&["call", "--tenant", "t", "--server", "s", "--operation", "tools/run"])
        .exits(2)
        .complains(&["prompts/get"]);
}

#[test]
fn two_ways_to_say_the_same_are_refused() {
    toolfleet(&[
        "call",
        "--tenant",
        "t",
        "--tool",
        "x",
        "--timeout",
        "5s",
        "--deadline",
        "2026-11-21T09:30:00Z",
    ])
    .exits(2)
    .complains(&["cannot be used with"]);
    toolfleet(&["call", "--tenant", "t", "--tool", "x", "--call-id", "a", "--idempotency-key", "b"])
        .exits(2)
        .complains(&["cannot be used with"]);
}

#[test]
fn a_deadline_without_an_offset_is_refused_with_an_example() {
    toolfleet(&["call", "--tenant", "t", "--tool", "x", "--deadline", "tomorrow"])
        .exits(2)
        .complains(&["is not an instant", "2026-11-21T09:30:00Z"]);
}

#[test]
fn a_span_of_time_names_its_units() {
    toolfleet(&["history", "--tenant", "t", "--since", "yesterday"])
        .exits(2)
        .complains(&["`yesterday` is not a span of time", "30m, 1h or 2d"]);
}

#[test]
fn a_mistyped_verb_suggests_the_right_one() {
    toolfleet(&["hstory", "--tenant", "t"]).exits(2).complains(&["history"]);
}

#[test]
fn an_error_is_json_with_json_output() {
    let ran = toolfleet(&["--json", "send", "--tenant", "t", "--tool", "echo", "--arguments", "{"]).exits(2);
    assert_eq!(ran.json()["error"]["kind"], "usage");
    ran.complains(&["error: --arguments"]);
}

#[test]
fn a_wrong_log_filter_is_named() {
    toolfleet(&["--log", "a=b=c", "completions", "bash"]).exits(2).complains(&["TOOLFLEET_LOG", "`a=b=c`"]);
}

#[test]
fn a_wrong_catalog_names_its_entry() {
    let directory = directory("wrong-catalog");
    let path = file(
        &directory,
        "catalog.json",
        r#"{"servers": [], "tools": [{"id": "x", "server": "y"}], "tenants": {"queue": ["*"]}}"#,
    );
    for args in
        [vec!["tools", "list", "--catalog", &path], vec!["dev", "--port-base", "0", "--catalog", &path]]
    {
        toolfleet(&args).exits(2).complains(&["tools.x.server", "`y` is not among the servers"]);
    }
}

#[test]
fn tools_list_without_a_source_names_the_options() {
    toolfleet(&["tools", "list"]).exits(2).complains(&["--catalog FILE", "TOOLFLEET_CATALOG", "--url URL"]);
}

#[test]
fn a_taken_port_names_the_option_and_the_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for option in ["--sqs-port", "--dynamodb-port", "--mcp-port", "--gateway-port", "--console-port"] {
        let ran = toolfleet(&["dev", "--port-base", "0", option, &port]).exits(2);
        ran.complains(&[&format!("{option}: port {port} of 127.0.0.1"), "0 takes any that is free"]);
    }
}

const ECHO: [&str; 6] = ["send", "--tenant", "t", "--tool", "echo", "--arguments"];

fn echo(arguments: &str) -> Vec<&str> {
    ECHO.into_iter().chain([arguments]).collect()
}

#[test]
fn an_argument_that_is_not_utf_8_is_named_by_its_place() {
    let ran = toolfleet_of_bytes(&ECHO, b"{\"text\": \"\xff\"}").exits(2);
    ran.complains(&["argument 7", "is not UTF-8 text", "@FILE"]);
    let args: Vec<_> = ["--json"].into_iter().chain(ECHO).collect();
    let error = &toolfleet_of_bytes(&args, b"{\"text\": \"\xff\"}").exits(2).json()["error"];
    assert_eq!(error["kind"], "usage", "{error}");
    assert!(error["message"].as_str().unwrap().contains("argument 8"), "{error}");
}

#[test]
fn a_binary_a_huge_and_an_empty_file_have_their_own_errors() {
    let directory = directory("wrong-files");
    let path = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let huge = format!("{{\"text\": \"{}\"}}", "a".repeat(17_000_000));
    let cases = [
        (path("binary", b"{\"a\": \"\xff\x00\"}"), "is not UTF-8 text (byte 8)"),
        (path("huge.json", huge.as_bytes()), "more than 16777216 bytes"),
        (path("empty.json", b" \n"), "is empty; accepted is a JSON object"),
    ];
    for (path, problem) in cases {
        toolfleet(&echo(&format!("@{path}"))).exits(2).complains(&["--arguments: ", &path, problem]);
        toolfleet(&["send", "--body", &path]).exits(2).complains(&["--body: ", &path, problem]);
    }
}

#[test]
fn empty_stdin_or_arguments_say_what_is_accepted() {
    toolfleet(&echo("-")).exits(2).complains(&["--arguments: stdin is empty", "{}"]);
    toolfleet(&echo("")).exits(2).complains(&["--arguments: is empty", "{}"]);
}

#[test]
fn a_past_deadline_is_refused_before_anything_is_sent() {
    let args = ["send", "--tenant", "t", "--tool", "x", "--deadline", "2020-01-01T00:00:00Z"];
    toolfleet(&args).exits(2).complains(&["--deadline: 2020-01-01T00:00:00.000Z has passed", "--timeout"]);
}

#[test]
fn a_call_id_with_a_space_names_the_option_and_the_rule() {
    let ran = toolfleet(&["call", "--tenant", "t", "--tool", "x", "--call-id", "a b"]).exits(2);
    ran.complains(&["--call-id <ID>", "is not a valid call id", "1 to 128 characters"]);
}

#[test]
fn a_grant_without_effect_and_a_past_end_are_refused() {
    let create = ["sessions", "create", "--tenant", "t", "--session", "s", "--grant"];
    let with = |rest: &[&'static str]| create.into_iter().chain(rest.iter().copied()).collect::<Vec<_>>();
    toolfleet(&with(&["a b"])).exits(2).complains(&["--grant <GRANT>", "`a b` is not a grant", "server/*"]);
    toolfleet(&with(&["a", "--ends-at", "2020-01-01T00:00:00Z"]))
        .exits(2)
        .complains(&["--ends-at: 2020-01-01T00:00:00.000Z has passed", "sessions revoke"]);
}

#[test]
fn a_wrong_network_variable_is_named_before_any_request() {
    for args in [
        &["tools", "list", "--url", "http://127.0.0.1:9/mcp"][..],
        &["dev", "--demo"],
        &["dev", "--port-base", "0"],
    ] {
        for (variable, value, remedy) in [
            ("HTTPS_PROXY", "ftp://u:hunter2@p", "give http://host:port"),
            ("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "10.0.0.0/99", "accepted are for example 10.0.0.0/8"),
            ("TOOLFLEET_EXTRA_ROOTS", "/no/such/file", "cannot be read"),
        ] {
            let ran = toolfleet_within(&[(variable, value)], args).exits(2);
            ran.complains(&[&format!("{variable}: "), remedy]);
            assert!(!ran.stderr.contains("hunter2"), "{}", ran.stderr);
        }
    }
}
