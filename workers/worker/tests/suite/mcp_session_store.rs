//! The MCP sessions of conversations: shared by all workers, by no other conversation, and closed when the conversation ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use toolfleet_aws::Tables;
use toolfleet_aws::sessions::Sessions;
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::server_session::ServerSession;
use toolfleet_core::session::{SessionEvent, SessionRow};
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{Cut, ProtocolRevision, Rule, SessionLoss};
use toolfleet_worker::ServiceOptions;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline::steps::Step;
use toolfleet_worker::services::session_closer;
use toolfleet_worker::services::session_closer::SessionCloser;
use toolfleet_worker::{pipeline, start};

use crate::rig::{Rig, SENDER, START_MS, limits, request, run_service};

const TENANTS: [&str; 2] = ["acme", "globex"];
const TALKS: [&str; 2] = ["red", "blue"];

/// Workers for both tenants, at a server that keeps sessions.
async fn workers(rig: &Rig, count: usize) -> Vec<Arc<WorkerContext>> {
    let mut catalog = rig.catalog();
    catalog["tenants"]["senders"][SENDER] = json!(TENANTS);
    join_all((0..count).map(|_| rig.fleet_of(catalog.clone(), limits(), None))).await
}

fn call(id: &str, tenant: &str, talk: &str) -> Value {
    let mut call = request(id, "safe");
    call["tenant"] = json!(tenant);
    call["session"] = json!(talk);
    call["arguments"] = json!({"call": id, "of": format!("{tenant}/{talk}")});
    call
}

/// Every conversation calls several times, all at once and through all workers.
async fn talk_all_at_once(rig: &Rig, workers: &[Arc<WorkerContext>], round: &str) {
    for n in 0..4 {
        for tenant in TENANTS {
            for talk in TALKS {
                rig.send(call(&format!("{round}-{talk}-{n}"), tenant, talk).to_string()).await;
            }
        }
    }
    let mut running = Vec::new();
    for worker in workers.iter().cycle() {
        let Some(delivery) = rig.receive(worker).await else { break };
        running.push(tokio::spawn(pipeline::run(worker.clone(), delivery, ())));
    }
    assert_eq!(running.len(), 16);
    for ran in join_all(running).await {
        ran.unwrap();
    }
}

/// The MCP sessions in which each conversation's calls arrived, those that the server did not know left out.
fn spoken_in(rig: &Rig, known: &BTreeSet<String>) -> BTreeMap<String, BTreeSet<String>> {
    let mut spoken: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in rig.mcp.requests_of("tools/call") {
        let of = request.body["params"]["arguments"]["of"].as_str().unwrap().to_owned();
        let session = request.header("mcp-session-id").unwrap().to_owned();
        if known.contains(&session) {
            spoken.entry(of).or_default().insert(session);
        }
    }
    spoken
}

fn assert_one_each(spoken: &BTreeMap<String, BTreeSet<String>>, context: &str) {
    assert_eq!(spoken.len(), 4, "{context}: {spoken:?}");
    assert!(spoken.values().all(|sessions| sessions.len() == 1), "{context}: one each: {spoken:?}");
    let all: BTreeSet<_> = spoken.values().flatten().collect();
    assert_eq!(all.len(), 4, "{context}: none shared: {spoken:?}");
}

fn table(rig: &Rig) -> Sessions {
    rig.direct.sessions(&Tables::with_prefix("toolfleet"))
}

async fn registered(rig: &Rig, tenant: &str, talk: &str) -> Vec<ServerSession> {
    let (tenant, talk) = (Tenant::parse(tenant).unwrap(), SessionId::parse(talk).unwrap());
    table(rig).mcp_sessions(&tenant, &talk).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_conversation_has_one_mcp_session_across_all_workers() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    let workers = workers(&rig, 3).await;
    talk_all_at_once(&rig, &workers, "first").await;
    let first: BTreeSet<String> = rig.mcp.sessions().into_iter().collect();
    assert_one_each(&spoken_in(&rig, &first), "at first");
    assert_eq!(first.len(), 4, "what lost the race to register was closed: {first:?}");

    for shape in [SessionLoss::NotFound, SessionLoss::BadRequest] {
        let before = rig.mcp.requests_of("tools/call").len();
        rig.mcp.lose_sessions(shape);
        talk_all_at_once(&rig, &workers, &format!("after-{before}")).await;
        let now: BTreeSet<String> = rig.mcp.sessions().into_iter().collect();
        assert_one_each(&spoken_in(&rig, &now), "after the server's restart");
        assert_eq!(now.len(), 4, "{now:?}");
    }
    assert_eq!(rig.mcp.executions("safe"), 3 * 16, "no call ran twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redelivery_to_another_worker_continues_the_mcp_session() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    rig.send(call("c1", "acme", "red").to_string()).await;
    rig.crash_after(Step::Executed).await;
    rig.settle().await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    let requests = rig.mcp.requests_of("tools/call");
    let sessions: BTreeSet<_> = requests.iter().map(|r| r.header("mcp-session-id").unwrap()).collect();
    assert_eq!((requests.len(), sessions.len()), (2, 1), "two workers, one session: {sessions:?}");
    assert_eq!(rig.mcp.requests_of("initialize").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unavailable_session_store_requeues_and_opens_no_session() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    let workers = workers(&rig, 2).await;
    rig.send(call("c1", "acme", "red").to_string()).await;
    rig.deliver(&workers[0]).await;
    rig.send(call("c2", "acme", "red").to_string()).await;
    rig.dynamodb.cut(Rule::new(Cut::BeforeRequest, "GetItem", 1).with_body("mcp#mock").times(5));
    rig.settle_with(&workers[1]).await;
    assert!(rig.dynamodb.cuts() > 0);
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Succeeded);
    assert_eq!(rig.mcp.requests_of("initialize").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_drains_leaves_the_conversation_to_the_others() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    for (n, id) in [(1, "c1"), (2, "c2")] {
        let worker = rig.fleet_direct(None).await;
        let running = tokio::spawn(start::run(worker.clone(), ServiceOptions::default()));
        rig.send(call(id, "acme", "red").to_string()).await;
        rig.mcp.arrived("tools/call", n).await;
        worker.shutdown.begin(Duration::from_secs(5));
        running.await.unwrap().unwrap();
    }
    assert_eq!(rig.outcome("c2").await.kind, OutcomeKind::Succeeded);
    assert_eq!(
        rig.mcp.requests_of("initialize").len(),
        1,
        "the second worker continued what the first opened"
    );
    assert!(rig.mcp.requests_of("DELETE").is_empty());
}

/// Both of acme's conversations speak, then `red` is revoked.
async fn revoked(rig: &Rig, worker: &Arc<WorkerContext>) -> ServerSession {
    for talk in TALKS {
        rig.send(call(&format!("in-{talk}"), "acme", talk).to_string()).await;
        rig.deliver(worker).await;
    }
    let red = registered(rig, "acme", "red").await.pop().unwrap();
    let now = Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap());
    let (acme, talk) = (Tenant::parse("acme").unwrap(), SessionId::parse("red").unwrap());
    table(rig).revoke(&acme, &talk, now).await.unwrap();
    red
}

async fn assert_closed(rig: &Rig, worker: &Arc<WorkerContext>, red: &ServerSession) {
    let saying = tokio::spawn(run_service(SessionCloser::new(worker.clone()), worker.shutdown.clone()));
    rig.mcp.arrived("DELETE", 1).await;
    worker.shutdown.begin(Duration::ZERO);
    saying.await.unwrap();
    assert!(registered(rig, "acme", "red").await.is_empty());
    let ended = rig.mcp.requests_of("DELETE");
    assert_eq!(ended[0].header("mcp-session-id"), Some(red.id.as_str()));
    assert_eq!(rig.mcp.sessions().len(), 1, "the other conversation goes on");
    assert_eq!(registered(rig, "acme", "blue").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_refused_for_a_revoked_session_closes_its_mcp_session() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    let first = workers(&rig, 1).await.remove(0);
    let red = revoked(&rig, &first).await;
    // Another worker, which has never met the conversation.
    let other = workers(&rig, 1).await.remove(0);
    rig.send(call("late", "acme", "red").to_string()).await;
    rig.deliver(&other).await;
    assert_eq!(rig.outcome("late").await.code, Some("session_invalid"));
    assert_closed(&rig, &other, &red).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_closes_its_own_sessions_that_expired_silently() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    let worker = workers(&rig, 1).await.remove(0);
    session_closer::look_for_ended(&worker).await;
    let red = revoked(&rig, &worker).await;
    session_closer::look_for_ended(&worker).await;
    assert_closed(&rig, &worker, &red).await;
    assert_eq!(worker.mcp.conversations().len(), 1, "the ended one is forgotten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prolonged_session_is_neither_refused_nor_closed() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    let worker = workers(&rig, 1).await.remove(0);
    let (acme, red) = (Tenant::parse("acme").unwrap(), SessionId::parse("red").unwrap());
    let now = || Timestamp::from_ms(i64::try_from(rig.clock.now_ms()).unwrap());
    let row = SessionRow { expires_at: now().plus_ms(60_000), grants: vec!["safe".into()], user: None };
    assert!(table(&rig).create(&acme, &red, &row).await.unwrap());
    rig.send(call("first", "acme", "red").to_string()).await;
    rig.deliver(&worker).await;
    assert_eq!(registered(&rig, "acme", "red").await.len(), 1);

    // The worker remembers the old end; the table has a later one.
    let prolonged = SessionEvent::Expire { at: now().plus_ms(3_600_000), now: now() };
    table(&rig).apply(&acme, &red, &prolonged).await.unwrap();
    rig.clock.advance_ms(61_000);
    rig.send(call("second", "acme", "red").to_string()).await;
    rig.deliver(&worker).await;
    assert_eq!(rig.outcome("second").await.kind, OutcomeKind::Succeeded);

    // Another call had shown the session as over; the closer looks again before it says so to the server.
    session_closer::close_session(&worker, &acme, &red).await.unwrap();
    assert!(rig.mcp.requests_of("DELETE").is_empty());
    assert_eq!(registered(&rig, "acme", "red").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_requires_registration_opens_no_session() {
    let rig = Rig::new().await;
    let mut catalog = rig.catalog();
    catalog["tenants"]["sessions"] = json!({"acme": "registered"});
    let worker = rig.fleet_of(catalog, limits(), None).await;
    rig.send(call("early", "acme", "red").to_string()).await;
    rig.deliver(&worker).await;
    let refused = rig.outcome("early").await;
    assert_eq!((refused.kind, refused.code), (OutcomeKind::Refused, Some("session_invalid")));
    assert!(
        refused.message.contains("not registered") && refused.message.contains("toolfleet sessions create")
    );
    let row = SessionRow {
        expires_at: Timestamp::from_ms(i64::try_from(START_MS).unwrap()).plus_ms(3_600_000),
        grants: vec!["mock/*".into()],
        user: None,
    };
    let (acme, talk) = (Tenant::parse("acme").unwrap(), SessionId::parse("red").unwrap());
    table(&rig).create(&acme, &talk, &row).await.unwrap();
    rig.send(call("then", "acme", "red").to_string()).await;
    rig.deliver(&worker).await;
    assert_eq!(rig.outcome("then").await.kind, OutcomeKind::Succeeded, "the whole server is granted");
}
