//! A fleet that runs, and the commands against it: each test has one of its own, on ports of its own.

use std::process::Command;

use serde_json::Value;

use crate::run::{Dev, directory, file, is_golden, toolfleet};

#[test]
fn a_call_succeeds_and_its_result_and_history_are_read_back() {
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

    dev.at_rest();
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
fn arguments_and_results_that_fit_no_message_and_no_row_are_sent_and_read() {
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
fn a_long_call_shows_how_far_it_is_while_it_runs() {
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
    let waited = dev.toolfleet(&[&call[..], &["--wait-ms", "5500"]].concat()).exits(3);
    waited.complains(&[
        "claimed: call long",
        "  progress: ",
        " of 30, seconds waited, heard of at ",
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
fn a_call_that_ends_otherwise_exits_with_1_and_says_why() {
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

    dev.at_rest();
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
fn an_id_that_was_used_for_another_question_is_said_beside_the_first_answer() {
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
fn without_a_worker_a_sent_call_waits_and_is_shown_as_such() {
    let dev = Dev::start(&["--no-worker"]);
    assert_eq!(dev.ready["worker"], Value::Null);
    let sent = dev
        .toolfleet(&["send", "--tenant", "acme", "--tool", "echo", "--arguments", r#"{"text": "x"}"#])
        .exits(0);
    let id = sent.stdout.trim().to_owned();
    assert_eq!(id.len(), 36, "a UUID: {id}");
    sent.complains(&[&format!("toolfleet result acme {id}")]);

    let unknown = dev.toolfleet(&["result", "acme", &id]).exits(3);
    unknown.complains(&["unknown: no worker has met call", "waits in the queue, or was never sent"]);
    let json = dev.toolfleet(&["result", "acme", &id, "--json"]).exits(3).json();
    assert_eq!(json["state"], "unknown");

    let status = dev.toolfleet(&["queue", "status", "--json"]).exits(0).json();
    assert_eq!(status["queues"][0]["queue"], "toolfleet-calls");
    assert_eq!(status["queues"][0]["visible"], 1, "{status}");
    assert_eq!(status["queues"][1]["queue"], "toolfleet-calls-dlq");
    assert_eq!(status["queues"][1]["dead_letter"], true);
    dev.toolfleet(&["queue", "status"]).exits(0).prints(&["QUEUE", "IN FLIGHT", "toolfleet-calls-dlq"]);

    let call =
        ["call", "--tenant", "acme", "--tool", "echo", "--arguments", r#"{"text": "x"}"#, "--wait-ms", "1"];
    dev.toolfleet(&call)
        .exits(3)
        .complains(&["no result within 1 ms; the call goes on", "toolfleet result acme"]);
}

#[test]
fn a_cancelled_call_is_noted_and_shown_as_waiting() {
    let dev = Dev::start(&["--no-worker"]);
    for _ in 0..2 {
        let cancelled = dev.toolfleet(&["cancel", "--tenant", "acme", "--call-id", "c1"]).exits(3);
        cancelled.prints(&["nothing is known of call c1 of tenant acme", "The cancellation is noted"]);
    }
    let json = dev.toolfleet(&["cancel", "--tenant", "acme", "--call-id", "c2", "--json"]).exits(3).json();
    assert_eq!(json["cancel"], "noted_ahead");
    let ran = dev.toolfleet(&["result", "acme", "c1"]).exits(3);
    ran.complains(&["pending: no worker has met call c1 of tenant acme; its cancellation is noted"]);
    let json = dev.toolfleet(&["result", "acme", "c1", "--json"]).exits(3).json();
    assert_eq!(json["state"], "pending");
    assert!(json["cancel_requested_at"].is_string(), "{json}");
}

#[test]
fn a_cancellation_that_comes_first_ends_the_call() {
    let dev = Dev::start(&[]);
    dev.toolfleet(&["cancel", "--tenant", "acme", "--call-id", "c1"]).exits(3);
    let call = [
        "call",
        "--tenant",
        "acme",
        "--tool",
        "counter",
        "--arguments",
        r#"{"name": "n"}"#,
        "--call-id",
        "c1",
    ];
    dev.toolfleet(&call).exits(1).complains(&["cancelled (cancelled_by_caller)", "may have run: no"]);
    let late = dev.toolfleet(&["cancel", "--tenant", "acme", "--call-id", "c1"]).exits(1);
    late.complains(&["had ended before"]);
}

#[test]
fn a_raw_body_is_sent_as_it_is_and_an_idempotency_key_names_one_call() {
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
fn the_tools_of_a_catalog_are_listed_with_what_the_server_says() {
    let dev = Dev::start(&["--no-worker"]);
    let catalog = dev.ready["env"]["TOOLFLEET_CATALOG"].as_str().unwrap();
    let list = dev.toolfleet(&["tools", "list", "--catalog", catalog]).exits(0);
    list.prints(&["SAFE TO REPEAT", "counter", "flaky", "30.0 s"]);
    let live = dev.toolfleet(&["tools", "list", "--live", "--json"]).exits(0).json();
    assert_eq!(live["tools"].as_array().unwrap().len(), 6);
    assert_eq!(live["servers"][0]["server"], "demo");
    let names = |tools: &Value| {
        let tools = tools.as_array().unwrap().iter();
        tools.map(|t| t["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let listed = names(&live["servers"][0]["tools"]);
    assert!(listed.contains(&"counter".to_owned()), "{listed:?}");
    let url = dev.ready["mcp_url"].as_str().unwrap();
    let of_url = dev.toolfleet(&["tools", "list", "--url", url, "--json"]).exits(0).json();
    assert_eq!(names(&of_url["tools"]), listed);
    dev.toolfleet(&["tools", "list", "--live"])
        .exits(0)
        .prints(&["server demo at http://127.0.0.1", "READ ONLY"]);
}

#[test]
fn a_server_that_does_not_answer_is_said_and_its_registered_tools_are_listed_all_the_same() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        r#"{{"servers": [{{"id": "gone", "url": "http://{free}/mcp"}},
            {{"id": "closed", "url": "http://{free}/mcp", "headers": {{"authorization": "Bearer secret://key"}}}}],
            "tools": [{{"id": "x", "server": "gone"}}], "tenants": {{"queue": ["*"]}}}}"#
    );
    let path = file(&directory("gone-server"), "catalog.json", &text);
    let ran = toolfleet(&["tools", "list", "--live", "--catalog", &path]).exits(1);
    ran.prints(&[
        "server gone at",
        "cannot connect to the server",
        "secret `key`: no AWS credentials were found",
    ]);
    toolfleet(&["tools", "list", "--url", &format!("http://{free}/mcp")])
        .exits(4)
        .complains(&["cannot connect"]);
}

#[test]
fn a_signal_ends_it_and_a_data_directory_keeps_what_was_sent() {
    let directory = directory("kept");
    let kept = directory.display().to_string();
    let dev = Dev::start(&["--no-worker", "--data-dir", &kept]);
    let catalog = dev.ready["env"]["TOOLFLEET_CATALOG"].as_str().unwrap().to_owned();
    assert!(catalog.starts_with(&kept), "{catalog}");
    dev.toolfleet(&[
        "send",
        "--tenant",
        "acme",
        "--tool",
        "echo",
        "--arguments",
        r#"{"text": "kept"}"#,
        "--call-id",
        "k",
    ])
    .exits(0);
    let (code, said) = dev.terminate();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("SIGTERM"), "{said}");

    let dev = Dev::start(&["--data-dir", &kept]);
    let wait = [
        "call",
        "--tenant",
        "acme",
        "--tool",
        "echo",
        "--arguments",
        r#"{"text": "kept"}"#,
        "--call-id",
        "k",
    ];
    assert_eq!(dev.toolfleet(&wait).exits(0).stdout, "kept\n");
    let (code, said) = dev.terminate();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_catalog_that_changes_is_taken_while_the_fleet_runs() {
    let directory = directory("changed-catalog");
    let dev = Dev::start(&["--data-dir", &directory.display().to_string()]);
    let path = directory.join("catalog.json");
    let mut catalog: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let mut tool = catalog["tools"].as_array().unwrap().iter().find(|t| t["id"] == "echo").unwrap().clone();
    tool["id"] = "again".into();
    tool["name"] = "echo".into();
    catalog["tools"].as_array_mut().unwrap().push(tool);
    std::fs::write(directory.join("next.json"), catalog.to_string()).unwrap();
    std::fs::rename(directory.join("next.json"), &path).unwrap();
    // The fleet looks once a second; until then the tool is refused as unknown.
    let call = |n: u32| {
        let id = format!("call-{n}");
        let arguments = r#"{"text": "hello"}"#;
        dev.toolfleet(&[
            "call",
            "--tenant",
            "acme",
            "--tool",
            "again",
            "--arguments",
            arguments,
            "--call-id",
            &id,
        ])
    };
    assert!((0..60).any(|n| call(n).stdout == "hello\n"));
}

#[test]
fn a_temporary_catalog_goes_with_its_fleet() {
    let dev = Dev::start(&["--no-worker"]);
    let catalog = dev.ready["env"]["TOOLFLEET_CATALOG"].as_str().unwrap().to_owned();
    assert!(std::fs::exists(&catalog).unwrap());
    assert_eq!(dev.terminate().0, 0);
    assert!(!std::fs::exists(&catalog).unwrap(), "{catalog}");
}

#[test]
fn what_dev_prints_for_people_is_a_script_that_sets_variables() {
    let mut child = Command::new(crate::run::BINARY)
        .args(["dev", "--port-base", "0", "--no-worker"])
        .env_clear()
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    // The line that says that it runs is the last one of its start.
    while !said.ends_with("ready; Ctrl-C stops it\n") {
        assert!(std::io::BufRead::read_line(&mut stderr, &mut said).unwrap() > 0, "{said}");
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let script = String::from_utf8(output.stdout).unwrap();
    assert!(script.lines().all(|line| line.starts_with('#') || line.starts_with("export ")), "{script}");
    assert!(
        script.contains("export TOOLFLEET_CATALOG=") && script.contains("#   toolfleet call"),
        "{script}"
    );
    let check = Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
    assert!(check.success());
}

#[test]
fn a_fleet_that_is_gone_is_trouble_of_our_own() {
    let dev = Dev::start(&["--no-worker"]);
    let environment = dev.ready["env"].clone();
    let url = dev.ready["queue_url"].as_str().unwrap().to_owned();
    assert_eq!(dev.terminate().0, 0);
    let mut command = Command::new(crate::run::BINARY);
    command.args(["queue", "status", "--json", "--queue-url", &url]).env_clear();
    for (name, value) in environment.as_object().unwrap() {
        command.env(name, value.as_str().unwrap());
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["error"]["kind"], "trouble");
}

#[test]
fn a_queue_that_does_not_exist_is_a_wrong_configuration() {
    let dev = Dev::start(&["--no-worker"]);
    let wrong = dev.ready["queue_url"].as_str().unwrap().replace("toolfleet-calls", "toolfleet-cals");
    let ran = dev.toolfleet(&["queue", "status", "--queue-url", &wrong]).exits(2);
    ran.complains(&["no such queue; check TOOLFLEET_QUEUE_URL"]);
    let ran = dev.toolfleet(&["result", "acme", "c1", "--table-prefix", "other"]).exits(2);
    ran.complains(&["other-calls", "no such resource"]);
}

#[test]
fn what_is_missing_on_the_way_to_a_fleet_is_named_with_its_remedy_and_no_secret_is_printed() {
    let dev = Dev::start(&["--no-worker"]);
    let status = ["queue", "status"];
    let no_region = [("AWS_REGION", ""), ("AWS_DEFAULT_REGION", "")];
    dev.toolfleet_but(&no_region, &status).exits(2).complains(&["no AWS region is set", "AWS_REGION"]);
    let no_credentials =
        [("AWS_ACCESS_KEY_ID", ""), ("AWS_SECRET_ACCESS_KEY", ""), ("AWS_EC2_METADATA_DISABLED", "true")];
    let ran = dev.toolfleet_but(&no_credentials, &status).exits(2);
    assert_eq!(ran.stderr.lines().count(), 2, "the chain of providers is left out: {}", ran.stderr);
    ran.complains(&["no AWS credentials were found", "AWS_PROFILE", "`toolfleet dev`"]);
    let away = [("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1"), ("AWS_SECRET_ACCESS_KEY", "hush-hush")];
    let ran = dev.toolfleet_but(&away, &["--log", "trace", "queue", "status"]).exits(4);
    assert!(!ran.stderr.contains("hush-hush"), "a secret is printed");
    ran.complains(&["nothing answers there", "AWS_ENDPOINT_URL_", "`toolfleet dev`"]);
    let nowhere = [("TOOLFLEET_TABLE_PREFIX", "nowhere")];
    dev.toolfleet_but(&nowhere, &["result", "acme", "c1"]).exits(2).complains(&[
        "nowhere-calls",
        "no such resource",
        "TOOLFLEET_TABLE_PREFIX",
    ]);
    let queue = dev.ready["queue_url"].as_str().unwrap().replace("toolfleet-calls", "elsewhere");
    dev.toolfleet(&["queue", "status", "--queue-url", &queue]).exits(2).complains(&[
        "elsewhere",
        "no such queue",
        "TOOLFLEET_QUEUE_URL",
    ]);
}

#[test]
fn a_wait_that_is_interrupted_says_that_the_call_goes_on() {
    let dev = Dev::start(&["--no-worker"]);
    let sent = || dev.toolfleet(&["queue", "status", "--json"]).exits(0).json()["queues"][0]["visible"] == 1;
    let args = ["call", "--tenant", "acme", "--tool", "echo", "--call-id", "auth0|c1", "--json"];
    let ran = dev.interrupt(&args, sent).exits(3);
    ran.complains(&[
        "call auth0|c1 of tenant acme",
        "the call goes on",
        "toolfleet result acme 'auth0|c1'",
        "toolfleet cancel --tenant acme --call-id 'auth0|c1'",
    ]);
    let error = &ran.json()["error"];
    assert_eq!((&error["kind"], &error["call_id"]), (&"interrupted".into(), &"auth0|c1".into()));
}

#[test]
fn a_call_for_a_tenant_that_is_not_allowed_ends_at_once_and_says_so() {
    let folder = directory("stranger");
    let catalog = r#"{"servers": [], "tools": [], "tenants": {"queue": ["acme"]}}"#;
    let dev = Dev::start(&["--catalog", &file(&folder, "catalog.json", catalog)]);
    let call = ["call", "--tenant", "globex", "--tool", "echo", "--session", "s-1", "--wait-ms", "60000"];
    let refused = dev.toolfleet(&call).exits(1);
    refused.complains(&["refused (tenant_not_allowed)", "may not speak for tenant `globex`"]);
    let json = dev.toolfleet(&[&call[..], &["--call-id", "c1", "--json"]].concat()).exits(1).json();
    let seen = (&json["call_id"], &json["outcome"], &json["error"]["code"]);
    assert_eq!(seen, (&"c1".into(), &"refused".into(), &"tenant_not_allowed".into()));
    let sent = dev.toolfleet(&["send", "--tenant", "globex", "--tool", "echo", "--json"]).exits(0).json();
    dev.at_rest();
    let message_id = sent["message_id"].as_str().unwrap();
    dev.toolfleet(&["result", "_message", message_id]).exits(1).complains(&["refused (tenant_not_allowed)"]);
}

#[test]
fn every_error_after_the_id_is_made_up_carries_it() {
    let dev = Dev::start(&[]);
    let call = ["call", "--tenant", "acme", "--tool", "echo", "--call-id", "c1", "--json"];
    let gone = [("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:1"), ("AWS_MAX_ATTEMPTS", "1")];
    let ran = dev.toolfleet_but(&gone, &call);
    ran.complains(&["call c1 of tenant acme", "this was call c1 of tenant acme"]);
    let error = &ran.json()["error"];
    assert_eq!((&error["tenant"], &error["call_id"]), (&"acme".into(), &"c1".into()), "{error}");
    let made_up = dev.toolfleet_but(&gone, &["call", "--tenant", "acme", "--tool", "echo", "--json"]);
    assert!(made_up.json()["error"]["call_id"].as_str().is_some_and(|id| id.len() == 36));
}

#[test]
fn history_is_read_whole_between_two_instants_and_as_json_lines() {
    let dev = Dev::start(&[]);
    for n in 0..3 {
        let id = format!("c{n}");
        let tool = if n == 1 { "ecko" } else { "echo" };
        let call =
            ["call", "--tenant", "acme", "--tool", tool, "--call-id", &id, "--arguments", r#"{"text":"x"}"#];
        dev.toolfleet(&call).exits(i32::from(n == 1));
    }
    dev.at_rest();
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
    history(&["--until", "1h"]).complains(&["no records of tenant acme between"]);
    for which in [vec!["--call-id", "c1"], vec!["--failed"]] {
        let found = history(&[&["--json"], &which[..]].concat()).json();
        assert_eq!(found["records"].as_array().unwrap().len(), 1, "{which:?}: {found}");
    }
    let wrong = ["history", "--tenant", "acme", "--since", "1h", "--until", "2h"];
    dev.toolfleet(&wrong).exits(2).complains(&["--until", "lies before --since"]);
}

#[test]
fn a_session_is_planned_created_granted_and_revoked_and_its_calls_are_held_to_it() {
    let dev = Dev::start(&[]);
    let verb = |verb: &'static str, rest: &[&'static str]| {
        let named = ["sessions", verb, "--tenant", "acme", "--session", "s1"];
        dev.toolfleet(&named.into_iter().chain(rest.iter().copied()).collect::<Vec<_>>())
    };
    let end = ["--grant", "echo", "--ends-at", "2100-01-01T00:00:00Z"];
    let planned = verb("create", &end).exits(0);
    planned.complains(&["nothing is changed yet; add --apply"]);
    is_golden("sessions-plan.txt", &planned.stdout);
    verb("show", &[]).exits(3).complains(&["nobody registered session s1 of tenant acme"]);
    let all: Vec<_> = end.into_iter().chain(["--apply"]).collect();
    verb("create", &all).exits(0).complains(&["within 60 s"]);
    verb("create", &all).exits(2).complains(&["session `s1` exists already", "another id"]);
    is_golden("sessions-show.txt", &verb("show", &[]).exits(0).stdout);

    verb("grant", &["--withdraw", "add"]).exits(2).complains(&["--withdraw: `add` is not granted", "echo"]);
    let granted = verb("grant", &["--grant", "demo/*", "--apply", "--json"]).exits(0).json();
    assert_eq!(
        (&granted["applied"], &granted["changes"][0]["to"]),
        (&Value::Bool(true), &"echo, demo/*".into())
    );
    let call =
        ["call", "--tenant", "acme", "--tool", "echo", "--session", "s1", "--arguments", r#"{"text": "x"}"#];
    assert_eq!(dev.toolfleet(&call).exits(0).stdout, "x\n");

    verb("expire", &["--ends-in", "2h"]).exits(0).complains(&["add --apply"]);
    verb("revoke", &["--apply"]).exits(0);
    let shown = verb("show", &["--json"]).exits(0).json();
    assert_eq!((&shown["state"], &shown["grants"][1]), (&"ended".into(), &"demo/*".into()));
    verb("expire", &["--apply"]).exits(2).complains(&["an end is never taken back"]);
    verb("grant", &["--grant", "add", "--apply"]).exits(2).complains(&["session `s1` ended at"]);
}

/// A catalog file whose server `files` is the scripted program that the workers' own tests use.
fn catalog_of_a_program(directory: &std::path::Path, more: &Value) -> String {
    let script = include_str!("../../../../shared/testkit/src/child.sh");
    let mut server = serde_json::json!({
        "id": "files", "command": "sh", "args": ["-c", script, "child", directory], "discover": true
    });
    for (field, value) in more.as_object().unwrap() {
        server[field] = value.clone();
    }
    let text = serde_json::json!({
        "servers": [server], "tools": [{"id": "read", "server": "files", "name": "echo"}], "tenants": {"queue": ["*"]}
    });
    file(directory, "catalog.json", &text.to_string())
}

#[test]
fn a_server_that_is_a_program_is_listed_and_called_and_ends_with_the_fleet() {
    let directory = directory("program");
    let catalog = catalog_of_a_program(&directory, &serde_json::json!({}));
    let live = toolfleet(&["tools", "list", "--live", "--catalog", &catalog]).exits(0);
    live.prints(&["server files at `sh` (stdio) lists:", "echo", "pay"]);
    let dev = Dev::start(&["--catalog", &catalog]);
    let called = dev.toolfleet(&["call", "--tenant", "acme", "--tool", "read", "--arguments", "{}"]).exits(0);
    let process: u32 = called.stdout.split(' ').next().unwrap().parse().unwrap();
    assert!(std::fs::exists(format!("/proc/{process}")).unwrap());
    let (code, said) = dev.terminate();
    assert_eq!(code, 0, "{said}");
    let log = std::fs::read_to_string(directory.join("log")).unwrap();
    for started in log.lines().filter_map(|line| line.strip_prefix("start ")) {
        assert!(!std::fs::exists(format!("/proc/{started}")).unwrap(), "{log}");
    }
}

#[test]
fn what_keeps_a_program_from_being_started_is_said_with_its_remedy() {
    let directory = directory("no-program");
    let catalog = catalog_of_a_program(&directory, &serde_json::json!({"command": "/no/such/program"}));
    let live = toolfleet(&["tools", "list", "--live", "--catalog", &catalog]).exits(1);
    live.prints(&["`/no/such/program` (stdio): ", "cannot be started", "No such file"]);
    let secret = serde_json::json!({"env": {"KEY": "secret://key"}});
    let catalog = catalog_of_a_program(&directory, &secret);
    let live = toolfleet(&["tools", "list", "--live", "--catalog", &catalog]).exits(1);
    live.prints(&["`sh` (stdio): ", "secret `key`: no AWS credentials were found"]);
    let catalog = catalog_of_a_program(&directory, &serde_json::json!({"url": "http://127.0.0.1/mcp"}));
    let both = toolfleet(&["tools", "list", "--catalog", &catalog]).exits(2);
    both.complains(&["servers.files.command: stands beside `url`"]);
    let both = toolfleet(&["dev", "--catalog", &catalog]).exits(2);
    both.complains(&["servers.files.command: stands beside `url`"]);
}
