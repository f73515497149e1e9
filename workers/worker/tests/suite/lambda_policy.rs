//! What each answer of Lambda, and each error of a function, means: every row of docs/reference/lambda.md, proved through SQS and a
//! worker.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::State;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{LambdaFault, MockLambda};

use crate::lambda::{ARN, rig};
use crate::policy_table::Ends;
use crate::rig::{Rig, SENDER, limits, request};

/// Worlds in which cases run at the same time.
const LANES: usize = 4;

struct Case {
    name: String,
    tool: &'static str,
    once: bool,
    fault: Option<LambdaFault>,
    ends: Ends,
    /// How often it was invoked, how often the function ran, and the attempts on record.
    counts: (usize, u64, u32),
}

const SUCCEEDED: Ends = Ends { kind: OutcomeKind::Succeeded, code: None, ran: None };

const fn failed(code: &'static str, ran: MayHaveRun) -> Ends {
    Ends { kind: OutcomeKind::Failed, code: Some(code), ran: Some(ran) }
}

const fn unknown(code: &'static str) -> Ends {
    Ends { kind: OutcomeKind::OutcomeUnknown, code: Some(code), ran: Some(MayHaveRun::Unknown) }
}

fn once(tool: &'static str, fault: LambdaFault, ends: Ends, counts: (usize, u64, u32)) -> Case {
    Case { name: format!("{fault:?} once"), tool, once: true, fault: Some(fault), ends, counts }
}

fn always(tool: &'static str, fault: LambdaFault, ends: Ends, counts: (usize, u64, u32)) -> Case {
    Case { name: format!("{fault:?}"), tool, once: false, fault: Some(fault), ends, counts }
}

/// A fault that leaves open whether the function ran: not repeated, repeated, and repeated in vain.
fn ambiguous(fault: LambdaFault, code: &'static str, ran: u64) -> Vec<Case> {
    vec![
        once("unsafe", fault.clone(), unknown(code), (1, ran, 1)),
        once("safe", fault.clone(), SUCCEEDED, (2, 1 + ran, 2)),
        always("safe", fault, failed(code, MayHaveRun::Unknown), (3, 3 * ran, 3)),
    ]
}

/// An error that says that the function did not run and that a repetition does not change.
fn refused(status: u16, codes: &[&str], code: &'static str) -> Vec<Case> {
    let fault = |name: &&str| LambdaFault::service(status, name);
    let case = |name| always("unsafe", fault(name), failed(code, MayHaveRun::No), (1, 0, 1));
    codes.iter().map(case).collect()
}

/// An error that says that the function did not run and that passes.
fn passing(status: u16, codes: &[&str]) -> Vec<Case> {
    let case = |name: &&str| once("unsafe", LambdaFault::service(status, name), SUCCEEDED, (2, 1, 1));
    codes.iter().map(case).collect()
}

fn tool_error() -> Vec<Case> {
    let ends =
        Ends { kind: OutcomeKind::ToolError, code: Some("tool_reported_error"), ran: Some(MayHaveRun::Yes) };
    let handled = LambdaFault::RunThenError {
        kind: "Handled".to_owned(),
        body: json!({"errorMessage": "no such order"}).to_string(),
    };
    vec![
        always("safe", LambdaFault::unhandled("ValueError", "no such order"), ends, (1, 1, 1)),
        always("safe", handled, ends, (1, 1, 1)),
    ]
}

fn throttled() -> Vec<Case> {
    let after = |retry_after| LambdaFault::Service {
        status: 429,
        code: "TooManyRequestsException".to_owned(),
        retry_after,
    };
    vec![
        once("unsafe", after(None), SUCCEEDED, (2, 1, 1)),
        once("unsafe", after(Some(300)), SUCCEEDED, (2, 1, 1)),
        once("unsafe", LambdaFault::service(502, "EC2ThrottledException"), SUCCEEDED, (2, 1, 1)),
        once("unsafe", LambdaFault::service(429, ""), SUCCEEDED, (2, 1, 1)),
        once("unsafe", LambdaFault::service(400, "ThrottlingException"), SUCCEEDED, (2, 1, 1)),
        once("unsafe", LambdaFault::service(402, "ServiceQuotaExceededException"), SUCCEEDED, (2, 1, 1)),
    ]
}

fn misconfigured() -> Vec<Case> {
    let codes = [
        "KMSAccessDeniedException",
        "KMSDisabledException",
        "KMSInvalidStateException",
        "KMSNotFoundException",
        "EC2AccessDeniedException",
        "InvalidSecurityGroupIDException",
        "InvalidSubnetIDException",
        "InvalidRuntimeException",
        "InvalidZipFileException",
        "CodeArtifactUserDeletedException",
        "CodeArtifactUserFailedException",
    ];
    let mut cases = refused(502, &codes, "server_error");
    cases.extend(refused(404, &["ResourceNotFoundException"], "server_error"));
    let bad = ["RecursiveInvocationException", "NoPublishedVersionException", "ModeNotSupportedException"];
    cases.extend(refused(400, &bad, "server_error"));
    cases
}

fn not_started() -> Vec<Case> {
    let mut cases = passing(
        502,
        &[
            "ResourceNotReadyException",
            "ENILimitReachedException",
            "ENINotReadyException",
            "SubnetIPAddressLimitReachedException",
            "EC2UnexpectedException",
            "CodeArtifactUserPendingException",
        ],
    );
    cases.extend(passing(
        409,
        &["SnapStartNotReadyException", "SnapStartRegenerationFailureException", "ResourceConflictException"],
    ));
    cases.extend(passing(
        408,
        &[
            "SnapStartTimeoutException",
            "EFSMountTimeoutException",
            "EFSMountConnectivityException",
            "S3FilesMountTimeoutException",
        ],
    ));
    cases.extend(passing(
        400,
        &[
            "SnapStartException",
            "EFSMountFailureException",
            "S3FilesMountConnectivityException",
            "S3FilesMountFailureException",
        ],
    ));
    cases
}

fn broke_off() -> Vec<Case> {
    let mut cases = ambiguous(
        LambdaFault::unhandled("Runtime.ExitError", "RequestId: 1 Error: Runtime exited with error"),
        "server_error",
        1,
    );
    cases.extend(ambiguous(
        LambdaFault::RunThenError { kind: "Unhandled".to_owned(), body: "{}".to_owned() },
        "server_error",
        1,
    ));
    cases
}

fn answer_lost() -> Vec<Case> {
    let mut cases = ambiguous(LambdaFault::RunThenClose, "answer_lost", 1);
    cases.extend(ambiguous(LambdaFault::RunThenCut, "answer_lost", 1));
    cases
}

fn service_failed() -> Vec<Case> {
    let fault = |status, code: &str| LambdaFault::RunThenService { status, code: code.to_owned() };
    let mut cases = ambiguous(fault(500, "ServiceException"), "server_error", 1);
    cases.extend(ambiguous(fault(410, "EFSIOException"), "server_error", 1));
    cases.extend(ambiguous(fault(504, ""), "server_error", 1));
    cases.push(always("unsafe", fault(418, "NovelException"), unknown("server_error"), (1, 1, 1)));
    cases
}

/// Errors of the functions that are MCP servers: they mean what they mean over HTTP.
fn of_messages() -> Vec<Case> {
    let error =
        |code: i64| json!({"jsonrpc": "2.0", "id": 1, "error": {"code": code, "message": "no"}}).to_string();
    let response = |status: u16, body: &str| {
        LambdaFault::RunThenAnswer(
            json!({"statusCode": status, "headers": {"retry-after": "3"}, "body": body}).to_string(),
        )
    };
    let message = |code| LambdaFault::RunThenAnswer(error(code));
    let mut cases = Vec::new();
    for (unsafe_tool, safe_tool, internal) in
        [("mcp", "mcp-safe", message(-32_603)), ("gateway", "gateway-safe", response(200, &error(-32_603)))]
    {
        cases.push(always(unsafe_tool, internal.clone(), unknown("rpc_error"), (1, 1, 1)));
        cases.push(once(safe_tool, internal.clone(), SUCCEEDED, (2, 2, 2)));
        cases.push(always(safe_tool, internal, failed("rpc_error", MayHaveRun::Unknown), (3, 3, 3)));
    }
    cases.push(always("mcp", message(-32_602), failed("rpc_error", MayHaveRun::No), (1, 1, 1)));
    cases.push(always("mcp", message(7), unknown("rpc_error"), (1, 1, 1)));
    cases.push(once("gateway", response(429, ""), SUCCEEDED, (2, 2, 1)));
    cases.push(always("gateway", response(500, "oh"), unknown("server_error"), (1, 1, 1)));
    cases.push(once("gateway-safe", response(502, "oh"), SUCCEEDED, (2, 2, 2)));
    cases.push(always("gateway", response(401, "who"), failed("unauthorized", MayHaveRun::No), (1, 1, 1)));
    cases.push(always("gateway", response(403, "no"), failed("forbidden", MayHaveRun::No), (1, 1, 1)));
    cases.push(always("gateway", response(400, "no"), failed("server_error", MayHaveRun::No), (1, 1, 1)));
    cases.push(always("gateway", response(409, "no"), unknown("server_error"), (1, 1, 1)));
    let tool_error =
        Ends { kind: OutcomeKind::ToolError, code: Some("tool_reported_error"), ran: Some(MayHaveRun::Yes) };
    let reported =
        r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true,"content":[{"type":"text","text":"no"}]}}"#;
    cases.push(always("mcp-safe", LambdaFault::RunThenAnswer(reported.to_owned()), tool_error, (1, 1, 1)));
    cases
}

/// By the first column of the document.
fn rows() -> Vec<(&'static str, Vec<Case>)> {
    let not_loaded = json!({"errorType": "Runtime.ImportModuleError", "errorMessage": "No module named 'x'"});
    let not_loaded = LambdaFault::Error { body: not_loaded.to_string() };
    let timed_out =
        LambdaFault::unhandled("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 3.00 seconds");
    let too_large = LambdaFault::unhandled("Function.ResponseSizeTooLarge", "Response payload size exceeded");
    let no_form = LambdaFault::RunThenAnswer("{\"response\":{}}".to_owned());
    let no_json = LambdaFault::RunThenAnswer("<html>".to_owned());
    vec![
        (
            "an answer of the payload form",
            vec![Case {
                name: "well".to_owned(),
                tool: "unsafe",
                once: false,
                fault: None,
                ends: SUCCEEDED,
                counts: (1, 1, 1),
            }],
        ),
        ("`FunctionError` of the tool's own code", tool_error()),
        ("`FunctionError`: time-out of the function", ambiguous(timed_out, "attempt_timed_out", 1)),
        ("`FunctionError`: process ended, out of memory, no words", broke_off()),
        (
            "`FunctionError`: the code cannot be loaded",
            vec![always("unsafe", not_loaded, failed("server_error", MayHaveRun::No), (1, 0, 1))],
        ),
        (
            "`FunctionError`: answer above 6 MB; answer above the worker's bound",
            vec![
                always("unsafe", too_large.clone(), unknown("answer_too_large"), (1, 1, 1)),
                always("safe", too_large, failed("answer_too_large", MayHaveRun::Unknown), (1, 1, 1)),
                always(
                    "unsafe",
                    LambdaFault::RunThenAnswer(format!("\"{}\"", "x".repeat(200_000))),
                    unknown("answer_too_large"),
                    (1, 1, 1),
                ),
            ],
        ),
        (
            "an answer that does not have the payload form",
            vec![
                always("bedrock", no_form, unknown("invalid_answer"), (1, 1, 1)),
                always("unsafe", no_json, unknown("invalid_answer"), (1, 1, 1)),
            ],
        ),
        ("throttles: `TooManyRequestsException`, `EC2ThrottledException`, HTTP 429", throttled()),
        ("the function, its network, file system or snapshot is not ready", not_started()),
        ("the function does not exist or cannot be started as it is configured", misconfigured()),
        (
            "`InvalidRequestContentException`, `InvalidParameterValueException`, `UnsupportedMediaTypeException`",
            refused(
                400,
                &[
                    "InvalidRequestContentException",
                    "InvalidParameterValueException",
                    "UnsupportedMediaTypeException",
                ],
                "server_error",
            ),
        ),
        (
            "the event is larger than 6 MB",
            refused(
                413,
                &["RequestTooLargeException", "SerializedRequestEntityTooLargeException"],
                "request_too_large",
            ),
        ),
        (
            "`DurableExecutionAlreadyStartedException`: the execution of this name was begun with another event",
            vec![always(
                "durable",
                LambdaFault::service(409, "DurableExecutionAlreadyStartedException"),
                failed("server_error", MayHaveRun::Unknown),
                (1, 0, 1),
            )],
        ),
        (
            "the role cannot be assumed",
            vec![Case {
                name: "a role of another account".to_owned(),
                tool: "role",
                once: false,
                fault: None,
                ends: failed("credential_unavailable", MayHaveRun::No),
                counts: (0, 0, 0),
            }],
        ),
        ("`mcp`, `api-gateway`: a JSON-RPC error, or a status of the response", of_messages()),
        ("`AccessDeniedException`", refused(403, &["AccessDeniedException"], "forbidden")),
        (
            "keys or signature are not accepted",
            refused(
                403,
                &[
                    "UnrecognizedClientException",
                    "InvalidSignatureException",
                    "SignatureDoesNotMatch",
                    "IncompleteSignatureException",
                    "MissingAuthenticationTokenException",
                    "InvalidClientTokenId",
                ],
                "unauthorized",
            ),
        ),
        ("the keys have expired", passing(403, &["ExpiredTokenException"])),
        (
            "`ServiceException`, `EFSIOException`, any other 5xx; any error that is not named here",
            service_failed(),
        ),
        (
            "no connection",
            vec![Case {
                name: "away".to_owned(),
                tool: "away",
                once: false,
                fault: None,
                ends: failed("server_unreachable", MayHaveRun::No),
                counts: (0, 0, 1),
            }],
        ),
        ("the connection ends without the whole answer", answer_lost()),
        ("no answer in the attempt's time", ambiguous(LambdaFault::RunThenHold, "attempt_timed_out", 1)),
    ]
}

fn catalog(timeout_ms: u64) -> Value {
    let function =
        |id: &str, payload: &str| json!({"id": id, "lambda": format!("{ARN}:f"), "payload": payload});
    let with = |mut server: Value, field: &str, value: Value| {
        server[field] = value;
        server
    };
    let durable = with(function("durable", "arguments"), "durable", json!(true));
    let durable = with(durable, "lambda", json!(format!("{ARN}:f:live")));
    let role =
        with(function("role", "arguments"), "role_arn", json!("arn:aws:iam::210987654321:role/invoke"));
    json!({
        "servers": [function("plain", "arguments"), function("group", "bedrock"), function("message", "mcp"),
            function("response", "api-gateway"), durable, role],
        "tools": [
            {"id": "durable", "server": "durable", "timeout_ms": timeout_ms},
            {"id": "role", "server": "role", "timeout_ms": timeout_ms},
            {"id": "mcp", "server": "message", "timeout_ms": timeout_ms},
            {"id": "mcp-safe", "server": "message", "idempotent": true, "timeout_ms": timeout_ms},
            {"id": "gateway", "server": "response", "timeout_ms": timeout_ms},
            {"id": "gateway-safe", "server": "response", "idempotent": true, "timeout_ms": timeout_ms},
            {"id": "safe", "server": "plain", "idempotent": true, "timeout_ms": timeout_ms},
            {"id": "unsafe", "server": "plain", "timeout_ms": timeout_ms},
            {"id": "away", "server": "plain", "timeout_ms": timeout_ms},
            {"id": "bedrock", "server": "group", "timeout_ms": timeout_ms}
        ],
        "tenants": {"senders": {SENDER: ["acme"]}, "fleet": [SENDER]}
    })
}

/// Takes a call through a worker that has met nothing yet, and holds its end against the case.
async fn prove(rig: &mut Rig, lambda: &MockLambda, id: &str, case: &Case) {
    lambda.behave();
    lambda.function("f", |invocation| {
        let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {"content": []}});
        match (invocation.event.get("jsonrpc"), invocation.event.get("body")) {
            (Some(_), _) => answer,
            (None, Some(_)) => json!({"statusCode": 200, "body": answer.to_string()}),
            (None, None) => json!("done"),
        }
    });
    if case.tool == "role" {
        lambda.refuse_roles();
    }
    match &case.fault {
        Some(fault) if case.once => lambda.next(fault.clone()),
        Some(fault) => lambda.always(fault.clone()),
        None => {}
    }
    rig.lambda = Some(if case.tool == "away" { "http://127.0.0.1:9".to_owned() } else { lambda.url() });
    // Long enough for a busy machine, except where it is waited for.
    let timeout_ms = if case.fault == Some(LambdaFault::RunThenHold) { 700 } else { 10_000 };
    let context = rig.fleet_of(catalog(timeout_ms), limits(), None).await;
    let (invoked, ran) = (lambda.invocations().len(), lambda.executions("f"));
    rig.send(request(id, case.tool).to_string()).await;
    rig.settle_with(&context).await;

    let seen = rig.outcome(id).await;
    let found = Ends { kind: seen.kind, code: seen.code, ran: seen.may_have_run };
    assert_eq!(found, case.ends, "{}: {}", case.name, seen.message);
    let (sends, executions, attempts) = case.counts;
    assert_eq!(lambda.invocations().len() - invoked, sends, "invocations: {}", case.name);
    assert_eq!(lambda.executions("f") - ran, executions, "executions: {}", case.name);
    assert_eq!((seen.row.state, seen.row.attempts), (State::Done, attempts), "the row: {}", case.name);
    let audit = rig.audit_of(id, AuditKind::Call).await;
    assert_eq!(audit.len(), 1, "audit records: {}", case.name);
    assert_eq!((audit[0].attempts, audit[0].outcome), (attempts, found.kind), "audit: {}", case.name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_of_lambda_means_what_the_table_says() {
    let rows = rows();
    let cases: Vec<_> = rows.iter().flat_map(|(_, cases)| cases).collect();
    let lane = async |first: usize| {
        let (mut rig, lambda) = rig().await;
        for (number, case) in cases.iter().enumerate().skip(first).step_by(LANES) {
            prove(&mut rig, &lambda, &format!("c{number}"), case).await;
        }
    };
    futures::future::join_all((0..LANES).map(lane)).await;
}

#[test]
fn documented_rows_and_tested_rows_of_lambda_are_the_same() {
    let document = include_str!("../../../../docs/reference/lambda.md");
    let table = document.split("## Errors").nth(1).unwrap();
    let table = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let documented: BTreeSet<&str> =
        table.filter_map(|line| line.split(" | ").next()).map(|cell| cell.trim_start_matches("| ")).collect();
    let proved: BTreeSet<&str> = rows().into_iter().map(|(row, _)| row).collect();
    assert_eq!(documented, proved);
}
