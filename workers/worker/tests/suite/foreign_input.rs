//! Malformed input from servers and programs is read within bounds, and one bad frame affects no other call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::{Value, json};
use toolfleet_aws::queue::Delivery;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_testkit::{MockFault, ProtocolRevision, ScriptedProgram};
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;
use toolfleet_worker::pipeline::steps::{Step, Watch};

use crate::rig::{Rig, limits, request};

fn by_name(id: &str, name: &str) -> Value {
    json!({"v": 1, "call_id": id, "tenant": "acme", "server": "mock", "name": name, "arguments": {"call": id}})
}

/// Each of 34 parts refers to the next one twice.
fn doubling() -> Value {
    let mut parts = serde_json::Map::new();
    for level in 0..34 {
        let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
        parts.insert(format!("d{level}"), json!({ "allOf": [next, next] }));
    }
    parts.insert("d34".to_owned(), json!({ "type": "object" }));
    json!({ "$ref": "#/$defs/d0", "$defs": parts })
}

/// Counts the calls that may run.
#[derive(Default)]
struct CountAdmitted(AtomicU32);

impl Watch for CountAdmitted {
    fn passed(&self, step: Step) -> BoxFuture<'_, ()> {
        if step == Step::Admitted {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
        Box::pin(async {})
    }
}

/// Runs what lies in the queue, all at once.
async fn together(rig: &Rig, context: &Arc<WorkerContext>) {
    let mut runs = Vec::new();
    while let Some(delivery) = rig.receive(context).await {
        let delivery: Delivery = delivery;
        runs.push(tokio::spawn(pipeline::run(context.clone(), delivery, ())));
    }
    for run in runs {
        tokio::time::timeout(Duration::from_secs(30), run).await.expect("a call hangs").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exponential_listed_schema_is_left_to_its_server() {
    let rig = Rig::new().await;
    rig.mcp.tool("bomb", |_| json!({"content": []})).schema(doubling());
    let context = rig.context(None).await;
    for n in 0..4 {
        rig.send(by_name(&format!("b{n}"), "bomb").to_string()).await;
        rig.send(request(&format!("c{n}"), "safe").to_string()).await;
    }
    together(&rig, &context).await;
    for id in ["b0", "b1", "b2", "b3", "c0", "c1", "c2", "c3"] {
        let seen = rig.outcome(id).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{id}: {}", seen.message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_schema_that_doubles_is_left_to_its_server() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["tools"][0]["input_schema"] = doubling();
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(request("c1", "safe").to_string()).await;
    together(&rig, &context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_no_danger_still_refuses_what_does_not_fit() {
    let rig = Rig::new().await;
    rig.mcp.tool("picky", |_| json!({"content": []})).schema(json!({
        "type": "object", "required": ["n"], "properties": {"n": {"$ref": "#/$defs/n"}},
        "$defs": {"n": {"type": "integer"}},
    }));
    let context = rig.context(None).await;
    rig.send(by_name("c1", "picky").to_string()).await;
    together(&rig, &context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Refused, Some("invalid_arguments")), "{}", seen.message);
    assert_eq!(rig.mcp.executions("picky"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_fetched_by_one_call_for_all_that_wait_for_it() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    for n in 0..8 {
        rig.send(by_name(&format!("c{n}"), "hinted").to_string()).await;
    }
    together(&rig, &context).await;
    assert_eq!(rig.mcp.requests_of("tools/list").len(), 1);
    for n in 0..8 {
        assert_eq!(rig.outcome(&format!("c{n}")).await.kind, OutcomeKind::Succeeded);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_list_is_not_fetched_again_by_each_waiting_call() {
    let rig = Rig::new().await;
    let admitted = Arc::new(CountAdmitted::default());
    let context = rig.context(Some(admitted.clone())).await;
    let hold = rig.mcp.hold_for("tools/list");
    rig.mcp.always_for("tools/list", MockFault::status(500));
    for n in 0..8 {
        rig.send(by_name(&format!("c{n}"), "hinted").to_string()).await;
    }
    let all = together(&rig, &context);
    let released = async {
        rig.mcp.arrived("tools/list", 1).await;
        while admitted.0.load(Ordering::Acquire) < 8 {
            tokio::task::yield_now().await;
        }
        // They are on their way to the list: nothing between the two waits for anything.
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        drop(hold);
    };
    tokio::join!(all, released);
    let asked = rig.mcp.requests_of("tools/list").len();
    assert_eq!(asked, 1);
}

fn page(tools: &Value, next: &Value) -> MockFault {
    let result = json!({"resultType": "complete", "tools": tools, "nextCursor": next});
    MockFault::Answer {
        content_type: "application/json".to_owned(),
        chunks: vec![format!("{{\"jsonrpc\":\"2.0\",\"id\":{{id}},\"result\":{result}}}")],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_list_is_used_and_a_missing_tool_fails_at_once() {
    for next in [json!("20"), json!(0), json!({"page": 2})] {
        let rig = Rig::new().await;
        rig.mcp.always_for("tools/list", page(&json!([{"name": "hinted"}]), &next));
        let context = rig.context(None).await;
        rig.send(by_name("c1", "hinted").to_string()).await;
        rig.send(by_name("c2", "unheard-of").to_string()).await;
        together(&rig, &context).await;
        assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded, "{next}");
        let seen = rig.outcome("c2").await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("invalid_answer")), "{}", seen.message);
        assert_eq!(seen.may_have_run, Some(MayHaveRun::No));
        assert!(seen.message.contains("list"), "{}", seen.message);
        assert!(rig.mcp.requests_of("tools/list").len() <= 4, "{next}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_cursor_is_followed_only_since_2026_07_28() {
    for (era, reads) in [(ProtocolRevision::Modern, true), (ProtocolRevision::Legacy, false)] {
        let rig = Rig::with(era).await;
        rig.mcp.next_for("tools/list", page(&json!([{"name": "hinted"}]), &json!("")));
        rig.mcp.next_for("tools/list", page(&json!([{"name": "safe"}]), &Value::Null));
        let mut catalog = rig.catalog();
        catalog["tools"] = json!([]);
        let context = rig.fleet_of(catalog, limits(), None).await;
        rig.send(by_name("c1", "safe").to_string()).await;
        together(&rig, &context).await;
        let expected = if reads { OutcomeKind::Succeeded } else { OutcomeKind::Refused };
        assert_eq!(rig.outcome("c1").await.kind, expected, "{era:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heartbeat_on_the_stream_costs_no_call_its_answer() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    let context = rig.context(None).await;
    for (n, before) in [
        "event: ping\ndata: 2026-11-28T10:00:00Z\n\n",
        "data: keepalive\n\n",
        "data: {\"jsonrpc\":\"2.0\",\"id\":987654,\"result\":{}}\n\n",
    ]
    .into_iter()
    .enumerate()
    {
        rig.mcp
            .next(MockFault::events(&[before, "data: {\"jsonrpc\":\"2.0\",\"id\":\"{id}\",{result}}\n\n"]));
        let id = format!("c{n}");
        rig.send(request(&id, "unsafe").to_string()).await;
        together(&rig, &context).await;
        let seen = rig.outcome(&id).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{before}: {}", seen.message);
    }
    assert_eq!(rig.mcp.executions("unsafe"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stray_line_of_a_program_fails_none_of_its_calls() {
    let (rig, script) = (Rig::new().await, ScriptedProgram::new(&["garbage", "log-json"]));
    let mut catalog = rig.catalog();
    let server = json!({"id": "files", "command": script.command(), "args": script.args()});
    catalog["servers"].as_array_mut().unwrap().push(server);
    let tool = json!({"id": "pay", "server": "files", "name": "pay", "timeout_ms": 15000});
    catalog["tools"].as_array_mut().unwrap().push(tool);
    let context = rig.fleet_of(catalog, limits(), None).await;
    for n in 0..6 {
        rig.send(request(&format!("c{n}"), "pay").to_string()).await;
    }
    together(&rig, &context).await;
    for n in 0..6 {
        let seen = rig.outcome(&format!("c{n}")).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "c{n}: {}", seen.message);
    }
    assert_eq!((script.count("start"), script.count("call")), (1, 6));
    context.mcp.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unpaired_surrogates_pass_in_arguments_lists_and_errors() {
    let rig = Rig::new().await;
    let listed = r#"[{"name":"hinted","description":"x\ud83d","inputSchema":{"type":"object","properties":{"t":{"type":"string"}}}}]"#;
    let chunks =
        vec![format!("{{\"id\":{{id}},\"result\":{{\"resultType\":\"complete\",\"tools\":{listed}}}}}")];
    rig.mcp.next_for("tools/list", MockFault::Answer { content_type: "application/json".to_owned(), chunks });
    let answer =
        r#"{"id":{id},"result":{"isError":true,"content":[{"type":"text","text":"no \ud800 way"}]}}"#;
    let content_type = "application/json".to_owned();
    rig.mcp.next(MockFault::Answer { content_type, chunks: vec![answer.to_owned()] });
    let context = rig.context(None).await;
    let body = r#"{"v":1,"call_id":"c1","tenant":"acme","server":"mock","name":"hinted","arguments":{"t":"\udc00"}}"#;
    rig.send(body).await;
    together(&rig, &context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.message.as_str()), (OutcomeKind::ToolError, "no \u{fffd} way"));
    assert!(seen.content.unwrap().contains(r"\ud800"), "the result is stored as it came");
    assert!(rig.mcp.requests_of("tools/call")[0].text.contains(r#""t":"\udc00""#), "and sent as it came");
}
