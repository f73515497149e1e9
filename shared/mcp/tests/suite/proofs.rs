//! Whatever a server answers, and whether or not its tool ran before: a call that is not safe to repeat is sent at most once unless the
//! answer proves that nothing ran, and "did not run" is only said where that is true.
//!
//! The servers drawn here are honest in one way: one that ran the tool gives none of the listed proofs (docs/reference/answers.md).

use std::sync::LazyLock;

use proptest::prelude::*;
use tokio::runtime::Runtime;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_mcp::{refuses_by_status, refuses_request};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision};

use crate::support::*;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());

#[derive(Debug, Clone, Copy, PartialEq)]
enum Id {
    Ours,
    Null,
    Other,
    None,
}

#[derive(Debug, Clone)]
struct Drawn {
    legacy: bool,
    /// The session existed before the call.
    old: bool,
    /// The tool runs before the answer.
    ran: bool,
    status: u16,
    /// The code of a JSON-RPC error, if the body is one.
    code: Option<i64>,
    id: Id,
    /// Whether the error comes as an event.
    stream: bool,
    /// How many bytes of the body are cut off.
    lost: usize,
}

impl Drawn {
    fn body(&self) -> String {
        let Some(code) = self.code else { return "the session of your order".to_owned() };
        let id = match self.id {
            Id::Ours => r#""id":{id},"#,
            Id::Null => r#""id":null,"#,
            Id::Other => r#""id":987654,"#,
            Id::None => "",
        };
        let frame =
            format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":"session not found"}}}}"#);
        if self.stream { format!("data: {frame}\n\n") } else { frame }
    }

    /// Whether the answer is one of the listed proofs that the tool did not run.
    fn proves(&self) -> bool {
        // The line that ends an event may be missing.
        if self.lost > if self.stream { 2 } else { 0 } {
            return false;
        }
        let ours = self.code.is_some() && self.id == Id::Ours;
        let open = matches!(self.status, 408 | 421 | 425 | 500..=599);
        let denied =
            self.legacy && self.old && self.status == 404 && matches!(self.code, Some(-32_001 | -32_600));
        denied
            || if ours {
                self.code.is_some_and(refuses_request) && !open
            } else {
                refuses_by_status(self.status)
            }
    }

    fn fault(&self) -> MockFault {
        let (body, lost) = (self.body(), self.lost);
        let content_type = if self.stream { "text/event-stream" } else { "application/json" };
        let fault = MockFault::Cut { status: self.status, content_type: content_type.to_owned(), body, lost };
        if self.ran { fault.after_running() } else { fault }
    }
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let status = prop_oneof![
        2 => Just(200_u16),
        1 => prop::sample::select(vec![201_u16, 202, 204, 302, 303]),
        4 => 400..452_u16,
        1 => 500..512_u16,
    ];
    let code = prop::option::weighted(
        0.8,
        prop_oneof![
            prop::sample::select(vec![-32700_i64, -32600, -32601, -32602, -32603, -32020, -32021, -32022]),
            -32010..=-32000_i64,
            -100..100_i64,
        ],
    );
    let id = prop::sample::select(vec![Id::Ours, Id::Ours, Id::Null, Id::Other, Id::None]);
    let lost = prop_oneof![4 => Just(0), 1 => 1..120_usize];
    (any::<bool>(), any::<bool>(), any::<bool>(), status, code, id, any::<bool>(), lost).prop_map(
        |(legacy, old, ran, status, code, id, stream, lost)| {
            let stream = stream && code.is_some();
            Drawn { legacy, old, ran, status, code, id, stream, lost }
        },
    )
}

async fn holds(drawn: &Drawn) -> Result<(), TestCaseError> {
    let server =
        MockMcp::start(if drawn.legacy { ProtocolRevision::Legacy } else { ProtocolRevision::Modern }).await;
    server.echo();
    let client = client();
    if drawn.old {
        echo(&client, &server).await.unwrap();
    }
    let (before, runs) = (server.requests_of("tools/call").len(), server.executions("echo"));
    server.next(drawn.fault());
    // A stream that goes on without the answer is waited for in vain.
    let (endpoint, arguments) = (endpoint(&server.url()), raw("{}"));
    let call = toolfleet_mcp::ToolCall::new(&endpoint, "echo", &arguments, later());
    let met = client.call_tool(toolfleet_mcp::ToolCall { conversation: Some("talk"), ..call }).await;
    let sends = server.requests_of("tools/call").len() - before;
    let runs = server.executions("echo") - runs;
    prop_assert!(runs <= 1, "ran {runs} times: {met:?}");
    prop_assert!(sends <= if drawn.proves() { 2 } else { 1 }, "sent {sends} times: {met:?}");
    if let Err(fault) = &met {
        prop_assert!(fault.may_have_run() != MayHaveRun::No || runs == 0, "{fault:?}");
        prop_assert!(fault.may_have_run() != MayHaveRun::No || drawn.proves(), "no proof: {fault:?}");
    }
    server.behave();
    prop_assert!(echo(&client, &server).await.is_ok(), "the next call of the conversation");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_repeats_an_unsafe_call_or_denies_that_it_ran_without_proof(drawn in drawn()) {
        prop_assume!(!(drawn.ran && drawn.proves()));
        RUNTIME.block_on(holds(&drawn))?;
    }
}
