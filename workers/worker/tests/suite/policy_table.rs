//! The policy table: what each answer of a server means, through SQS and a worker, in each protocol revision.
//!
//! `policy_rows.rs` is the table, docs/reference/answers.md its words. Each case runs on a worker that knows nothing yet, and a neighbour's
//! call on the same worker has to succeed after it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::call::State;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision};

use crate::policy_rows::rows;
use crate::rig::{Rig, limits, request};

pub(crate) const MODERN: &[ProtocolRevision] = &[ProtocolRevision::Modern];
pub(crate) const LEGACY: &[ProtocolRevision] = &[ProtocolRevision::Legacy];
/// In each of the two.
pub(crate) const BOTH: &[ProtocolRevision] = &[ProtocolRevision::Modern, ProtocolRevision::Legacy];
/// On a server that speaks both.
pub(crate) const EITHER: &[ProtocolRevision] = &[ProtocolRevision::Both];

/// How the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Http,
    WebSocket,
    /// The HTTP+SSE transport of 2024-11-05.
    Sse,
}

/// By streamable HTTP alone.
pub(crate) const HTTP: &[Wire] = &[Wire::Http];
/// By each transport.
pub(crate) const EVERY: &[Wire] = &[Wire::Http, Wire::WebSocket, Wire::Sse];
/// By those that send a message by a POST of its own.
pub(crate) const POSTS: &[Wire] = &[Wire::Http, Wire::Sse];
/// By those whose connection is kept.
pub(crate) const KEPT: &[Wire] = &[Wire::WebSocket, Wire::Sse];
pub(crate) const SOCKET: &[Wire] = &[Wire::WebSocket];
pub(crate) const SSE: &[Wire] = &[Wire::Sse];
/// By those that know the stateless revision.
pub(crate) const HTTP_AND_SOCKET: &[Wire] = &[Wire::Http, Wire::WebSocket];

/// Worlds in which cases run at the same time.
const LANES: usize = 4;

/// What the server does.
pub(crate) type Script = Box<dyn Fn(&MockMcp) + Send + Sync>;

/// A row of docs/reference/answers.md, by its first column, and the cases that prove it.
pub(crate) struct Row {
    pub(crate) seen: &'static str,
    pub(crate) cases: Vec<Case>,
}

/// How a call must have ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ends {
    pub(crate) kind: OutcomeKind,
    pub(crate) code: Option<&'static str>,
    pub(crate) ran: Option<MayHaveRun>,
}

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) eras: &'static [ProtocolRevision],
    pub(crate) wires: &'static [Wire],
    pub(crate) tool: &'static str,
    pub(crate) server: Script,
    pub(crate) ends: Ends,
    /// How often `tools/call` arrived, how often the tool ran, and the attempts on record.
    pub(crate) counts: (usize, u64, u32),
    pub(crate) timeout_ms: Option<u64>,
    /// A call has been made before, so that a session stands.
    pub(crate) in_old_session: bool,
}

/// A case; `counts` are the requests that arrived, the executions, and the attempts on record.
pub(crate) fn case(
    name: &'static str,
    eras: &'static [ProtocolRevision],
    tool: &'static str,
    server: Script,
    ends: Ends,
    counts: (usize, u64, u32),
) -> Case {
    Case { name, eras, wires: HTTP, tool, server, ends, counts, timeout_ms: None, in_old_session: false }
}

impl Case {
    /// The call's own time, counted from its message.
    pub(crate) fn within_ms(self, timeout_ms: u64) -> Self {
        Self { timeout_ms: Some(timeout_ms), ..self }
    }

    /// By these transports.
    pub(crate) fn by(self, wires: &'static [Wire]) -> Self {
        Self { wires, ..self }
    }

    /// In a session that existed before the call.
    pub(crate) fn in_old_session(self) -> Self {
        Self { in_old_session: true, ..self }
    }
}

/// The server does this once, and is well from then on.
pub(crate) fn once(fault: MockFault) -> Script {
    Box::new(move |mcp| {
        mcp.next(fault.clone());
    })
}

/// The server does this to every tool call.
pub(crate) fn always(fault: MockFault) -> Script {
    Box::new(move |mcp| {
        mcp.always_for("tools/call", fault.clone());
    })
}

/// The tool gives these results, the last one for ever.
pub(crate) fn says(results: &'static [&'static str]) -> Script {
    Box::new(move |mcp| {
        for tool in ["safe", "unsafe", "patient"] {
            let mut left = results.iter();
            let mut last = "{}";
            mcp.tool(tool, move |_| {
                last = left.next().copied().unwrap_or(last);
                toolfleet_testkit::ToolAnswer::Raw(last.to_owned())
            });
        }
    })
}

/// The server does this once where a connection to it is opened.
pub(crate) fn when_opened(fault: MockFault) -> Script {
    Box::new(move |mcp| {
        mcp.next_for("GET", fault.clone());
    })
}

/// The server does this wherever a connection to it is opened.
pub(crate) fn always_when_opened(fault: MockFault) -> Script {
    Box::new(move |mcp| {
        mcp.always_for("GET", fault.clone());
    })
}

/// The server is well.
pub(crate) fn well() -> Script {
    Box::new(|_| {})
}

/// Servers and tools of the table. No server is open to its own list, so that nothing is known of a tool before it is called.
fn catalog(rig: &Rig, wire: Wire) -> Value {
    let mut catalog = rig.catalog();
    let (url, scheme, transport) = match wire {
        Wire::Http => (rig.mcp.url(), "http", "http"),
        Wire::WebSocket => (rig.mcp.ws_url(), "ws", "websocket"),
        Wire::Sse => (rig.mcp.sse_url(), "http", "sse"),
    };
    catalog["servers"] = json!([
        {"id": "mock", "transport": transport, "url": url},
        {"id": "away", "transport": transport, "url": format!("{scheme}://127.0.0.1:9/mcp")},
        {"id": "nameless", "transport": transport, "url": format!("{scheme}://no-such-host.invalid/mcp")},
        {"id": "no-tls", "transport": transport, "url": url.replacen(scheme, &format!("{scheme}s"), 1)}
    ]);
    catalog["tools"] = json!([
        {"id": "safe", "server": "mock", "idempotent": true, "timeout_ms": 5000},
        {"id": "unsafe", "server": "mock", "timeout_ms": 5000},
        {"id": "patient", "server": "mock", "timeout_ms": 30_000},
        {"id": "hasty", "server": "mock", "name": "unsafe", "timeout_ms": 1500},
        {"id": "safe-hasty", "server": "mock", "name": "safe", "idempotent": true, "timeout_ms": 1500},
        {"id": "away", "server": "away", "name": "unsafe", "timeout_ms": 5000},
        {"id": "nameless", "server": "nameless", "name": "unsafe", "timeout_ms": 5000},
        {"id": "no-tls", "server": "no-tls", "name": "unsafe", "timeout_ms": 5000}
    ]);
    catalog
}

/// Takes a call through a worker that has met nothing yet, and holds its end against the case.
async fn prove(rig: &Rig, id: &str, case: &Case, wire: Wire) {
    rig.mcp.behave();
    for tool in ["safe", "unsafe", "patient"] {
        rig.mcp.tool(tool, |_| json!({"content": [{"type": "text", "text": "done"}]}));
    }
    let context = rig.fleet_of(catalog(rig, wire), limits(), None).await;
    if case.in_old_session {
        rig.send(request(&format!("{id}-before"), "safe").to_string()).await;
        rig.settle_with(&context).await;
    }
    (case.server)(&rig.mcp);
    let before = rig.mcp.requests_of("tools/call").len();
    let mut body = request(id, case.tool);
    if let Some(timeout_ms) = case.timeout_ms {
        body["timeout_ms"] = json!(timeout_ms);
    }
    rig.send(body.to_string()).await;
    rig.settle_with(&context).await;

    let seen = rig.outcome(id).await;
    let (sends, executions, attempts) = case.counts;
    let found = Ends { kind: seen.kind, code: seen.code, ran: seen.may_have_run };
    assert_eq!(found, case.ends, "{}: {}", case.name, seen.message);
    assert_eq!(rig.mcp.requests_of("tools/call").len() - before, sends, "sends: {}", case.name);
    assert_eq!(rig.mcp.executions_of(id), executions, "executions: {}", case.name);
    assert_eq!((seen.row.state, seen.row.attempts), (State::Done, attempts), "the row: {}", case.name);
    let audit = rig.audit_of(id, AuditKind::Call).await;
    assert_eq!(audit.len(), 1, "audit records: {}", case.name);
    assert_eq!((audit[0].attempts, audit[0].outcome), (attempts, found.kind), "audit: {}", case.name);
    assert_eq!(audit[0].code.as_deref(), found.code, "audit: {}", case.name);

    let neighbour = format!("{id}-neighbour");
    rig.mcp.behave();
    rig.mcp.tool("safe", |_| json!({"content": []}));
    // A pause that the server asked for holds the tenant's next calls, too: an hour at most.
    let mut body = request(&neighbour, "safe");
    body["timeout_ms"] = json!(7_200_000);
    rig.send(body.to_string()).await;
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome(&neighbour).await.kind, OutcomeKind::Succeeded, "after: {}", case.name);
}

/// The cases of a transport and an era in a few lanes: most of their time is waited, not worked.
async fn prove_all(wire: Wire, era: ProtocolRevision) {
    let rows = rows();
    let has = |case: &&Case| case.eras.contains(&era) && case.wires.contains(&wire);
    let cases: Vec<_> = rows.iter().flat_map(|row| &row.cases).filter(has).collect();
    assert!(!cases.is_empty(), "no case of {wire:?} in {era:?}");
    let lane = async |first: usize| {
        let rig = Rig::with(era).await;
        for (number, case) in cases.iter().enumerate().skip(first).step_by(LANES) {
            prove(&rig, &format!("c{number}"), case, wire).await;
        }
    };
    futures::future::join_all((0..LANES.min(cases.len())).map(lane)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_of_a_modern_server_means_what_the_table_says() {
    prove_all(Wire::Http, ProtocolRevision::Modern).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_of_a_legacy_server_means_what_the_table_says() {
    prove_all(Wire::Http, ProtocolRevision::Legacy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_in_both_protocol_revisions_matches_the_table() {
    prove_all(Wire::Http, ProtocolRevision::Both).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_over_a_connection_that_is_kept_means_what_the_table_says() {
    // HTTP+SSE is older than the stateless revision.
    for (wire, era) in [
        (Wire::WebSocket, ProtocolRevision::Modern),
        (Wire::WebSocket, ProtocolRevision::Legacy),
        (Wire::Sse, ProtocolRevision::Legacy),
    ] {
        prove_all(wire, era).await;
    }
}

/// Rows that have files of their own.
const ELSEWHERE: [(&str, &str); 2] =
    [("`input_required` with questions", "suite/resume.rs"), ("`resultType: task`", "suite/tasks.rs")];

#[test]
fn documented_rows_and_tested_rows_are_the_same() {
    let document = include_str!("../../../../docs/reference/answers.md");
    let table = document.lines().filter(|line| line.starts_with("| ")).skip(1);
    let documented: BTreeSet<&str> =
        table.filter_map(|line| line.split(" | ").next()).map(|cell| cell.trim_start_matches("| ")).collect();
    let proved: BTreeSet<&str> =
        rows().iter().map(|row| row.seen).chain(ELSEWHERE.map(|(row, _)| row)).collect();
    assert_eq!(documented, proved);
    assert!(rows().iter().all(|row| !row.cases.is_empty()));
}
