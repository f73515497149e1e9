//! `toolfleet doctor` and `toolfleet catalog check` against a fleet on this machine.

use serde_json::{Value, json};
use toolfleet_testkit::{EchoFault, EchoHttp, LambdaFault, MockLambda};

use crate::run::{Dev, directory, file, toolfleet};

/// The verdict on a check, and the text.
fn of<'a>(document: &'a Value, check: &str) -> Vec<(&'a str, &'a str)> {
    let findings = document["findings"].as_array().unwrap().iter();
    let found = findings.filter(|finding| finding["check"] == check);
    found.map(|finding| (finding["verdict"].as_str().unwrap(), finding["text"].as_str().unwrap())).collect()
}

#[test]
fn a_fleet_that_works_has_nothing_that_failed() {
    let dev = Dev::start(&[]);
    assert!((0..1_000).any(|_| dev.toolfleet(&["workers"]).code == 0), "no worker ever reports");
    let ran = dev.toolfleet(&["doctor"]).exits(0);
    ran.prints(&[
        "queues\n",
        "  ok      toolfleet-calls: ",
        "tables\n",
        "workers\n",
        "catalog\n",
        " 0 failed",
    ]);
    let document = dev.toolfleet(&["doctor", "--json"]).exits(0).json();
    assert_eq!(document["failed"], 0, "{document}");
    assert_eq!(of(&document, "table-answers").len(), 4);
    assert_eq!(of(&document, "servers-list")[0].0, "ok");
}

#[test]
fn a_fleet_without_workers_fails_and_is_well_before_a_deployment() {
    let dev = Dev::start(&["--no-worker"]);
    let ran = dev.toolfleet(&["doctor"]).exits(1);
    ran.prints(&[
        "FAILED  workers: none runs",
        "do:  toolfleet-worker",
        "see: docs/reference/doctor.md#workers-run",
    ]);
    dev.toolfleet(&["doctor", "--pre"]).exits(0).prints(&[" 0 failed"]);
    let pause = ["pause", "tool", "echo", "--why", "it drops orders", "--by", "ann"];
    dev.toolfleet(&pause).exits(0);
    let document = dev.toolfleet(&["doctor", "--json"]).exits(1).json();
    assert_eq!(
        of(&document, "nothing-paused")[0],
        ("look", "calls are held back by 1 setting of operators (pause, strike)")
    );
}

#[test]
fn a_missing_table_bucket_or_queue_is_named() {
    let dev = Dev::start(&["--no-worker"]);
    let wrong = [("TOOLFLEET_TABLE_PREFIX", "nowhere"), ("TOOLFLEET_PAYLOAD_BUCKET", "no-such-bucket")];
    let document = dev.toolfleet_but(&wrong, &["doctor", "--pre", "--json"]).exits(1).json();
    let tables = of(&document, "table-answers");
    assert!(
        tables.iter().all(|(verdict, text)| *verdict == "failed" && text.contains("nowhere-")),
        "{tables:?}"
    );
    assert_eq!(of(&document, "bucket-answers")[0].0, "failed");
    assert_eq!(of(&document, "queue-answers")[0].0, "ok");
    let queue = dev.ready["queue_url"].as_str().unwrap().replace("toolfleet-calls", "elsewhere");
    let document = dev.toolfleet(&["doctor", "--pre", "--json", "--queue-url", &queue]).exits(1).json();
    let (verdict, text) = of(&document, "queue-answers")[0];
    assert_eq!(verdict, "failed");
    assert!(text.contains("no such queue"), "{text}");
}

#[test]
fn no_fleet_is_a_finding_and_the_catalog_is_still_checked() {
    let directory = directory("doctor-catalog");
    let catalog = json!({
        "servers": [{"id": "gone", "url": "http://127.0.0.1:1/mcp", "discover": true}],
        "tools": [], "tenants": {"queue": ["*"]},
    });
    let path = file(&directory, "catalog.json", &catalog.to_string());
    let ran = toolfleet(&["doctor", "--catalog", &path]).exits(1);
    ran.prints(&["FAILED  fleet: no fleet is configured", "0 tools on 1 server", "FAILED  gone: "]);
}

#[test]
fn a_catalog_is_checked_with_its_servers() {
    let dev = Dev::start(&["--no-worker"]);
    let mcp = dev.ready["mcp_url"].as_str().unwrap();
    let directory = directory("catalog-check");
    let catalog = json!({
        "servers": [
            {"id": "works", "url": mcp, "discover": true},
            {"id": "secret", "url": mcp, "discover": true, "auth": {"type": "bearer", "token": "secret://toolfleet/servers/none"}},
        ],
        "tools": [], "tenants": {"queue": ["*"]},
    });
    let path = file(&directory, "catalog.json", &catalog.to_string());
    let document = dev.toolfleet(&["catalog", "check", &path, "--json"]).exits(1).json();
    let lists = of(&document, "servers-list");
    assert_eq!(lists.iter().map(|(verdict, _)| *verdict).collect::<Vec<_>>(), ["failed", "ok"], "{lists:?}");
    assert!(lists[0].1.contains("toolfleet/servers/none"), "{lists:?}");
    let secrets = of(&document, "secrets-read");
    assert_eq!(secrets.len(), 1, "{secrets:?}");
    assert!(secrets[0].0 == "failed" && secrets[0].1.contains("toolfleet/servers/none"), "{secrets:?}");
    let broken = file(&directory, "broken.json", r#"{"servers": [{"id": "x"}]}"#);
    let document = dev.toolfleet(&["catalog", "check", &broken, "--json"]).json();
    assert_eq!(document["failed"], 1, "{document}");
}

fn subjects<'a>(document: &'a Value, check: &str) -> Vec<(&'a str, &'a str)> {
    let findings = document["findings"].as_array().unwrap().iter();
    let found = findings.filter(|finding| finding["check"] == check);
    found
        .map(|finding| (finding["subject"].as_str().unwrap(), finding["verdict"].as_str().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_are_asked_whether_they_may_be_invoked_and_run_no_tool() {
    let (dev, lambda) = (Dev::start(&["--no-worker"]), MockLambda::start().await);
    lambda.function("plain", |_| json!("ran"));
    lambda.function("mcp", |invocation| {
        assert_eq!(invocation.event["method"], "tools/list");
        json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "quote", "description": "Quotes."}]}})
    });
    let arn = "arn:aws:lambda:eu-west-1:123456789012:function";
    let function = |name: &str, payload: &str| json!({"id": name, "lambda": format!("{arn}:{name}:live"), "payload": payload});
    let servers = [function("gone", "mcp"), function("mcp", "mcp"), function("plain", "bedrock")];
    let catalog = json!({"servers": servers, "tools": [], "tenants": {"queue": ["*"]}});
    let path = file(&directory("functions-check"), "catalog.json", &catalog.to_string());
    let url = lambda.url();
    let run = |args: &[&str]| {
        let endpoints = [("AWS_ENDPOINT_URL_LAMBDA", url.as_str()), ("AWS_ENDPOINT_URL_STS", url.as_str())];
        tokio::task::block_in_place(|| dev.toolfleet_but(&endpoints, args))
    };
    let document = run(&["catalog", "check", &path, "--json"]).exits(1).json();
    let found = subjects(&document, "functions-invocable");
    assert_eq!(found, [("gone", "failed"), ("mcp", "ok"), ("plain", "ok")], "{document}");
    assert_eq!(subjects(&document, "servers-list"), [("mcp", "ok")], "{document}");
    assert_eq!((lambda.executions("plain"), lambda.executions("mcp")), (0, 1));
    run(&["catalog", "check", &path]).exits(1).prints(&[
        "FAILED  gone: Lambda answered ResourceNotFoundException (HTTP 404)",
        "do:  aws lambda invoke --invocation-type DryRun --region eu-west-1 --function-name",
        "see: docs/reference/doctor.md#functions-invocable",
    ]);
    lambda.always(LambdaFault::service(403, "AccessDeniedException"));
    let document = run(&["catalog", "check", &path, "--json"]).exits(1).json();
    let found = subjects(&document, "functions-invocable");
    assert!(found.iter().all(|(_, verdict)| *verdict == "failed") && found.len() == 3, "{document}");
    lambda.behave();

    // What it lists can be approved, and a change is seen.
    let tools = |verb: &str, more: &[&str]| {
        let args: Vec<_> = ["tools", verb, "--catalog", &path].iter().chain(more).copied().collect();
        run(&args)
    };
    tools("list", &["--live"]).exits(1).prints(&["server mcp at", "quote", "Quotes."]);
    tools("approve", &["mcp/quote", "--apply"]).exits(0).prints(&["mcp/quote: not pinned", "approved"]);
    tools("diff", &[]).exits(0).prints(&["mcp/quote: as approved"]);
    lambda.function("mcp", |_| {
        json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "quote", "description": "Other."}]}})
    });
    tools("diff", &[]).exits(1).prints(&["mcp/quote: changed", "+ description: \"Other.\""]);
    lambda.next(LambdaFault::unhandled("ImportError", "no module"));
    tools("diff", &[]).exits(1).prints(&["mcp/quote: unknown", "the function reported an error (Unhandled)"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_interface_is_reached_without_calling_an_operation() {
    let (dev, echo) = (Dev::start(&["--no-worker"]), EchoHttp::start().await);
    let document = json!({"openapi": "3.0.4", "info": {"title": "t", "version": "1"},
        "paths": {"/x": {"get": {"operationId": "find", "responses": {}}}}});
    let interface = |id: &str, url: &str| json!({"id": id, "openapi": document, "url": format!("{url}/api")});
    let servers = [interface("gone", "http://127.0.0.1:1"), interface("here", echo.url())];
    let catalog = json!({"servers": servers, "tools": [], "tenants": {"queue": ["*"]}});
    let path = file(&directory("interfaces-check"), "catalog.json", &catalog.to_string());
    let run = || {
        tokio::task::block_in_place(|| dev.toolfleet(&["catalog", "check", &path, "--json"])).exits(1).json()
    };
    for status in [200, 404, 500, 401] {
        echo.next(EchoFault::status(status, ("x", "y"), "", false));
        let found = run();
        let here = if status == 401 { "failed" } else { "ok" };
        assert_eq!(
            subjects(&found, "interfaces-answer"),
            [("gone", "failed"), ("here", here)],
            "{status}: {found}"
        );
    }
    let requests = echo.requests();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|one| one.method == "HEAD" && one.target == "/api"), "{requests:?}");
}

/// An endpoint of Secrets Manager that denies everything, as AWS does for a role without the right.
fn denying() -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, mut request, mut part) = (stream.unwrap(), Vec::<u8>::new(), [0; 4096]);
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => request.extend(&part[..read]),
                }
            }
            let body = r#"{"__type":"AccessDeniedException","Message":"User is not authorized to perform: secretsmanager:GetSecretValue"}"#;
            let head = format!(
                "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\ncontent-length: {}",
                body.len()
            );
            // The client may have gone.
            let _gone = write!(stream, "{head}\r\n\r\n{body}");
        }
    });
    url
}

#[test]
fn a_secret_that_is_denied_to_this_role_is_no_failure() {
    let dev = Dev::start(&["--no-worker"]);
    let mcp = dev.ready["mcp_url"].as_str().unwrap();
    let auth = json!({"type": "bearer", "token": "secret://toolfleet/servers/crm"});
    let catalog = json!({
        "servers": [{"id": "crm", "url": mcp, "discover": true, "auth": auth}], "tools": [], "tenants": {"queue": ["*"]},
    });
    let path = file(&directory("doctor-denied"), "catalog.json", &catalog.to_string());
    let endpoint = denying();
    let but = [("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint.as_str())];
    let document =
        dev.toolfleet_but(&but, &["doctor", "--pre", "--catalog", &path, "--json"]).exits(0).json();
    let (verdict, text) = of(&document, "secrets-read")[0];
    assert!(verdict == "look" && text.contains("workers may be allowed"), "{document}");
    let (verdict, text) = of(&document, "servers-list")[0];
    assert!(verdict == "look" && text.contains("its secret is denied to this role"), "{document}");
}

#[test]
fn queues_are_compared_with_the_function_that_is_their_worker() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dev, folder) = (Dev::start(&["--no-worker"]), directory("doctor-function"));
    let program = |script: &str| {
        let path = file(&folder, "aws", script);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let ask = |code| {
        let args = ["doctor", "--pre", "--json", "--worker-function", "toolfleet-worker"];
        dev.toolfleet_but(&[("PATH", &path)], &args).exits(code).json()
    };
    for (time_out_s, code, verdict) in [(5, 0, "ok"), (30, 0, "look"), (31, 1, "failed")] {
        program(&format!(
            "#!/bin/sh\nprintf '%s' '{{\"FunctionName\": \"x\", \"Timeout\": {time_out_s}}}'\n"
        ));
        let document = ask(code);
        let queues = ["toolfleet-calls", "toolfleet-calls-high", "toolfleet-calls-low"];
        assert_eq!(
            subjects(&document, "invocations-hidden"),
            queues.map(|queue| (queue, verdict)),
            "{document}"
        );
    }
    program("#!/bin/sh\necho 'An error occurred (AccessDeniedException)' >&2; exit 254\n");
    let document = ask(0);
    let (verdict, text) = of(&document, "invocations-hidden")[0];
    assert!(verdict == "look" && text.contains("lambda:GetFunctionConfiguration"), "{document}");
}
