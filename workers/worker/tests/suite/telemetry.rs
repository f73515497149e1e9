//! Telemetry of a worker: one trace from the sender to the tool and the notice, metrics, health.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::{SpanId, SpanKind, Status, TraceId};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use serde_json::json;
use tokio::net::TcpListener;
use toolfleet_aws::queue::Outgoing;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::MockFault;
use toolfleet_worker::service_health::ServiceHealth;
use toolfleet_worker::services::intake::Intake;
use toolfleet_worker::services::supervisor::Supervisor;
use toolfleet_worker::services::{Service, http};
use toolfleet_worker::shutdown::Shutdown;
use toolfleet_worker::telemetry::{self, Meters};
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::rig::{CountAcknowledged, Rig, request, run_service};

const SENDERS_SPAN: &str = "b7ad6b7169203331";

/// Sends a call as a traced sender does.
async fn send(rig: &Rig, trace: &str, body: serde_json::Value) {
    let attributes = [
        ("traceparent".to_owned(), format!("00-{trace}-{SENDERS_SPAN}-01")),
        ("tracestate".to_owned(), "vendor=1".to_owned()),
    ];
    let message = Outgoing { body: body.to_string(), attributes: attributes.into(), ..Outgoing::default() };
    rig.queue().send(message).await.unwrap();
}

/// The ended spans of a trace. All tests of this process share one receiver: what a thread alone listens to depends on which
/// other threads have met the same spans before.
fn spans_of(trace: &str) -> Vec<SpanData> {
    static RECEIVER: OnceLock<(InMemorySpanExporter, SdkTracerProvider)> = OnceLock::new();
    let (exporter, _) = RECEIVER.get_or_init(|| {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let subscriber = tracing_subscriber::registry().with(telemetry::spans(&provider));
        tracing::subscriber::set_global_default(subscriber).unwrap();
        (exporter, provider)
    });
    let trace = TraceId::from_hex(trace).unwrap();
    let all = exporter.get_finished_spans().unwrap();
    all.into_iter().filter(|span| span.span_context.trace_id() == trace).collect()
}

fn named<'a>(spans: &'a [SpanData], name: &str) -> &'a SpanData {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} among {:?}", spans.iter().map(|s| &s.name).collect::<Vec<_>>());
    found[0]
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|pair| pair.key.as_str() == name);
    found.map(|pair| pair.value.to_string())
}

#[tokio::test]
async fn attempt_spans_name_the_operation_and_no_resource_address() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c8031aa";
    assert!(spans_of(TRACE).is_empty());
    let rig = Rig::new().await;
    rig.mcp.method("resources/read", |_| json!({"contents": []}));
    rig.mcp.method("prompts/get", |_| json!({"messages": []}));
    let asked = [
        ("resources/read", json!({"uri": "note://x?token=hush"})),
        ("prompts/get", json!({"name": "greet"})),
    ];
    for (operation, arguments) in asked {
        let id = operation.replace('/', "-");
        let body = json!({"v": 1, "call_id": id, "tenant": "acme", "server": "mock", "operation": operation,
            "arguments": arguments});
        send(&rig, TRACE, body).await;
    }
    rig.settle().await;
    let spans = spans_of(TRACE);
    let prompt = named(&spans, "prompts/get greet");
    assert_eq!(attribute(prompt, "gen_ai.prompt.name").unwrap(), "greet");
    assert!(attribute(prompt, "gen_ai.tool.name").is_none());
    assert_eq!(attribute(named(&spans, "resources/read"), "mcp.method.name").unwrap(), "resources/read");
    assert!(!format!("{spans:?}").contains("hush"));
}

#[tokio::test]
async fn one_trace_joins_sender_claim_attempt_tool_record_and_notice() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    assert!(spans_of(TRACE).is_empty());
    let rig = Rig::new().await;
    let reply = rig.local.queue_url("toolfleet-replies");
    let mut body = request("c1", "unsafe");
    body["reply"] = json!({"sqs_queue_url": reply});
    body["arguments"] = json!({"text": "not for a trace"});
    send(&rig, TRACE, body).await;
    rig.settle().await;

    let spans = spans_of(TRACE);
    let process = named(&spans, "process toolfleet-calls");
    assert_eq!(process.parent_span_id, SpanId::from_hex(SENDERS_SPAN).unwrap());
    assert_eq!(process.span_kind, SpanKind::Consumer);
    assert_eq!(attribute(process, "messaging.system").unwrap(), "aws_sqs");
    assert_eq!(attribute(process, "toolfleet.call_id").unwrap(), "c1");
    assert_eq!(attribute(process, "toolfleet.outcome").unwrap(), "succeeded");
    let attempt = named(&spans, "tools/call unsafe");
    assert_eq!(attempt.span_kind, SpanKind::Client);
    assert_eq!(attribute(attempt, "mcp.method.name").unwrap(), "tools/call");
    assert_eq!(attribute(attempt, "gen_ai.tool.name").unwrap(), "unsafe");
    assert_eq!(attribute(attempt, "mcp.protocol.version").unwrap(), "2026-07-28");
    let notice = named(&spans, "send toolfleet-replies");
    for step in [named(&spans, "claim"), attempt, named(&spans, "record"), notice] {
        assert_eq!(step.parent_span_id, process.span_context.span_id(), "{}", step.name);
    }
    let called = rig.mcp.requests_of("tools/call");
    let expected = format!("00-{TRACE}-{}-01", attempt.span_context.span_id());
    assert_eq!(called[0].body["params"]["_meta"]["traceparent"], expected);
    assert_eq!(called[0].body["params"]["_meta"]["tracestate"], "vendor=1");
    assert_eq!(called[0].header("traceparent"), Some(expected.as_str()));
    let notices = rig.direct.queue(reply).receive(10, 0, 30).await.unwrap();
    let expected = format!("00-{TRACE}-{}-01", notice.span_context.span_id());
    assert_eq!(notices[0].attributes["traceparent"], expected);
    assert!(!format!("{spans:?}").contains("not for a trace"), "arguments are in no span");
}

#[tokio::test]
async fn each_attempt_has_a_span_of_its_own_that_says_what_went_wrong() {
    const TRACE: &str = "1af7651916cd43dd8448eb211c80319c";
    assert!(spans_of(TRACE).is_empty());
    let rig = Rig::new().await;
    rig.mcp.next_for("tools/call", MockFault::status(503));
    send(&rig, TRACE, request("c1", "safe")).await;
    rig.settle().await;
    let spans = spans_of(TRACE);
    let attempts: Vec<_> = spans.iter().filter(|span| span.name == "tools/call safe").collect();
    assert_eq!(attempts.len(), 2);
    assert!(matches!(attempts[0].status, Status::Error { .. }));
    assert!(attribute(attempts[0], "error.type").is_some());
    assert_eq!(attempts[1].status, Status::Unset);
    assert_ne!(attempts[0].span_context.span_id(), attempts[1].span_context.span_id());
}

#[tokio::test]
async fn without_tracing_the_senders_context_is_passed_on_unchanged() {
    const TRACE: &str = "2af7651916cd43dd8448eb211c80319c";
    let _deaf = tracing::subscriber::set_default(NoSubscriber::default());
    let rig = Rig::new().await;
    send(&rig, TRACE, request("c1", "unsafe")).await;
    rig.settle().await;
    let called = rig.mcp.requests_of("tools/call");
    let sent = format!("00-{TRACE}-{SENDERS_SPAN}-01");
    assert_eq!(called[0].body["params"]["_meta"]["traceparent"], sent);
    assert_eq!(called[0].body["params"]["_meta"]["tracestate"], "vendor=1");
}

/// What a GET of the worker's own endpoint gives.
pub(crate) async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_worker_that_drains_for_long_is_alive() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = http::routes(context.clone(), ServiceHealth::default(), None);
    let endpoint = http::HttpEndpoint::new(listener, routes).unwrap();
    let endpoint = tokio::spawn(run_service(endpoint, context.shutdown.clone()));
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(600)).await;
    tokio::time::resume();
    assert_eq!(get(address, "/health/live").await.0, 503, "no receive begins");
    context.shutdown.begin(Duration::from_secs(3_600));
    assert_eq!(get(address, "/health/live").await.0, 200, "none has to begin");
    assert_eq!(get(address, "/health/ready").await.0, 503);
    context.shutdown.end();
    endpoint.await.unwrap();
}

/// A service that panics at its first run.
struct PanicsOnce(AtomicBool);

impl Service for PanicsOnce {
    fn name(&self) -> &'static str {
        "intake"
    }

    async fn run(&self, shutdown: &Shutdown) {
        assert!(self.0.swap(true, Ordering::AcqRel), "a planted defect");
        shutdown.draining().await;
    }
}

async fn assert_not_ready_while_the_intake_restarts(
    supervisor: &mut Supervisor,
    address: std::net::SocketAddr,
) {
    supervisor.start(PanicsOnce(AtomicBool::new(false)));
    let restarts = (503, "the intake is started again\n".to_owned());
    while get(address, "/health/ready").await != restarts {}
    assert_eq!(get(address, "/health/live").await.0, 200, "a restart needs no new worker");
    while get(address, "/health/ready").await == restarts {}
    assert_eq!(get(address, "/health/ready").await, (200, "ok\n".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_serves_liveness_readiness_and_metrics() {
    let registry = prometheus::Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().unwrap();
    let provider = SdkMeterProvider::builder().with_reader(exporter).build();
    let mut rig = Rig::new().await;
    rig.meters = Meters::new(&provider.meter("test"));
    let gone = Arc::new(CountAcknowledged::default());
    let context = rig.fleet_direct(Some(gone.clone())).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let services = ServiceHealth::default();
    let mut supervisor = Supervisor::new(context.shutdown.clone(), Duration::from_secs(5), services.clone());
    let routes = http::routes(context.clone(), services, Some(registry));
    supervisor.start_until_exit(http::HttpEndpoint::new(listener, routes).unwrap());
    assert_eq!(get(address, "/health/ready").await.0, 503, "it has received nothing yet");
    assert!(http::ask(address).await.unwrap_err().contains("has not answered"));

    rig.mcp.next_for("tools/call", MockFault::status(503));
    rig.send(request("c1", "safe").to_string()).await;
    rig.send(request("c2", "no-such-tool").to_string()).await;
    supervisor.start(Intake::new(context.clone()));
    gone.reached(2).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert_eq!(get(address, "/health/live").await, (200, "ok\n".into()));
    assert_eq!(get(address, "/health/ready").await, (200, "ok\n".into()));
    http::ask(address).await.unwrap();
    let lines = "HTTP endpoint running\nintake running\n".to_owned();
    assert_eq!(get(address, "/health/services").await, (200, lines));
    assert_not_ready_while_the_intake_restarts(&mut supervisor, address).await;
    let (status, metrics) = get(address, "/metrics").await;
    assert_eq!(status, 200);
    for part in [
        "toolfleet_calls_ended_total{",
        "toolfleet_outcome=\"succeeded\"",
        "toolfleet_outcome=\"refused\"",
        "toolfleet_code=\"unknown_tool\"",
        "mcp_client_operation_duration_seconds_count{",
        "error_type=",
        "messaging_client_consumed_messages_total{",
        "toolfleet_calls_in_hand",
    ] {
        assert!(metrics.contains(part), "{part} in {metrics}");
    }
    for private in ["c1", "acme"] {
        assert!(!metrics.contains(&format!("\"{private}\"")), "{private} is no label");
    }
    context.shutdown.begin(Duration::from_secs(5));
    assert_eq!(get(address, "/health/ready").await, (503, "the worker drains\n".into()));
    supervisor.join(std::future::ready(())).await.unwrap();
}

#[tokio::test]
async fn a_trace_that_sns_put_into_its_wrapper_is_the_calls() {
    const TRACE: &str = "0af7651916cd43dd8448eb211c8031ee";
    assert!(spans_of(TRACE).is_empty());
    let rig = Rig::new().await;
    let message = json!(request("c1", "safe").to_string());
    let attributes =
        json!({"traceparent": {"Type": "String", "Value": format!("00-{TRACE}-{SENDERS_SPAN}-01")}});
    rig.send(format!(r#"{{"Type":"Notification","Message":{message},"MessageAttributes":{attributes}}}"#))
        .await;
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    assert!(!spans_of(TRACE).is_empty());
}

#[tokio::test]
async fn the_span_after_a_park_links_to_the_one_before_it() {
    const TRACE: &str = "3af7651916cd43dd8448eb211c80319c";
    assert!(spans_of(TRACE).is_empty());
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    let mut body = request("c1", "safe");
    body["not_before"] =
        json!(toolfleet_core::time::Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap() + 5_000));
    send(&rig, TRACE, body).await;
    rig.deliver(&context).await;
    rig.clock.advance_ms(6_000);
    rig.deliver(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    let spans = spans_of(TRACE);
    let deliveries: Vec<_> = spans.iter().filter(|span| span.name == "process toolfleet-calls").collect();
    let [parked, ran] = deliveries.as_slice() else { panic!("{deliveries:?}") };
    assert!(parked.links.is_empty());
    let links: Vec<_> = ran.links.iter().map(|link| link.span_context.span_id()).collect();
    assert_eq!(links, [parked.span_context.span_id()]);
    assert_eq!(ran.parent_span_id, SpanId::from_hex(SENDERS_SPAN).unwrap(), "it stays a child of the sender");
    let records = rig.audit_of("c1", toolfleet_core::audit::AuditKind::Call).await;
    assert_eq!(records[0].trace_id.as_deref(), Some(TRACE));
}

#[tokio::test]
async fn a_dead_letter_that_is_ended_has_a_span_in_the_trace_of_its_sender() {
    const TRACE: &str = "4af7651916cd43dd8448eb211c80319c";
    assert!(spans_of(TRACE).is_empty());
    let mut rig = Rig::new().await;
    rig.queue_name = "toolfleet-calls-dlq";
    send(&rig, TRACE, request("c1", "safe")).await;
    let context = rig.context(None).await;
    let delivery = rig.receive(&context).await.unwrap();
    toolfleet_worker::pipeline::reap(context.clone(), context.dead_letters.clone().unwrap(), delivery).await;
    let spans = spans_of(TRACE);
    let reaped = named(&spans, "reap toolfleet-calls-dlq");
    assert_eq!(reaped.parent_span_id, SpanId::from_hex(SENDERS_SPAN).unwrap());
    assert_eq!(attribute(reaped, "toolfleet.call_id").unwrap(), "c1");
    assert_eq!(attribute(reaped, "toolfleet.outcome").unwrap(), "failed");
    let records = rig.audit_of("c1", toolfleet_core::audit::AuditKind::Call).await;
    assert_eq!(records[0].trace_id.as_deref(), Some(TRACE));
}
