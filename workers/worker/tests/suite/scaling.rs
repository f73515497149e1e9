//! What the fleet is scaled by: work that runs or could run, and not what is paused, limited or parked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use toolfleet_aws::Tables;
use toolfleet_core::control::{ControlEntry, Switch, SwitchTarget};
use toolfleet_core::fleet::{FleetSummary, Runnable, WorkerRow};
use toolfleet_core::ids::WorkerId;
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{Cut, MockFault, Rule};
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::service_health::ServiceHealth;
use toolfleet_worker::services::aggregator::Aggregator;
use toolfleet_worker::services::http::{self, HttpEndpoint};
use toolfleet_worker::services::intake::Intake;
use toolfleet_worker::services::reporter::Reporter;
use toolfleet_worker::services::supervisor::Supervisor;
use toolfleet_worker::services::task_protection::{TaskProtection, protect};
use toolfleet_worker::telemetry::{Meters, MetricLines};

use url::Url;

use crate::rig::{Rig, limits, request, run_service};
use crate::telemetry::get;

async fn summary(rig: &Rig, context: &Arc<WorkerContext>) -> FleetSummary {
    let aggregator = Aggregator::new(context.clone());
    Reporter::new(context.clone()).beat().await;
    assert!(aggregator.beat().await);
    // So that the next one makes it anew.
    aggregator.resign().await;
    rig.clock.advance_ms(1);
    rig.direct.fleet(&Tables::with_prefix("toolfleet")).summary().await.unwrap().0.unwrap()
}

async fn runnable(rig: &Rig, context: &Arc<WorkerContext>) -> Runnable {
    summary(rig, context).await.runnable.unwrap()
}

async fn pause(rig: &Rig, context: &WorkerContext, target: &str) {
    let now = Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap());
    let target = SwitchTarget::parse(target).unwrap();
    let switch =
        Switch { target, tenant: None, by: "ann".into(), why: "test".into(), since: now, until: None };
    context.fleet.set_control(&ControlEntry::Pause(switch)).await.unwrap();
    context.gate.control().take(context.fleet.control(now).await.unwrap());
}

async fn send(rig: &Rig, ids: std::ops::Range<usize>) {
    for id in ids {
        rig.send(request(&format!("c{id}"), "safe").to_string()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_the_queue_is_work_and_wants_slots() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    assert_eq!(runnable(&rig, &context).await.wanted_slots, 0);
    send(&rig, 0..30).await;
    let waiting = runnable(&rig, &context).await;
    // No call has had a slot yet, so that each is taken for a second.
    assert_eq!((waiting.messages, waiting.waiting_ms, waiting.wanted_slots), (30, 30_000, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_tool_and_a_paused_queue_are_no_work() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    send(&rig, 0..30).await;
    pause(&rig, &context, "tool:safe").await;
    for _ in 0..3 {
        rig.deliver(&context).await;
    }
    let paused = summary(&rig, &context).await;
    assert_eq!(paused.held_a_minute.keys().collect::<Vec<_>>(), ["paused"]);
    let work = paused.runnable.unwrap();
    assert_eq!((work.messages, work.waiting_ms, work.wanted_slots), (27, 0, 0), "all that came were parked");

    let rig = Rig::new().await;
    let context = rig.context(None).await;
    send(&rig, 0..30).await;
    pause(&rig, &context, "queue:default").await;
    assert_eq!(runnable(&rig, &context).await, Runnable { slot_ms: 1_000, ..Runnable::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_for_a_limit_has_no_slot() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["servers"][0]["limits"] = json!({"concurrency": 1});
    let context = rig.fleet_of(catalog, limits(), None).await;
    let held = rig.mcp.hold_for("tools/call");
    let intake = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    send(&rig, 0..2).await;
    // The first call runs, and the second waits in the worker for its permit.
    let row = loop {
        let workers = summary(&rig, &context).await.workers;
        if (workers.in_hand, workers.busy) == (2, 1) {
            break workers;
        }
    };
    assert_eq!(row.slots, 24);
    drop(held);
    context.shutdown.begin(Duration::ZERO);
    intake.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_worker_writes_the_lines_and_every_worker_answers() {
    let written: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut rig = Rig::new().await;
    let registry = prometheus::Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build().unwrap();
    let provider = SdkMeterProvider::builder().with_reader(exporter).build();
    rig.meters = Meters::new(&provider.meter("test")).with_lines(MetricLines::new("prod", {
        let written = Arc::clone(&written);
        move |line| written.lock().unwrap().push(line.to_owned())
    }));
    let (first, second) = (rig.context(None).await, rig.context(None).await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let services = ServiceHealth::default();
    let mut supervisor = Supervisor::new(second.shutdown.clone(), Duration::from_secs(5), services.clone());
    let routes = http::routes(second.clone(), services, Some(registry));
    supervisor.start_until_exit(http::HttpEndpoint::new(listener, routes).unwrap());
    assert_eq!(get(address, "/scaling").await.0, 503, "nobody has made a summary");

    send(&rig, 0..30).await;
    Reporter::new(first.clone()).beat().await;
    assert!(Aggregator::new(first.clone()).beat().await);
    assert!(!Aggregator::new(second.clone()).beat().await);
    let lines = written.lock().unwrap().clone();
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["Fleet"], &line["toolfleet.fleet.wanted_slots"]), (&json!("prod"), &json!(3)));
    let (status, body) = get(address, "/scaling").await;
    let expected =
        json!({"runnable_seconds": 30, "waiting_seconds": 30, "wanted_slots": 3, "slots": 24, "workers": 1});
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, expected));

    rig.clock.advance_ms(60_000);
    assert_eq!(get(address, "/scaling").await.0, 503, "an old figure scales nothing");
    second.shutdown.begin(Duration::ZERO);
    supervisor.join(std::future::ready(())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_lines_writes_what_a_leader_without_them_made() {
    let written: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut rig = Rig::new().await;
    let leader = rig.context(None).await;
    rig.meters = Meters::none().with_lines(MetricLines::new("prod", {
        let written = Arc::clone(&written);
        move |line| written.lock().unwrap().push(line.to_owned())
    }));
    let second = rig.context(None).await;
    let (leads, follows) = (Aggregator::new(leader.clone()), Aggregator::new(second));
    Reporter::new(leader).beat().await;
    assert!(leads.beat().await);
    for _ in 0..2 {
        assert!(!follows.beat().await);
        assert_eq!(written.lock().unwrap().len(), 1, "once for each summary");
    }
    rig.clock.advance_ms(5_000);
    assert!(leads.beat().await);
    assert!(!follows.beat().await);
    assert_eq!(written.lock().unwrap().len(), 2);

    leads.resign().await;
    rig.clock.advance_ms(5_000);
    assert!(follows.beat().await, "and then it leads");
    assert!(!leads.beat().await);
    assert_eq!(written.lock().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_does_not_answer_costs_the_figure_and_not_the_summary() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.sqs.cut(Rule::new(Cut::BeforeRequest, "GetQueueAttributes", 1).times(100));
    let without = summary(&rig, &context).await;
    assert_eq!((without.runnable, without.workers.alive), (None, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_counts_what_it_uses_of_aws() {
    let rig = Rig::new().await;
    let context = rig.context(None).await;
    rig.mcp.next_for("tools/call", MockFault::status(503));
    send(&rig, 0..1).await;
    rig.deliver(&context).await;
    assert!(context.usage().requests().is_empty(), "nobody has asked for figures");
    context.usage().begin();
    send(&rig, 1..2).await;
    rig.deliver(&context).await;
    let requests = context.usage().requests();
    let of = |operation: &str| requests.iter().find(|(name, _)| name == operation).map(|(_, count)| *count);
    assert!(of("SQS/DeleteMessageBatch") == Some(1) && of("SQS/ReceiveMessage") == Some(1), "{requests:?}");
    assert!(of("DynamoDB/BatchExecuteStatement").is_some_and(|count| count >= 2), "{requests:?}");
    let units = context.usage().units();
    let written: f64 = units
        .iter()
        .filter(|(table, kind, _)| table == "toolfleet-calls" && kind.as_str() == "write")
        .map(|(.., units)| units)
        .sum();
    assert!(written >= 2.0, "a claim and a result: {units:?}");
}

/// The agent of an ECS task: answers each request with `answer` and gives what it was asked.
async fn agent(answer: &'static str) -> (Url, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/task-1", listener.local_addr().unwrap()).parse().unwrap();
    let (asked, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4_096];
            let mut length = 0;
            while !String::from_utf8_lossy(&request[..length]).ends_with('}') {
                length += stream.read(&mut request[length..]).await.unwrap();
            }
            let _gone = asked.send(String::from_utf8_lossy(&request[..length]).into_owned());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, requests)
}

const PROTECTED: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"requestID\": \"r\", \"protection\": {\"ProtectionEnabled\": true}}";
const REFUSED: &str = "HTTP/1.1 400 Bad Request\r\n\r\n{\"error\": {\"Code\": \"AccessDeniedException\"}}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_takes_long_protects_its_task_until_it_ends() {
    let rig = Rig::new().await;
    let (url, mut requests) = agent(PROTECTED).await;
    let mut context = rig.context(None).await;
    Arc::get_mut(&mut context).unwrap().protect_after = Some(Duration::from_millis(50));
    let held = rig.mcp.hold_for("tools/call");
    send(&rig, 0..1).await;
    let running = tokio::spawn({
        let (context, delivery) = (context.clone(), rig.receive(&context).await.unwrap());
        async move { toolfleet_worker::pipeline::run(context, delivery, ()).await }
    });
    let service = TaskProtection::new(context.clone(), url);
    while context.activity.long_calls() == 0 {
        tokio::task::yield_now().await;
    }
    service.look().await;
    let first = requests.recv().await.unwrap();
    assert!(first.starts_with("PUT /api/task-1/task-protection/v1/state HTTP/1.0"), "{first}");
    assert!(first.ends_with(r#"{"ExpiresInMinutes":15,"ProtectionEnabled":true}"#), "{first}");
    service.look().await;
    assert!(requests.try_recv().is_err(), "it is protected already");
    drop(held);
    running.await.unwrap();
    service.look().await;
    let second = requests.recv().await.unwrap();
    assert!(second.ends_with(r#"{"ProtectionEnabled":false}"#), "{second}");
}

/// A worker that runs a call and is protected without a bound of time: a break is made where other workers receive.
async fn protected_for_long(
    rig: &Rig,
) -> (Arc<WorkerContext>, TaskProtection, mpsc::UnboundedReceiver<String>, tokio::task::JoinHandle<()>) {
    let (url, requests) = agent(PROTECTED).await;
    let mut catalog = rig.catalog();
    catalog["tools"][0]["timeout_ms"] = json!(60_000);
    let mut context = rig.fleet_of(catalog, limits(), None).await;
    Arc::get_mut(&mut context).unwrap().protect_after = Some(Duration::from_millis(1));
    send(rig, 0..1).await;
    let running = tokio::spawn({
        let (context, delivery) = (context.clone(), rig.receive(&context).await.unwrap());
        async move { toolfleet_worker::pipeline::run(context, delivery, ()).await }
    });
    while context.activity.long_calls() == 0 {
        tokio::task::yield_now().await;
    }
    let service = TaskProtection::new(context.clone(), url).with_breaks_after(Duration::ZERO);
    (context, service, requests, running)
}

#[tokio::test]
async fn a_worker_that_is_protected_for_long_receives_nothing_until_its_calls_end() {
    let rig = Rig::new().await;
    let held = rig.mcp.hold_for("tools/call");
    let (context, service, mut requests, running) = protected_for_long(&rig).await;
    service.look().await;
    assert!(context.is_receiving(), "no other worker receives");

    let fleet = rig.direct.fleet(&Tables::with_prefix("toolfleet"));
    Reporter::new(context.clone()).beat().await;
    let own = fleet.worker_rows().await.unwrap().remove(0);
    let other = WorkerRow { id: WorkerId::parse("other").unwrap(), ..own.clone() };
    context.fleet_view.take(FleetSummary::of(&[own, other], context.now(), context.worker.clone()));
    service.look().await;
    assert!(!context.is_receiving());
    Reporter::new(context.clone()).beat().await;
    let row = fleet.worker_rows().await.unwrap().remove(0);
    assert!(row.not_receiving && !row.draining);

    // An intake that never began a receive is ready, because it receives nothing on purpose.
    let intake = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    send(&rig, 1..2).await;
    let routes = http::routes(context.clone(), ServiceHealth::default(), None);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let endpoint = HttpEndpoint::new(listener, routes).unwrap();
    let endpoint = tokio::spawn(run_service(endpoint, context.shutdown.clone()));
    while get(address, "/health/ready").await.0 != 200 {}
    assert_eq!(get(address, "/health/live").await.0, 200);

    drop(held);
    running.await.unwrap();
    service.look().await;
    assert!(requests.recv().await.unwrap().ends_with(r#""ProtectionEnabled":true}"#));
    assert!(requests.recv().await.unwrap().ends_with(r#"{"ProtectionEnabled":false}"#));
    assert!(!context.is_receiving() && rig.row("c1").await.is_none(), "ECS has the time to stop the task");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(30)).await;
    tokio::time::resume();
    service.look().await;
    assert!(context.is_receiving());
    while rig.row("c1").await.is_none_or(|row| row.finished.is_none()) {}
    context.shutdown.end();
    intake.await.unwrap();
    endpoint.await.unwrap();
}

#[tokio::test]
async fn an_agent_that_refuses_is_an_error_that_says_why() {
    let (url, _requests) = agent(REFUSED).await;
    let error = protect(&url, true).await.unwrap_err();
    assert!(error.contains("400") && error.contains("AccessDeniedException"), "{error}");
    let nobody = Url::parse("http://127.0.0.1:1/api").unwrap();
    assert!(protect(&nobody, true).await.unwrap_err().contains("does not answer"));
}
