//! One policy for all kinds of tools: what is met means the same of an MCP server over each transport, a Lambda function in each form, and an HTTP interface. The tables of
//! docs/reference (answers, lambda, openapi) have the rest of each kind.

use std::sync::Arc;

use serde_json::{Value, json};
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{EchoFault, EchoHttp, LambdaFault, MockFault, MockLambda, ScriptedProgram};
use toolfleet_worker::context::WorkerContext;

use crate::lambda::ARN;
use crate::policy_table::Ends;
use crate::rig::{Rig, SENDER, limits};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    WebSocket,
    /// The HTTP+SSE transport of 2024-11-05.
    Sse,
    /// A program.
    Stdio,
    /// A function by its arguments.
    Function,
    /// A function as a Bedrock agent's action group.
    Bedrock,
    /// A function that is an MCP server.
    McpFunction,
    /// The same behind an API Gateway's event; what is met stands in its response.
    Gateway,
    OpenApi,
}

const KINDS: [Kind; 9] = [
    Kind::Http,
    Kind::WebSocket,
    Kind::Sse,
    Kind::Stdio,
    Kind::Function,
    Kind::Bedrock,
    Kind::McpFunction,
    Kind::Gateway,
    Kind::OpenApi,
];

/// What is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Met {
    /// The tool runs, and its answer is lost.
    AnswerLost,
    /// The tool runs, and no answer comes.
    NoAnswer,
    /// The tool runs, and the server says that it failed.
    ServerFailed,
    /// The tool runs, and the server answers with an internal error of JSON-RPC (-32603).
    InternalError,
    /// The tool runs, and its answer is too large.
    TooLarge,
    /// The tool runs, and its answer is none.
    NotUnderstood,
    /// The server asks to come later.
    Throttled,
    /// The server refuses the credential.
    Refused,
    /// There is no server.
    Away,
}

/// How a call ends that is not safe to repeat, and how one that is, if this is met once and if it is met always.
struct Expected {
    is_unsafe: Ends,
    safe_once: Ends,
    safe_always: Ends,
}

const SUCCEEDED: Ends = Ends { kind: OutcomeKind::Succeeded, code: None, ran: None };

const fn ends(kind: OutcomeKind, code: &'static str, ran: MayHaveRun) -> Ends {
    Ends { kind, code: Some(code), ran: Some(ran) }
}

/// The policy.
fn expected(met: Met) -> Expected {
    let unknown = |code| ends(OutcomeKind::OutcomeUnknown, code, MayHaveRun::Unknown);
    let failed = |code, ran| ends(OutcomeKind::Failed, code, ran);
    let ambiguous = |code| Expected {
        is_unsafe: unknown(code),
        safe_once: SUCCEEDED,
        safe_always: failed(code, MayHaveRun::Unknown),
    };
    let never_repeated = |code| Expected {
        is_unsafe: unknown(code),
        safe_once: failed(code, MayHaveRun::Unknown),
        safe_always: failed(code, MayHaveRun::Unknown),
    };
    let proved = |code| {
        let end = failed(code, MayHaveRun::No);
        Expected { is_unsafe: end, safe_once: end, safe_always: end }
    };
    match met {
        Met::AnswerLost => ambiguous("answer_lost"),
        Met::NoAnswer => ambiguous("attempt_timed_out"),
        Met::ServerFailed => ambiguous("server_error"),
        Met::InternalError => ambiguous("rpc_error"),
        Met::TooLarge => never_repeated("answer_too_large"),
        Met::NotUnderstood => never_repeated("invalid_answer"),
        Met::Throttled => {
            let late = failed("rate_limited", MayHaveRun::No);
            Expected { is_unsafe: SUCCEEDED, safe_once: SUCCEEDED, safe_always: late }
        }
        Met::Refused => proved("unauthorized"),
        Met::Away => proved("server_unreachable"),
    }
}

const ALL: [Met; 9] = [
    Met::AnswerLost,
    Met::NoAnswer,
    Met::ServerFailed,
    Met::InternalError,
    Met::TooLarge,
    Met::NotUnderstood,
    Met::Throttled,
    Met::Refused,
    Met::Away,
];

/// Whether a kind can meet it. WebSocket and programs have no status, what is no answer is skipped on a connection that is kept, and an
/// interface's answer may be anything.
fn can_meet(kind: Kind, met: Met) -> bool {
    match met {
        Met::ServerFailed | Met::Throttled | Met::Refused => !matches!(kind, Kind::WebSocket | Kind::Stdio),
        Met::InternalError => !matches!(kind, Kind::Function | Kind::Bedrock | Kind::OpenApi),
        Met::NotUnderstood => !matches!(kind, Kind::WebSocket | Kind::Sse | Kind::Stdio | Kind::OpenApi),
        Met::AnswerLost | Met::NoAnswer | Met::TooLarge | Met::Away => true,
    }
}

struct World {
    rig: Rig,
    lambda: MockLambda,
    echo: EchoHttp,
    program: ScriptedProgram,
}

impl World {
    async fn new() -> Self {
        let (rig, lambda, echo) = (Rig::new().await, MockLambda::start().await, EchoHttp::start().await);
        let rig = Rig { lambda: Some(lambda.url()), ..rig };
        Self { rig, lambda, echo, program: ScriptedProgram::new(&[]) }
    }

    fn behave(&self) {
        self.rig.mcp.behave();
        self.rig.mcp.tool("do", |_| json!({"content": []}));
        self.program.next("", 0);
        self.lambda.behave();
        self.lambda.function("f", |invocation| {
            let answer = json!({"jsonrpc": "2.0", "id": 1, "result": {"content": []}});
            if invocation.event.get("messageVersion").is_some() {
                return json!({"response": {"functionResponse": {"responseBody": {"TEXT": {"body": "done"}}}}});
            }
            match (invocation.event.get("jsonrpc"), invocation.event.get("body")) {
                (Some(_), _) => answer,
                (None, Some(_)) => json!({"statusCode": 200, "body": answer.to_string()}),
                (None, None) => json!("done"),
            }
        });
    }

    fn catalog(&self, kind: Kind, met: Met) -> Value {
        let is_away = met == Met::Away;
        // Long enough for a busy machine, except where it is waited for.
        let timeout_ms = if met == Met::NoAnswer { 700 } else { 10_000 };
        let function = |payload: &str| json!({"id": "s", "lambda": format!("{ARN}:f"), "payload": payload});
        let nowhere = "127.0.0.1:9";
        let server = match (kind, is_away) {
            (Kind::Http, false) => json!({"id": "s", "url": self.rig.mcp.url()}),
            (Kind::Http, true) => json!({"id": "s", "url": format!("http://{nowhere}/mcp")}),
            (Kind::WebSocket, false) => json!({"id": "s", "url": self.rig.mcp.ws_url()}),
            (Kind::WebSocket, true) => json!({"id": "s", "url": format!("ws://{nowhere}/mcp")}),
            (Kind::Sse, false) => json!({"id": "s", "url": self.rig.mcp.sse_url(), "transport": "sse"}),
            (Kind::Sse, true) => {
                json!({"id": "s", "url": format!("http://{nowhere}/sse"), "transport": "sse"})
            }
            (Kind::Stdio, false) => {
                json!({"id": "s", "command": self.program.command(), "args": self.program.args()})
            }
            (Kind::Stdio, true) => json!({"id": "s", "command": "no-such-program-of-toolfleet"}),
            (Kind::Function, _) => function("arguments"),
            (Kind::Bedrock, _) => function("bedrock"),
            (Kind::McpFunction, _) => function("mcp"),
            (Kind::Gateway, _) => function("api-gateway"),
            (Kind::OpenApi, _) => {
                let url = if is_away { format!("http://{nowhere}") } else { self.echo.url().to_owned() };
                let paths = json!({"/do": {"post": {"operationId": "do", "responses": {}}}});
                let info = json!({"title": "t", "version": "1"});
                json!({"id": "s", "url": url, "openapi": {"openapi": "3.0.4", "info": info, "paths": paths}})
            }
        };
        let tool = |id: &str, safe: bool| json!({"id": id, "server": "s", "name": "do", "idempotent": safe, "timeout_ms": timeout_ms});
        json!({"servers": [server], "tools": [tool("unsafe", false), tool("safe", true)],
            "tenants": {"senders": {SENDER: ["acme"]}, "fleet": [SENDER]}})
    }

    /// The next answer, or all of them.
    fn meets(&self, kind: Kind, met: Met, times: usize) {
        if kind == Kind::Stdio {
            return self.program.next(of_program(met), times);
        }
        for _ in 0..times {
            match kind {
                Kind::Stdio => {}
                Kind::Http | Kind::WebSocket | Kind::Sse => {
                    self.rig.mcp.next_for("tools/call", of_mcp(met));
                }
                Kind::Function | Kind::Bedrock | Kind::McpFunction => self.lambda.next(of_lambda(met)),
                Kind::Gateway => self.lambda.next(of_gateway(met)),
                Kind::OpenApi => self.echo.next(of_interface(met)),
            }
        }
    }

    fn ran(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Http | Kind::WebSocket | Kind::Sse => self.rig.mcp.executions("do"),
            Kind::Stdio => self.program.count("call ") as u64,
            Kind::Function | Kind::Bedrock | Kind::McpFunction | Kind::Gateway => self.lambda.executions("f"),
            Kind::OpenApi => self.echo.requests().iter().filter(|request| request.ran).count() as u64,
        }
    }

    async fn context(&mut self, kind: Kind, met: Met) -> Arc<WorkerContext> {
        let is_away = met == Met::Away;
        let nowhere = "http://127.0.0.1:9".to_owned();
        self.rig.lambda = Some(if is_away { nowhere } else { self.lambda.url() });
        self.rig.fleet_of(self.catalog(kind, met), limits(), None).await
    }

    async fn ends(
        &mut self,
        id: &str,
        tool: &str,
        kind: Kind,
        (met, times): (Met, usize),
    ) -> (Ends, u64, String) {
        self.behave();
        let context = self.context(kind, met).await;
        self.meets(kind, met, times);
        let before = self.ran(kind);
        let body = json!({"v": 1, "call_id": id, "tenant": "acme", "tool": tool, "arguments": {}, "timeout_ms": 600_000});
        self.rig.send(body.to_string()).await;
        self.rig.settle_with(&context).await;
        let seen = self.rig.outcome(id).await;
        context.mcp.close().await;
        (
            Ends { kind: seen.kind, code: seen.code, ran: seen.may_have_run },
            self.ran(kind) - before,
            seen.message,
        )
    }
}

fn of_mcp(met: Met) -> MockFault {
    match met {
        Met::AnswerLost => MockFault::CloseBeforeAnswer,
        Met::NoAnswer => MockFault::ExecuteAndNeverAnswer,
        Met::ServerFailed => MockFault::status(500).after_running(),
        Met::InternalError => MockFault::rpc(-32_603, "no").after_running(),
        Met::TooLarge => MockFault::EndlessBody,
        Met::NotUnderstood => MockFault::Garbage("<html>".to_owned()),
        Met::Throttled => MockFault::status_with(429, "retry-after", "3"),
        Met::Refused | Met::Away => MockFault::status(401),
    }
}

/// The trait of a program that does it.
fn of_program(met: Met) -> &'static str {
    match met {
        Met::AnswerLost => "crash",
        Met::NoAnswer => "hang",
        Met::InternalError => "internal-error",
        Met::TooLarge => "giant-answer",
        Met::ServerFailed | Met::NotUnderstood | Met::Throttled | Met::Refused | Met::Away => "",
    }
}

/// An answer of a function that is larger than the worker reads.
fn large() -> String {
    json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [], "x": "x".repeat(200_000)}}).to_string()
}

fn rpc_error() -> String {
    json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32_603, "message": "no"}}).to_string()
}

fn of_lambda(met: Met) -> LambdaFault {
    match met {
        Met::AnswerLost => LambdaFault::RunThenClose,
        Met::NoAnswer => LambdaFault::RunThenHold,
        Met::ServerFailed => LambdaFault::RunThenService { status: 500, code: "ServiceException".to_owned() },
        Met::InternalError => LambdaFault::RunThenAnswer(rpc_error()),
        Met::TooLarge => LambdaFault::RunThenAnswer(large()),
        Met::NotUnderstood => LambdaFault::RunThenAnswer("<html>".to_owned()),
        Met::Throttled => LambdaFault::service(429, "TooManyRequestsException"),
        Met::Refused | Met::Away => LambdaFault::service(403, "UnrecognizedClientException"),
    }
}

/// What stands in the response of a function behind an API Gateway. It runs whenever it is invoked; `ran` counts invocations then.
fn of_gateway(met: Met) -> LambdaFault {
    let response = |status: u16, body: &str| {
        LambdaFault::RunThenAnswer(
            json!({"statusCode": status, "headers": {"retry-after": "3"}, "body": body}).to_string(),
        )
    };
    match met {
        Met::AnswerLost | Met::NoAnswer | Met::Away => of_lambda(met),
        Met::ServerFailed => response(500, "oh"),
        Met::InternalError => response(200, &rpc_error()),
        Met::TooLarge => response(200, &large()),
        Met::NotUnderstood => response(200, "<html>"),
        Met::Throttled => response(429, "later"),
        Met::Refused => response(401, "who"),
    }
}

fn of_interface(met: Met) -> EchoFault {
    match met {
        Met::AnswerLost => EchoFault::RunAndCut,
        Met::NoAnswer => EchoFault::RunAndNeverAnswer,
        Met::ServerFailed => EchoFault::status(500, ("x", "y"), "oh", true),
        Met::TooLarge => EchoFault::status(200, ("x", "y"), &"x".repeat(200_000), true),
        Met::Throttled => EchoFault::status(429, ("retry-after", "3"), "", false),
        Met::InternalError | Met::NotUnderstood | Met::Refused | Met::Away => {
            EchoFault::status(401, ("x", "y"), "", false)
        }
    }
}

/// More often than any call is tried.
const ALWAYS: usize = 20;

async fn prove(kind: Kind) {
    let mut world = World::new().await;
    for met in ALL.into_iter().filter(|met| can_meet(kind, *met)) {
        let Expected { is_unsafe, safe_once, safe_always } = expected(met);
        // A server that never lets a call through in its time is not waited for here.
        let always = (met != Met::Throttled).then_some((safe_always, "safe", ALWAYS));
        let cases = [Some((is_unsafe, "unsafe", 1)), Some((safe_once, "safe", 1)), always];
        for (expected, tool, times) in cases.into_iter().flatten() {
            let id = format!("{met:?}-{tool}-{times}");
            let (found, ran, message) = world.ends(&id, tool, kind, (met, times)).await;
            assert_eq!(found, expected, "{kind:?} {id}: {message}");
            let unproved = tool == "unsafe" && !(kind == Kind::Gateway && met == Met::Throttled);
            assert!(!unproved || ran <= 1, "{kind:?} {id}: ran {ran} times");
            world = if times == ALWAYS { World::new().await } else { world };
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_met_means_the_same_of_every_kind_of_tool() {
    futures::future::join_all(KINDS.map(prove)).await;
}
