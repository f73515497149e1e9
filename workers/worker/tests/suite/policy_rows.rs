//! The rows of the policy table and the cases that test them. `policy_table.rs` runs the cases.

use serde_json::{Value, json};
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{MockFault, SessionLoss};

use crate::policy_table::{
    BOTH, Case, EITHER, EVERY, Ends, HTTP, HTTP_AND_SOCKET, KEPT, LEGACY, MODERN, POSTS, Row, SOCKET, SSE,
    Script, Wire, always, always_when_opened, case, once, says, well, when_opened,
};

const SUCCEEDED: Ends = Ends { kind: OutcomeKind::Succeeded, code: None, ran: None };

const fn failed(code: &'static str, ran: MayHaveRun) -> Ends {
    Ends { kind: OutcomeKind::Failed, code: Some(code), ran: Some(ran) }
}

const fn unknown(code: &'static str) -> Ends {
    Ends { kind: OutcomeKind::OutcomeUnknown, code: Some(code), ran: Some(MayHaveRun::Unknown) }
}

fn rpc(status: u16, code: i64, data: Value) -> MockFault {
    MockFault::Rpc { status, code, message: "no".into(), data, with_id: true }
}

pub(crate) fn rows() -> Vec<Row> {
    let row = |seen, cases| Row { seen, cases };
    vec![
        row("`resultType: complete`, or none", complete()),
        row("`isError: true`", tool_error()),
        row("`input_required` with `requestState` alone", same_request_again()),
        row("another `resultType`", unknown_result()),
        row("HTTP 429", rate_limited()),
        row("HTTP 503 with `Retry-After`", busy()),
        row("HTTP 401", unauthorized()),
        row("HTTP 403", forbidden()),
        row("a session that existed before the call is not known", session_lost()),
        row("a session that was opened for the call is not known", fresh_session_lost()),
        row("any other refusal in a session that existed before the call", old_session_refused()),
        row("-32020", stale_headers()),
        row("-32022", version()),
        row("-32700, -32600, -32601, -32602, -32021 with the call's id", permanent()),
        row("HTTP 400, 404, 405, 406, 413, 415", refused_by_status()),
        row("any other JSON-RPC error", other_errors()),
        row("any other 4xx", other_statuses()),
        row("no connection, no such name, no TLS, a refused HTTP/2 stream", not_connected()),
        row("the address does not speak its transport", wrong_transport()),
        row("a redirect", redirect()),
        row("HTTP 5xx, -32603", server_failed()),
        row("the connection or the stream ends without the answer", answer_lost()),
        row("no answer in the attempt's time", attempt_timed_out()),
        row("no answer by the call's deadline", deadline()),
        row("an answer larger than the bound", too_large()),
        row("an answer that is not MCP", not_mcp()),
    ]
}

fn complete() -> Vec<Case> {
    const ODD: &[&str] = &[r#"{"content":[{"type":"hologram","x":1.0}],"novel":[1,2]}"#];
    vec![
        case("no result type, unknown content", BOTH, "unsafe", says(ODD), SUCCEEDED, (1, 1, 1)).by(EVERY),
        case("complete", MODERN, "unsafe", says(&[r#"{"resultType":"complete"}"#]), SUCCEEDED, (1, 1, 1))
            .by(HTTP_AND_SOCKET),
        case("an event stream", BOTH, "unsafe", streams(), SUCCEEDED, (1, 1, 1)).by(EVERY),
    ]
}

fn streams() -> Script {
    Box::new(|mcp| drop(mcp.tool("unsafe", |_| json!({"content": []})).progress(3)))
}

fn tool_error() -> Vec<Case> {
    const ERROR: &[&str] = &[r#"{"isError":true,"content":[{"type":"text","text":"no such customer"}]}"#];
    let ends =
        Ends { kind: OutcomeKind::ToolError, code: Some("tool_reported_error"), ran: Some(MayHaveRun::Yes) };
    vec![case("of a tool that is safe to repeat", BOTH, "safe", says(ERROR), ends, (1, 1, 1)).by(EVERY)]
}

fn same_request_again() -> Vec<Case> {
    const AGAIN: &str = r#"{"resultType":"input_required","requestState":"s"}"#;
    let asked = Ends {
        kind: OutcomeKind::InputRequired,
        code: Some("input_required"),
        ran: Some(MayHaveRun::Unknown),
    };
    let lost_later: Script = Box::new(|mcp| {
        says(&[AGAIN])(mcp);
        mcp.next(MockFault::events(&["data: {\"jsonrpc\":\"2.0\",\"id\":{id},{result}}\n\n"]));
        mcp.next(MockFault::status(429));
    });
    vec![
        case("twice", MODERN, "unsafe", says(&[AGAIN, AGAIN, "{}"]), SUCCEEDED, (3, 3, 1))
            .by(HTTP_AND_SOCKET),
        case("without end", MODERN, "patient", says(&[AGAIN]), asked, (9, 9, 1)).by(HTTP_AND_SOCKET),
        // The first round has begun with the call, so that no later refusal can say that nothing ran.
        case("refused in the second round", MODERN, "unsafe", lost_later, unknown("answer_lost"), (2, 1, 1)),
    ]
}

fn unknown_result() -> Vec<Case> {
    const DREAM: &[&str] = &[r#"{"resultType":"dream","content":[]}"#];
    let ends = failed("unknown_result_type", MayHaveRun::Yes);
    vec![
        case("of a tool that is safe to repeat", MODERN, "safe", says(DREAM), ends, (1, 1, 1))
            .by(HTTP_AND_SOCKET),
    ]
}

fn rate_limited() -> Vec<Case> {
    let wait = |text| once(MockFault::status_with(429, "retry-after", text));
    let headers =
        [("date", "Sat, 21 Nov 2026 09:00:00 GMT"), ("retry-after", "Sat, 21 Nov 2026 09:02:00 GMT")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let date = MockFault::Status { status: 429, headers, body: String::new() };
    vec![
        case("a pause in seconds", BOTH, "unsafe", wait("3"), SUCCEEDED, (2, 1, 1)).by(POSTS),
        case("a pause of minutes", BOTH, "unsafe", wait("300"), SUCCEEDED, (2, 1, 1)),
        case("a pause until a date", BOTH, "unsafe", once(date), SUCCEEDED, (2, 1, 1)),
        case("no pause named", BOTH, "unsafe", once(MockFault::status(429)), SUCCEEDED, (2, 1, 1)).by(POSTS),
        case(
            "where a connection is opened",
            BOTH,
            "unsafe",
            when_opened(MockFault::status_with(429, "retry-after", "3")),
            SUCCEEDED,
            (1, 1, 1),
        )
        .by(KEPT),
        case(
            "beyond the deadline",
            BOTH,
            "unsafe",
            wait("99999"),
            failed("rate_limited", MayHaveRun::No),
            (1, 0, 1),
        ),
    ]
}

fn unauthorized() -> Vec<Case> {
    let ends = failed("unauthorized", MayHaveRun::No);
    vec![
        case("nothing to renew", BOTH, "safe", always(MockFault::status(401)), ends, (1, 0, 1)).by(POSTS),
        case(
            "where a connection is opened",
            BOTH,
            "safe",
            always_when_opened(MockFault::status(401)),
            ends,
            (0, 0, 1),
        )
        .by(KEPT),
    ]
}

fn forbidden() -> Vec<Case> {
    let challenge = r#"Bearer error="insufficient_scope", scope="tools:write""#;
    let fault = MockFault::status_with(403, "www-authenticate", challenge);
    let ends = failed("forbidden", MayHaveRun::No);
    vec![
        case("a scope nobody can give", BOTH, "safe", always(fault.clone()), ends, (1, 0, 1)).by(POSTS),
        case("where a connection is opened", BOTH, "safe", always_when_opened(fault), ends, (0, 0, 1))
            .by(KEPT),
    ]
}

/// An answer to the call with any status and code, after the tool has run.
fn ran(status: u16, code: i64) -> MockFault {
    MockFault::Rpc {
        status,
        code,
        message: "your session was declined".into(),
        data: Value::Null,
        with_id: true,
    }
    .after_running()
}

/// The same, as servers write it that do not know the call's id.
fn without_id(status: u16, code: i64) -> MockFault {
    MockFault::Rpc { status, code, message: "no".into(), data: Value::Null, with_id: false }
}

fn session_lost() -> Vec<Case> {
    let (gone, named) = (SessionLoss::NotFound, SessionLoss::BadRequest);
    let lose = |shape| once(MockFault::LoseSessions(shape));
    let old = |name, fault| case(name, LEGACY, "unsafe", fault, SUCCEEDED, (2, 1, 1)).in_old_session();
    let no_method = once(rpc(404, -32601, Value::Null));
    let refused = failed("rpc_error", MayHaveRun::No);
    vec![
        old("404", lose(gone)).by(POSTS),
        old("400 without the call's id", lose(named)),
        old("404 without a body", once(MockFault::status(404))).by(POSTS),
        old("404 and -32001 with the call's id", once(rpc(404, -32001, Value::Null))),
        old("404 and -32600 with the call's id", once(rpc(404, -32600, Value::Null))),
        case("404 of an unknown method", LEGACY, "unsafe", no_method, refused, (1, 0, 1)).in_old_session(),
        case(
            "404 without sessions",
            MODERN,
            "unsafe",
            once(MockFault::status(404)),
            failed("server_error", MayHaveRun::No),
            (1, 0, 1),
        ),
    ]
}

fn fresh_session_lost() -> Vec<Case> {
    let lose = |shape| always(MockFault::LoseSessions(shape));
    let (gone, named) = (SessionLoss::NotFound, SessionLoss::BadRequest);
    let open = unknown("server_error");
    let in_vain = failed("server_error", MayHaveRun::Unknown);
    vec![
        case("404, always", LEGACY, "unsafe", lose(gone), open, (1, 0, 1)),
        case("400, always", LEGACY, "unsafe", lose(named), open, (1, 0, 1)),
        case(
            "404 after the tool ran",
            LEGACY,
            "unsafe",
            always(without_id(404, -32001).after_running()),
            open,
            (1, 1, 1),
        ),
        case("404, always, safe", LEGACY, "safe", lose(gone), in_vain, (2, 0, 1)),
        case("404, once, safe", LEGACY, "safe", once(without_id(404, -32001)), SUCCEEDED, (2, 1, 1)),
    ]
}

/// A server that refuses everything in the sessions it had, `ping` included, and then is well.
fn dead(fault: MockFault) -> Script {
    Box::new(move |mcp| {
        mcp.next(fault.clone()).next_for("ping", fault.clone());
    })
}

fn old_session_refused() -> Vec<Case> {
    let old = |name, tool, fault, ends, counts| {
        case(name, LEGACY, tool, dead(fault), ends, counts).in_old_session()
    };
    let proved = |name, fault| old(name, "unsafe", fault, SUCCEEDED, (2, 1, 1));
    let open = |name, fault, code| old(name, "unsafe", fault, unknown(code), (1, 0, 1));
    let safe = |name, fault| old(name, "safe", fault, SUCCEEDED, (2, 1, 1));
    let not_initialized = "Server not initialized";
    let text = MockFault::Status { status: 400, headers: Vec::new(), body: not_initialized.into() };
    let alive = once(ran(400, -32000));
    vec![
        proved("400 with a text", text),
        proved("401", MockFault::status(401)),
        proved("403", MockFault::status(403)),
        proved("200 and -32600", rpc(200, -32600, Value::Null)),
        open("410", MockFault::status(410), "server_error"),
        open("400 and -32001", rpc(400, -32001, Value::Null), "rpc_error"),
        open("200 and -32000", rpc(200, -32000, Value::Null), "rpc_error"),
        open("200 and -32000 without the call's id", without_id(200, -32000), "rpc_error"),
        safe("410, safe", MockFault::status(410)),
        safe("400 and -32001, safe", rpc(400, -32001, Value::Null)),
        safe("200 and -32002, safe", rpc(200, -32002, Value::Null)),
        // It answers `ping`, so that the session stays.
        case("in a session that lives", LEGACY, "unsafe", alive, unknown("rpc_error"), (1, 1, 1))
            .in_old_session(),
    ]
}

fn busy() -> Vec<Case> {
    let wait = |text| once(MockFault::status_with(503, "retry-after", text));
    let often: Script = Box::new(|mcp| {
        for _ in 0..5 {
            mcp.next(MockFault::status_with(503, "retry-after", "1.5"));
        }
    });
    let in_vain = failed("server_error", MayHaveRun::Unknown);
    vec![
        case("safe", BOTH, "safe", wait("3"), SUCCEEDED, (2, 1, 1)).by(POSTS),
        case("safe, five times", BOTH, "safe", often, SUCCEEDED, (6, 1, 1)),
        case("beyond the deadline", BOTH, "safe", wait("99999"), in_vain, (1, 0, 1)),
        case("unsafe", BOTH, "unsafe", wait("3"), unknown("server_error"), (1, 0, 1)).by(POSTS),
        case(
            "where a connection is opened",
            BOTH,
            "unsafe",
            when_opened(MockFault::status_with(503, "retry-after", "3")),
            SUCCEEDED,
            (1, 1, 1),
        )
        .by(KEPT),
    ]
}

fn other_errors() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, status, code) in [
        ("the server's own", 200, 42),
        ("-32001, request timed out", 200, -32001),
        ("-32000", 200, -32000),
        ("-32000 with HTTP 400", 400, -32000),
        ("-32002 with HTTP 404", 404, -32002),
        ("-32000 with HTTP 401", 401, -32000),
        ("-32000 with HTTP 403", 403, -32000),
        ("-32099 with HTTP 413", 413, -32099),
    ] {
        let fault = always(ran(status, code));
        cases.push(case(name, BOTH, "unsafe", fault, unknown("rpc_error"), (1, 1, 1)).by(EVERY));
    }
    let own = failed("rpc_error", MayHaveRun::Unknown);
    cases.push(case("the server's own, safe", BOTH, "safe", always(ran(200, 42)), own, (1, 1, 1)).by(EVERY));
    cases.push(case("-32001, safe", BOTH, "safe", once(ran(200, -32001)), SUCCEEDED, (2, 2, 2)).by(EVERY));
    let no_id = always(without_id(200, -32602).after_running());
    cases
        .push(case("-32602 without an id", BOTH, "unsafe", no_id, unknown("rpc_error"), (1, 1, 1)).by(EVERY));
    cases.push(case(
        "-32000 with HTTP 429",
        BOTH,
        "unsafe",
        always(ran(429, -32000)),
        unknown("server_error"),
        (1, 1, 1),
    ));
    cases
}

fn other_statuses() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, status) in [
        ("402", 402),
        ("408", 408),
        ("409", 409),
        ("410", 410),
        ("418", 418),
        ("421", 421),
        ("424", 424),
        ("425", 425),
        ("451", 451),
    ] {
        let fault = always(MockFault::status(status).after_running());
        cases.push(case(name, BOTH, "unsafe", fault, unknown("server_error"), (1, 1, 1)).by(POSTS));
    }
    for (name, status) in [("408, safe", 408), ("421, safe", 421), ("425, safe", 425)] {
        cases.push(case(name, BOTH, "safe", once(MockFault::status(status)), SUCCEEDED, (2, 1, 2)).by(POSTS));
    }
    let own = failed("server_error", MayHaveRun::Unknown);
    cases.push(case("409, safe", BOTH, "safe", always(MockFault::status(409)), own, (1, 0, 1)).by(POSTS));
    cases
}

fn stale_headers() -> Vec<Case> {
    let wants_header: Script = Box::new(|mcp| {
        let property = json!({"type": "string", "x-mcp-header": "Call"});
        let schema = json!({"type": "object", "properties": {"call": property}});
        drop(mcp.tool("unsafe", |_| json!({"content": []})).schema(schema));
    });
    let again = always(rpc(400, -32020, Value::Null));
    vec![
        case("a schema that was not known", MODERN, "unsafe", wants_header, SUCCEEDED, (2, 1, 1)),
        case(
            "again after the fresh schema",
            MODERN,
            "safe",
            again,
            failed("rpc_error", MayHaveRun::No),
            (2, 0, 1),
        ),
    ]
}

fn version() -> Vec<Case> {
    let names = |versions: &[&str]| once(rpc(400, -32022, json!({"supported": versions})));
    let ends = failed("version_unsupported", MayHaveRun::No);
    vec![
        case("an older one of ours", EITHER, "unsafe", names(&["2025-06-18"]), SUCCEEDED, (2, 1, 1)),
        case("a newer one than was spoken", LEGACY, "unsafe", names(&["2026-07-28"]), SUCCEEDED, (2, 1, 1)),
        case(
            "none of ours",
            BOTH,
            "safe",
            always(rpc(400, -32022, json!({"supported": ["2031-01-01"]}))),
            ends,
            (1, 0, 1),
        )
        .by(EVERY),
    ]
}

fn permanent() -> Vec<Case> {
    let ends = failed("rpc_error", MayHaveRun::No);
    let code =
        |name, code| case(name, BOTH, "safe", always(MockFault::rpc(code, "no")), ends, (1, 0, 1)).by(EVERY);
    vec![
        code("parse error", -32700),
        code("invalid request", -32600),
        code("unknown method", -32601),
        code("invalid params", -32602),
        code("missing capability", -32021),
        case("with HTTP 400", BOTH, "safe", always(rpc(400, -32602, Value::Null)), ends, (1, 0, 1)).by(EVERY),
        case("with HTTP 404", BOTH, "safe", always(rpc(404, -32601, Value::Null)), ends, (1, 0, 1)).by(EVERY),
    ]
}

fn refused_by_status() -> Vec<Case> {
    let ends = failed("server_error", MayHaveRun::No);
    let too_large = failed("request_too_large", MayHaveRun::No);
    let status =
        |name, status| case(name, MODERN, "safe", always(MockFault::status(status)), ends, (1, 0, 1));
    let in_session = |name, status| {
        case(name, LEGACY, "unsafe", always(MockFault::status(status)), ends, (1, 0, 1)).by(POSTS)
    };
    let foreign = r#"{"jsonrpc":"2.0","id":"another","error":{"code":-32000,"message":"no"}}"#;
    let foreign = MockFault::Status { status: 413, headers: Vec::new(), body: foreign.into() };
    let cut = MockFault::Status {
        status: 400,
        headers: Vec::new(),
        body: r#"{"jsonrpc":"2.0","id":{id},"err"#.into(),
    };
    let cut = always(cut.after_running());
    vec![
        status("400", 400),
        status("404", 404),
        status("405", 405),
        status("406", 406),
        case("413", MODERN, "safe", always(MockFault::status(413)), too_large, (1, 0, 1)),
        status("415", 415),
        in_session("405 in a session", 405),
        case("413 in a session", LEGACY, "unsafe", always(MockFault::status(413)), too_large, (1, 0, 1))
            .by(POSTS),
        case(
            "an answer to another request",
            MODERN,
            "unsafe",
            always(foreign),
            failed("rpc_error", MayHaveRun::No),
            (1, 0, 1),
        ),
        case("an answer that is cut off", BOTH, "unsafe", cut, unknown("server_error"), (1, 1, 1)).by(POSTS),
        case(
            "where a connection is opened",
            BOTH,
            "safe",
            always_when_opened(MockFault::status(404)),
            ends,
            (0, 0, 1),
        )
        .by(KEPT),
    ]
}

fn not_connected() -> Vec<Case> {
    let ends = failed("server_unreachable", MayHaveRun::No);
    let to = |name, tool| case(name, BOTH, tool, well(), ends, (0, 0, 1)).by(EVERY);
    let opened = |name, fault| case(name, BOTH, "unsafe", when_opened(fault), SUCCEEDED, (1, 1, 1)).by(KEPT);
    vec![
        to("nobody listens", "away"),
        to("no such name", "nameless"),
        to("no TLS", "no-tls"),
        opened("a connection that is not opened", MockFault::CloseBeforeExecuting),
        opened("a connection that is refused with 500", MockFault::status(500)),
    ]
}

fn wrong_transport() -> Vec<Case> {
    let ends = failed("transport_unsupported", MayHaveRun::No);
    let page = MockFault::status_with(200, "content-type", "text/html");
    let other: Script = Box::new(|mcp| mcp.chooses_subprotocol("graphql-ws"));
    let elsewhere: Script = Box::new(|mcp| mcp.names_address("http://127.0.0.2:1/message?session=1"));
    vec![
        case("a page", BOTH, "safe", always_when_opened(page), ends, (0, 0, 1)).by(KEPT),
        case("another subprotocol", BOTH, "safe", other, ends, (0, 0, 1)).by(SOCKET),
        case("messages to another origin", BOTH, "safe", elsewhere, ends, (0, 0, 1)).by(SSE),
    ]
}

fn redirect() -> Vec<Case> {
    let other = MockFault::Redirect("http://127.0.0.2:1/mcp?token=hush".into());
    let same = MockFault::Redirect("/moved".into());
    let ends = failed("redirected", MayHaveRun::No);
    let see_other = MockFault::status_with(303, "location", "/result").after_running();
    vec![
        case("to another origin", BOTH, "safe", once(other.clone()), ends, (1, 0, 1)).by(POSTS),
        case("where a connection is opened", BOTH, "safe", when_opened(other), ends, (0, 0, 1)).by(KEPT),
        case("within the origin", BOTH, "unsafe", once(same.clone()), SUCCEEDED, (2, 1, 1)),
        case("twice", BOTH, "safe", always(same), ends, (2, 0, 1)),
        case("after the tool ran", BOTH, "unsafe", always(see_other), unknown("redirected"), (1, 1, 1))
            .by(POSTS),
    ]
}

/// An ambiguous fault that strikes before or after the tool ran (`ran`): not repeated, repeated, and repeated in vain.
fn ambiguous(
    name: &'static str,
    eras: &'static [toolfleet_testkit::ProtocolRevision],
    fault: MockFault,
    code: &'static str,
    ran: u64,
    wires: &'static [Wire],
) -> [Case; 3] {
    let in_vain = failed(code, MayHaveRun::Unknown);
    let cases = [
        case(name, eras, "unsafe", once(fault.clone()), unknown(code), (1, ran, 1)),
        case(name, eras, "safe", once(fault.clone()), SUCCEEDED, (2, 1 + ran, 2)),
        case(name, eras, "safe", always(fault), in_vain, (3, 3 * ran, 3)),
    ];
    cases.map(|case| case.by(wires))
}

fn server_failed() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, status) in [("500", 500), ("502", 502), ("503", 503), ("504", 504)] {
        cases.extend(ambiguous(name, BOTH, MockFault::status(status), "server_error", 0, POSTS));
        let late = MockFault::status(status).after_running();
        cases.extend(ambiguous(name, BOTH, late, "server_error", 1, POSTS));
    }
    cases.extend(ambiguous("-32603", BOTH, MockFault::rpc(-32603, "boom"), "rpc_error", 0, EVERY));
    cases.extend(ambiguous(
        "-32603 with HTTP 400",
        BOTH,
        rpc(400, -32603, Value::Null),
        "rpc_error",
        0,
        EVERY,
    ));
    cases
}

fn answer_lost() -> Vec<Case> {
    let code = "answer_lost";
    let primed = |resumable| MockFault::PrimedSseThenEnd { retry_ms: 1, resumable };
    let mut cases = Vec::new();
    cases.extend(ambiguous("before the tool runs", BOTH, MockFault::CloseBeforeExecuting, code, 0, EVERY));
    cases.extend(ambiguous("after the tool ran", BOTH, MockFault::CloseBeforeAnswer, code, 1, EVERY));
    cases.extend(ambiguous("in the middle of the answer", BOTH, MockFault::CutAnswer, code, 1, EVERY));
    cases.extend(ambiguous(
        "a stream that says nothing",
        BOTH,
        MockFault::events(&[": hello\n\n"]),
        code,
        1,
        HTTP,
    ));
    cases.extend(ambiguous("a primed stream", MODERN, primed(true), code, 1, HTTP));
    cases.extend(ambiguous("a primed stream that is forgotten", LEGACY, primed(false), code, 1, HTTP));
    let close = MockFault::CloseWith { code: 1011, reason: "out of memory".into() };
    cases.extend(ambiguous("a close frame before the tool runs", BOTH, close.clone(), code, 0, KEPT));
    cases.extend(ambiguous("a close frame after the tool ran", BOTH, close.after_running(), code, 1, KEPT));
    let lost = once(MockFault::LoseSessions(SessionLoss::NotFound));
    let lost =
        case("a session that ends with its connection", LEGACY, "unsafe", lost, unknown(code), (1, 0, 1));
    cases.push(lost.by(SOCKET).in_old_session());
    let resumed = once(primed(true));
    cases.push(case("a primed stream that is taken up", LEGACY, "unsafe", resumed, SUCCEEDED, (1, 1, 1)));
    cases
}

fn attempt_timed_out() -> Vec<Case> {
    let code = "attempt_timed_out";
    let silent = MockFault::NeverAnswer;
    let nobodys = |name, fault| case(name, BOTH, "hasty", once(fault), unknown(code), (1, 1, 1)).by(KEPT);
    vec![
        case("before the tool runs", BOTH, "hasty", once(silent.clone()), unknown(code), (1, 0, 1)).by(EVERY),
        case(
            "after the tool ran",
            BOTH,
            "hasty",
            once(MockFault::ExecuteAndNeverAnswer),
            unknown(code),
            (1, 1, 1),
        )
        .by(EVERY),
        case("safe to repeat", BOTH, "safe-hasty", once(silent), SUCCEEDED, (2, 1, 2)).by(EVERY),
        // Over a connection that is kept, a message that answers no request ends no call.
        nobodys("a message that is no JSON", MockFault::Garbage("<html>".into())),
        nobodys("an answer to another request", MockFault::WrongId),
        nobodys("an answer without an id", MockFault::NoId),
    ]
}

fn deadline() -> Vec<Case> {
    let ends =
        Ends { kind: OutcomeKind::TimedOut, code: Some("deadline_exceeded"), ran: Some(MayHaveRun::Unknown) };
    let silent = || always(MockFault::NeverAnswer);
    vec![
        case("not safe to repeat", BOTH, "unsafe", silent(), ends, (1, 0, 1)).within_ms(2_500).by(EVERY),
        case("safe to repeat", BOTH, "safe", silent(), ends, (1, 0, 1)).within_ms(2_500).by(EVERY),
        case("between two attempts", BOTH, "safe-hasty", silent(), ends, (2, 0, 2))
            .within_ms(3_300)
            .by(EVERY),
    ]
}

fn too_large() -> Vec<Case> {
    let ends = failed("answer_too_large", MayHaveRun::Unknown);
    let large = |name, fault| case(name, BOTH, "safe", always(fault), ends, (1, 1, 1));
    let event = format!("data: {{\"x\":\"{}\n\n", "x".repeat(200_000));
    vec![
        large("a body of a declared length", MockFault::Garbage("x".repeat(200_000))),
        large("a body without end", MockFault::EndlessBody).by(EVERY),
        large("an event without end", MockFault::events(&[&event])),
        case(
            "unsafe",
            BOTH,
            "unsafe",
            always(MockFault::EndlessBody),
            unknown("answer_too_large"),
            (1, 1, 1),
        )
        .by(EVERY),
    ]
}

fn not_mcp() -> Vec<Case> {
    let ends = failed("invalid_answer", MayHaveRun::Unknown);
    let nonsense = |name, fault| case(name, BOTH, "safe", always(fault), ends, (1, 1, 1));
    let html = MockFault::Answer { content_type: "text/html".into(), chunks: vec!["<html>".into()] };
    let array = MockFault::Answer {
        content_type: "application/json".into(),
        chunks: vec![r#"{"jsonrpc":"2.0","id":{id},"result":[1]}"#.into()],
    };
    vec![
        nonsense("no JSON", MockFault::Garbage("<html>".into())),
        nonsense("nothing", MockFault::Garbage(String::new())),
        nonsense("another content type", html),
        nonsense("another request's id", MockFault::WrongId),
        nonsense("no id", MockFault::NoId),
        nonsense("a result that is no object", array).by(HTTP_AND_SOCKET),
        case("unsafe", BOTH, "unsafe", always(MockFault::NoId), unknown("invalid_answer"), (1, 1, 1)),
    ]
}
