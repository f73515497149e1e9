//! Redaction of argument values: calls are refused or fail in every way, with a secret in the arguments that the server repeats. Rows,
//! records, notices, spans and logs are searched for it.

use std::io;
use std::sync::{Arc, Mutex};

use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use serde_json::{Value, json};
use toolfleet_core::ids::Tenant;
use toolfleet_testkit::{Hearing, MockFault, ToolAnswer};
use toolfleet_worker::telemetry;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::rig::{Rig, limits};

/// What each value begins with.
const MARK: &str = "Zq7-";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which lines are written at all is decided for a whole process: the hunt has a process of its own.
#[test]
fn argument_values_are_in_no_log_span_row_record_or_notice() {
    let hunt = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["argument_leaks::the_hunt", "--exact", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&hunt.stdout), String::from_utf8_lossy(&hunt.stderr));
    assert!(hunt.status.success() && said.contains("1 passed"), "{said}");
}

/// Arguments with a secret in each place where one can stand.
fn arguments() -> Value {
    json!({
        "password": format!("{MARK}password"), "n": format!("{MARK}number"), "note": format!("{MARK}a note"),
        "header": format!("Bearer {MARK}token"), "link": format!("https://u:{MARK}pw@h.example/?key={MARK}key"),
        "by": {format!("{MARK}bo@example.com"): format!("{MARK}below")}, "list": [format!("{MARK}item")],
    })
}

/// Requests that are refused, or fail, each with a body of its own.
fn bodies(reply: &str) -> Vec<(&'static str, String)> {
    let base = |id: &str, target: Value| {
        let mut body = json!({"v": 1, "call_id": id, "tenant": "acme", "arguments": arguments(), "reply": {"sqs_queue_url": reply}});
        body.as_object_mut().unwrap().extend(target.as_object().unwrap().clone());
        body
    };
    let of = |id: &'static str, target: Value| (id, base(id, target).to_string());
    let changed = |id: &'static str, field: &str, value: Value| {
        let mut body = base(id, json!({"tool": "unsafe"}));
        body[field] = value;
        (id, body.to_string())
    };
    let server = |operation: &str, arguments: Value| json!({"server": "mock", "operation": operation, "arguments": arguments});
    vec![
        of("unknown-tool", json!({"tool": "nothing"})),
        of("unlisted", json!({"server": "mock", "name": "nothing"})),
        of("paused", json!({"tool": "paused"})),
        of("closed", json!({"tool": "closed", "user": {"id": "u"}})),
        of("strict", json!({"tool": "strict"})),
        of(
            "not-resumable",
            json!({"tool": "unsafe", "resume": {"call_id": "c0", "input_responses": {"a": {"x": format!("{MARK}answer")}}}}),
        ),
        changed("other-version", "v", json!(format!("{MARK}v"))),
        changed("no-object", "arguments", json!(format!("{MARK}text"))),
        changed("bad-session", "session", json!(format!("{MARK}session x"))),
        changed("bad-user", "user", json!(format!("{MARK}user"))),
        changed("bad-priority", "priority", json!(format!("{MARK}priority"))),
        changed("bad-reply", "reply", json!({format!("{MARK}target@h"): "x"})),
        changed("bad-deadline", "deadline", json!(format!("{MARK}deadline"))),
        changed(
            "bad-resume",
            "resume",
            json!({"call_id": "c0", "input_responses": {"a": format!("{MARK}answer")}}),
        ),
        changed("unknown-field", format!("{MARK}field@h").as_str(), json!(format!("{MARK}value"))),
        (
            "twice",
            base("twice", json!({"tool": "strict"})).to_string().replacen(
                "{\"by\":",
                &format!("{{\"n\":\"{MARK}1\",\"n\":\"{MARK}2\",\"by\":"),
                1,
            ),
        ),
        of("bad-uri", server("resources/read", json!({"uri": [format!("{MARK}uri")]}))),
        of(
            "more-than-uri",
            server(
                "resources/read",
                json!({"uri": "file:///x", format!("{MARK}more@h"): format!("{MARK}more")}),
            ),
        ),
        of(
            "no-prompt",
            server("prompts/get", json!({"name": "p", "arguments": {"a": [format!("{MARK}text")]}})),
        ),
        of("no-page", server("tools/list", json!({"cursor": {"a": format!("{MARK}page")}}))),
    ]
}

type Betrayal = (&'static str, Box<dyn Fn(&Rig)>);

/// What a server answers that repeats what it was sent.
fn betrayals() -> Vec<Betrayal> {
    let all = arguments().to_string();
    let says = |answer: fn(String) -> MockFault| {
        let all = all.clone();
        Box::new(move |rig: &Rig| _ = rig.mcp.next(answer(all.clone()))) as Box<dyn Fn(&Rig)>
    };
    vec![
        ("rpc-refused", says(|all| MockFault::rpc(-32602, &format!("bad arguments: {all}")))),
        ("rpc-failed", says(|all| MockFault::rpc(-32603, &format!("cannot use {all}")))),
        ("status-400", says(|all| MockFault::Status { status: 400, headers: vec![], body: all })),
        (
            "status-500",
            says(|all| MockFault::Status {
                status: 500,
                headers: vec![("x-echo".into(), "y".into())],
                body: all,
            }),
        ),
        ("garbage", says(MockFault::Garbage)),
        (
            "content-type",
            says(|all| MockFault::Answer { content_type: "text/html".into(), chunks: vec![all] }),
        ),
        (
            "redirect",
            says(|_| MockFault::Redirect(format!("https://elsewhere.example/?password={MARK}password"))),
        ),
    ]
}

#[tokio::test]
#[ignore = "run by the test above"]
async fn the_hunt() {
    let lines = Lines::default();
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let written = {
        let lines = lines.clone();
        // The SDK writes whole messages at TRACE, which is what an operator who asks for that wants to see.
        tracing_subscriber::fmt::layer()
            .with_ansi(false)
            .with_span_events(FmtSpan::NEW)
            .with_writer(move || lines.clone())
            .with_filter(EnvFilter::new(
                "info,toolfleet_core=trace,toolfleet_aws=trace,toolfleet_mcp=trace,toolfleet_worker=trace",
            ))
    };
    let subscriber = tracing_subscriber::registry().with(telemetry::spans(&provider)).with(written);
    let _listening = Hearing::new(subscriber);

    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["servers"][0]["progress"] = json!(true);
    catalog["tools"][4]["input_schema"]["additionalProperties"] = json!(false);
    let context = rig.fleet_of(catalog, limits(), None).await;
    let reply = rig.local.queue_url("toolfleet-replies");
    let mut ids = Vec::new();
    for (id, body) in bodies(&reply) {
        assert!(body.contains(MARK), "{id}");
        rig.send(body).await;
        ids.push(id);
    }
    rig.settle_with(&context).await;
    for (id, betray) in betrayals() {
        betray(&rig);
        let body = json!({"v": 1, "call_id": id, "tenant": "acme", "tool": "unsafe", "arguments": arguments(), "reply": {"sqs_queue_url": reply}});
        rig.send(body.to_string()).await;
        rig.settle_with(&context).await;
        ids.push(id);
    }
    // The tool fails, and says what it was given: its content is kept, and nothing of it elsewhere.
    drop(rig.mcp.tool("unsafe", |_| {
        ToolAnswer::Result(
            json!({"isError": true, "content": [{"type": "text", "text": arguments().to_string()}]}),
        )
    }));
    let body = json!({"v": 1, "call_id": "tool-error", "tenant": "acme", "tool": "unsafe", "arguments": arguments()});
    rig.send(body.to_string()).await;
    rig.settle_with(&context).await;
    assert!(rig.outcome("tool-error").await.message.contains(MARK), "a tool's own words");

    let secrets = ["password", "token", "pw@", "key"].map(|name| format!("{MARK}{name}"));
    for id in ids {
        let row = format!("{:?}", rig.row(id).await);
        assert!(row.contains("finished: Some"), "{id}: {row}");
        // The sender of a call reads its row, so a server's text may name the wrong value; it may not show a secret.
        let by_server = betrayals().iter().any(|(name, _)| *name == id);
        let leaked = secrets.iter().any(|secret| row.contains(secret)) || (!by_server && row.contains(MARK));
        assert!(!leaked, "{id}: {row}");
    }
    for tenant in [Tenant::parse("acme").unwrap(), Tenant::undecodable()] {
        for record in rig.audit(&tenant).await {
            assert!(!format!("{record:?}").contains(MARK), "{record:?}");
        }
    }
    let queue = rig.direct.queue(reply);
    for _ in 0..5 {
        for notice in queue.receive(10, 0, 30).await.unwrap() {
            assert!(!notice.body.contains(MARK), "{}", notice.body);
        }
    }
    let spans = format!("{:?}", exporter.get_finished_spans().unwrap());
    assert!(spans.contains("tools/call unsafe") && !spans.contains(MARK), "{spans}");
    let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("an attempt failed"), "{log}");
    for line in log.lines() {
        assert!(!line.contains(MARK), "{line}");
    }
}
