//! Tenant isolation: a second tenant at everything that tenants share.
//!
//! | shared | where |
//! |---|---|
//! | breakers, pauses, slots | here |
//! | reply queues, session policies, sessions, users | here |
//! | lists of tools that fail or hang | here |
//! | lists that are private or public, and their cache TTL | `servers.rs`, `a_tool_list_is_cached_for_its_ttl_per_tenant_unless_public` |
//! | MCP sessions that are open | `mcp_session_store.rs`, `each_conversation_has_one_mcp_session_across_all_workers` |
//! | MCP sessions that are lost, cookies | here |
//! | processes of programs | `programs.rs` of the client, `conversations_and_tenants_never_share_a_program_and_calls_without_one_share_theirs` |
//! | starts of programs | `programs.rs` of the client, `a_program_that_cannot_be_started_for_one_tenant_is_started_for_another_at_once`; through a worker here |
//! | tokens | `tokens.rs`, `each_tenant_has_a_token_of_its_own_and_keeps_it`; refused ones here |
//! | rows and results under one call id | here |
//! | questions of a call, and their answers | `resume.rs`, `a_resumption_of_anything_else_is_refused_with_what_to_do` |
//! | what a sender may learn of a call of a tenant that it may not use | `records.rs`, `an_unauthorised_sender_learns_nothing_and_ends_no_call` |

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_aws::Tables;
use toolfleet_aws::queue::Outgoing;
use toolfleet_core::call::{CallRow, HeldReason};
use toolfleet_core::ids::{SessionId, Tenant};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::request::User;
use toolfleet_core::session::SessionRow;
use toolfleet_core::time::Timestamp;
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision, ScriptedProgram};
use toolfleet_worker::Limits;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;
use toolfleet_worker::services::intake::Intake;

use crate::credentials::store;
use crate::rig::{CountAcknowledged, Rig, SENDER, START_MS, limits, request, run_service};

fn catalog(rig: &Rig) -> Value {
    let mut catalog = rig.catalog();
    catalog["tenants"]["senders"][SENDER] = json!(["acme", "globex"]);
    catalog["tools"][1]["timeout_ms"] = json!(60_000);
    let hasty = json!({"id": "hasty", "server": "mock", "name": "unsafe", "timeout_ms": 20});
    catalog["tools"].as_array_mut().unwrap().push(hasty);
    catalog
}

async fn context(rig: &Rig) -> Arc<WorkerContext> {
    rig.fleet_of(catalog(rig), limits(), None).await
}

fn of(tenant: &str, id: &str, tool: &str) -> Value {
    let mut request = request(id, tool);
    request["tenant"] = json!(tenant);
    request
}

async fn send(rig: &Rig, request: &Value) {
    let group = request["tenant"].as_str().map(str::to_owned);
    rig.queue().send(Outgoing { body: request.to_string(), group, ..Outgoing::default() }).await.unwrap();
}

async fn ended(rig: &Rig, tenant: &str, id: &str) -> Option<(OutcomeKind, Option<String>)> {
    let outcome = rig.row_of(tenant, id).await?.finished?.outcome;
    Some((outcome.kind, outcome.error.map(|why| why.code.as_str().to_owned())))
}

const SUCCEEDED: Option<(OutcomeKind, Option<String>)> = Some((OutcomeKind::Succeeded, None));

/// However one tenant's calls fail, the other tenant's calls succeed at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_tenants_failures_do_not_stop_another_tenants_calls() {
    let faults = [
        ("bad arguments", "unsafe", MockFault::rpc(-32_602, "no")),
        ("a slow tool", "hasty", MockFault::NeverAnswer),
        ("5xx", "unsafe", MockFault::status(500)),
        ("an internal error", "unsafe", MockFault::rpc(-32_603, "no")),
        ("no MCP", "unsafe", MockFault::Garbage("<html>".into())),
        ("lost answers", "unsafe", MockFault::CloseBeforeAnswer),
        ("a pause", "unsafe", MockFault::status(429)),
        ("a long pause", "unsafe", MockFault::status_with(429, "retry-after", "300")),
        ("refused credentials", "unsafe", MockFault::status(401)),
        ("a refusal", "unsafe", MockFault::status(403)),
        ("an odd status", "unsafe", MockFault::status(409)),
    ];
    for (what, tool, fault) in faults {
        let rig = Rig::new().await;
        let context = context(&rig).await;
        rig.mcp.always_for("tools/call", fault);
        for n in 0..12 {
            send(&rig, &of("acme", &format!("a{n}"), tool)).await;
            rig.deliver(&context).await;
        }
        rig.mcp.behave();
        send(&rig, &of("globex", "g", "unsafe")).await;
        rig.deliver(&context).await;
        assert_eq!(ended(&rig, "globex", "g").await, SUCCEEDED, "{what}");
    }
}

/// What says nothing of the server does not even hold the tenant's own next call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_arguments_and_slow_tools_hold_no_other_call() {
    for (tool, fault) in [
        ("unsafe", MockFault::rpc(-32_602, "no")),
        ("hasty", MockFault::NeverAnswer),
        ("unsafe", MockFault::status(401)),
    ] {
        let rig = Rig::new().await;
        let context = context(&rig).await;
        rig.mcp.always_for("tools/call", fault);
        for n in 0..30 {
            send(&rig, &of("acme", &format!("a{n}"), tool)).await;
            rig.deliver(&context).await;
        }
        rig.mcp.behave();
        send(&rig, &of("acme", "next", "unsafe")).await;
        rig.deliver(&context).await;
        assert_eq!(ended(&rig, "acme", "next").await, SUCCEEDED, "{tool}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_server_opens_the_breaker_of_all_its_tenants() {
    let rig = Rig::new().await;
    let mut catalog = catalog(&rig);
    catalog["servers"].as_array_mut().unwrap().push(json!({"id": "away", "url": "http://127.0.0.1:9/mcp"}));
    let tool = json!({"id": "away", "server": "away", "name": "unsafe"});
    catalog["tools"].as_array_mut().unwrap().push(tool);
    let context = rig.fleet_of(catalog, limits(), None).await;
    for n in 0..4 {
        send(&rig, &of("acme", &format!("a{n}"), "away")).await;
        rig.deliver(&context).await;
    }
    send(&rig, &of("globex", "g", "away")).await;
    rig.deliver(&context).await;
    let row: CallRow = rig.row_of("globex", "g").await.unwrap();
    let held = row.held().expect("it is held visibly");
    assert_eq!((held.reason, row.attempts), (HeldReason::ServerUnreachable, 0));
    assert!(held.last_fault.as_ref().unwrap().contains("connect"), "{held:?}");
}

/// A call of a tool that only the server's list knows.
fn listed(tenant: &str, id: &str) -> Value {
    json!({"v": 1, "call_id": id, "tenant": tenant, "server": "mock", "name": "hinted", "arguments": {}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_one_tenant_does_not_get_is_fetched_for_another() {
    for fault in [MockFault::status(500), MockFault::rpc(-32_603, "no"), MockFault::Garbage("<html>".into())]
    {
        let (rig, what) = (Rig::new().await, format!("{fault:?}"));
        let context = context(&rig).await;
        rig.mcp.always_for("tools/list", fault);
        for n in 0..12 {
            send(&rig, &listed("acme", &format!("a{n}"))).await;
            rig.deliver(&context).await;
        }
        rig.mcp.behave();
        send(&rig, &listed("globex", "g")).await;
        // The calls before it wait in the same queue.
        while rig.row_of("globex", "g").await.is_none() {
            rig.deliver(&context).await;
        }
        assert_eq!(ended(&rig, "globex", "g").await, SUCCEEDED, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_hangs_for_one_tenant_is_fetched_for_another() {
    let rig = Rig::new().await;
    let context = context(&rig).await;
    rig.mcp.next_for("tools/list", MockFault::NeverAnswer);
    send(&rig, &listed("acme", "a")).await;
    let delivery = rig.receive(&context).await.unwrap();
    let hanging = tokio::spawn(pipeline::run(context.clone(), delivery, ()));
    rig.mcp.arrived("tools/list", 1).await;
    send(&rig, &listed("globex", "g")).await;
    rig.deliver(&context).await;
    assert_eq!(ended(&rig, "globex", "g").await, SUCCEEDED);
    assert!(!hanging.is_finished(), "the other tenant's list still hangs");
    hanging.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_session_does_not_affect_another_tenants_cookie() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    let context = context(&rig).await;
    let call = async |tenant: &str, id: &str| {
        let mut request = of(tenant, id, "safe");
        request["session"] = json!("talk");
        send(&rig, &request).await;
        rig.deliver(&context).await;
        assert_eq!(ended(&rig, tenant, id).await, SUCCEEDED, "{tenant} {id}");
        let sent = rig.mcp.requests_of("tools/call").pop().unwrap();
        ["mcp-session-id", "cookie"].map(|name| sent.header(name).unwrap().to_owned())
    };
    rig.mcp.sets_cookie("initialize", "AWSALB=a; Path=/");
    let acme = call("acme", "c1").await;
    rig.mcp.sets_cookie("initialize", "AWSALB=g; Path=/");
    let globex = call("globex", "c1").await;
    assert!(acme[0] != globex[0], "{acme:?} {globex:?}");
    assert_eq!((acme[1].as_str(), globex[1].as_str()), ("AWSALB=a", "AWSALB=g"));
    rig.mcp.sets_cookie("initialize", "AWSALB=b; Path=/");
    rig.mcp.next_for("tools/call", MockFault::status(404));
    let again = call("acme", "c2").await;
    assert!(again[0] != acme[0] && again[1] == "AWSALB=b", "{again:?}");
    assert_eq!(call("globex", "c2").await, globex);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_call_id_of_two_tenants_is_two_calls_with_a_result_each() {
    let rig = Rig::new().await;
    let context = context(&rig).await;
    for tenant in ["acme", "globex"] {
        let mut request = of(tenant, "c", "safe");
        request["arguments"] = json!({"call": tenant});
        send(&rig, &request).await;
        rig.deliver(&context).await;
    }
    for (tenant, other) in [("acme", "globex"), ("globex", "acme")] {
        let outcome = rig.row_of(tenant, "c").await.unwrap().finished.unwrap().outcome;
        let content = outcome.content().unwrap().get().to_owned();
        assert!(content.contains(tenant) && !content.contains(other), "{tenant}: {content}");
    }
    assert_eq!(rig.mcp.executions("safe"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_token_of_one_tenant_does_not_affect_another() {
    let (rig, issuer) = (Rig::new().await, MockMcp::start(ProtocolRevision::Modern).await);
    store(&rig, "client", "client-secret-1").await;
    let mut catalog = catalog(&rig);
    catalog["servers"][0]["auth"] = json!({"type": "oauth2_client_credentials", "client_id": "fleet",
        "client_secret": "secret://client", "client_auth": "post", "token_url": issuer.url().replace("/mcp", "/token")});
    let context = rig.fleet_of(catalog, limits(), None).await;
    let says = |status: u16, body: Value| {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        issuer.next_for("POST", MockFault::Status { status, headers, body: body.to_string() });
    };
    let granted = json!({"access_token": "access-token-1", "token_type": "Bearer", "expires_in": 3600});
    says(200, granted);
    (0..24).for_each(|_| says(401, json!({"error": "invalid_client"})));
    send(&rig, &of("globex", "before", "unsafe")).await;
    rig.deliver(&context).await;
    for n in 0..12 {
        let id = format!("a{n}");
        send(&rig, &of("acme", &id, "unsafe")).await;
        rig.deliver(&context).await;
        let refused = Some((OutcomeKind::Failed, Some("credential_unavailable".to_owned())));
        assert_eq!(ended(&rig, "acme", &id).await, refused, "{id}");
    }
    send(&rig, &of("globex", "after", "unsafe")).await;
    rig.deliver(&context).await;
    assert_eq!(ended(&rig, "globex", "after").await, SUCCEEDED);
    let bearers: Vec<_> = rig.mcp.requests_of("tools/call");
    assert!(bearers.iter().all(|call| call.header("authorization") == Some("Bearer access-token-1")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_crashes_for_one_tenant_starts_for_another() {
    let (rig, script) = (Rig::new().await, ScriptedProgram::new(&["crash-at-start-while-broken"]));
    let mut catalog = catalog(&rig);
    let server = json!({"id": "files", "command": script.command(), "args": script.args()});
    catalog["servers"].as_array_mut().unwrap().push(server);
    let tool = json!({"id": "pay", "server": "files", "timeout_ms": 15_000});
    catalog["tools"].as_array_mut().unwrap().push(tool);
    let context = rig.fleet_of(catalog, limits(), None).await;
    std::fs::write(script.folder().join("broken"), "").unwrap();
    for n in 0..12 {
        send(&rig, &of("acme", &format!("a{n}"), "pay")).await;
        rig.deliver(&context).await;
    }
    std::fs::remove_file(script.folder().join("broken")).unwrap();
    send(&rig, &of("globex", "g", "pay")).await;
    rig.deliver(&context).await;
    assert_eq!(ended(&rig, "globex", "g").await, SUCCEEDED);
    context.mcp.close().await;
}

/// A worker whose slots are all at one hanging server.
async fn with_a_hanging_server(rig: &Rig, other: &MockMcp) -> (Arc<WorkerContext>, Arc<CountAcknowledged>) {
    other.tool("well", |_| json!({"content": []}));
    let mut catalog = catalog(rig);
    catalog["servers"].as_array_mut().unwrap().push(json!({"id": "other", "url": other.url()}));
    let well = json!({"id": "well", "server": "other"});
    catalog["tools"].as_array_mut().unwrap().push(well);
    let gone = Arc::new(CountAcknowledged::default());
    let limits = Limits { slots: 4, ..limits() };
    (rig.fleet_of(catalog, limits, Some(gone.clone())).await, gone)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_server_leaves_slots_to_other_servers_and_tenants() {
    let rig = Rig::new().await;
    let other = MockMcp::start(ProtocolRevision::Modern).await;
    let (context, gone) = with_a_hanging_server(&rig, &other).await;
    let hold = rig.mcp.hold();
    for n in 0..24 {
        send(&rig, &of("acme", &format!("a{n}"), "unsafe")).await;
    }
    let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    rig.mcp.arrived("tools/call", 4).await;
    // The same tenant at another server, and another tenant at the hanging one.
    send(&rig, &of("acme", "well", "well")).await;
    gone.reached(1).await;
    assert_eq!(ended(&rig, "acme", "well").await, SUCCEEDED);
    send(&rig, &of("globex", "g", "unsafe")).await;
    rig.mcp.arrived("tools/call", 5).await;
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 5, "the flood has no more than its share");
    context.shutdown.begin(Duration::from_secs(10));
    drop(hold);
    worker.await.unwrap();
    assert_eq!(ended(&rig, "globex", "g").await, SUCCEEDED);
}

/// A server accepts requests and answers none. Its calls leave the slots to other servers of the same tenant, also those that were sent
/// before anything was known of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_leaves_its_slots_to_other_servers() {
    let rig = Rig::new().await;
    let other = MockMcp::start(ProtocolRevision::Modern).await;
    let (context, gone) = with_a_hanging_server(&rig, &other).await;
    send(&rig, &of("acme", "first", "well")).await;
    let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    gone.reached(1).await;
    let hold = rig.mcp.hold();
    for n in 0..3 {
        send(&rig, &of("acme", &format!("silent-{n}"), "unsafe")).await;
    }
    rig.mcp.arrived("tools/call", 3).await;
    // The next call to the silent server goes back to its queue, and says why.
    send(&rig, &of("acme", "late", "unsafe")).await;
    let held = loop {
        if let Some(held) = rig.row_of("acme", "late").await.and_then(|row| row.held) {
            break held;
        }
        tokio::task::yield_now().await;
    };
    // As many calls at once as the worker has slots: each waits until all have come, so none of the slots is the silent server's.
    let hold_other = other.hold();
    for n in 0..4 {
        send(&rig, &of("acme", &format!("well-{n}"), "well")).await;
    }
    other.arrived("tools/call", 5).await;
    assert!(held.detail.as_deref().is_some_and(|text| text.contains("answered no request")), "{held:?}");
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 3);
    drop(hold_other);
    gone.reached(5).await;
    context.shutdown.begin(Duration::from_secs(10));
    drop(hold);
    worker.await.unwrap();
    for n in 0..3 {
        assert_eq!(ended(&rig, "acme", &format!("silent-{n}")).await, SUCCEEDED);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_tenant_at_one_server_uses_every_slot() {
    let rig = Rig::new().await;
    let other = MockMcp::start(ProtocolRevision::Modern).await;
    let (context, gone) = with_a_hanging_server(&rig, &other).await;
    let hold = rig.mcp.hold();
    for n in 0..4 {
        send(&rig, &of("acme", &format!("a{n}"), "unsafe")).await;
    }
    let worker = tokio::spawn(run_service(Intake::new(context.clone()), context.shutdown.clone()));
    rig.mcp.arrived("tools/call", 4).await;
    drop(hold);
    gone.reached(4).await;
    context.shutdown.begin(Duration::from_secs(5));
    worker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_goes_only_to_a_queue_of_its_own_tenant() {
    let rig = Rig::new().await;
    let mut catalog = catalog(&rig);
    let replies = rig.local.queue_url("toolfleet-replies");
    catalog["reply_queues"] = json!({"acme": [replies]});
    let context = rig.fleet_of(catalog, limits(), None).await;
    for tenant in ["globex", "acme"] {
        let mut request = of(tenant, "c", "unsafe");
        request["reply"] = json!({"sqs_queue_url": replies});
        send(&rig, &request).await;
        rig.deliver(&context).await;
    }
    let refused = (OutcomeKind::Refused, Some("reply_not_allowed".to_owned()));
    assert_eq!(ended(&rig, "globex", "c").await, Some(refused));
    assert_eq!(ended(&rig, "acme", "c").await, SUCCEEDED);
    let notices = rig.direct.queue(&replies).receive(10, 0, 1).await.unwrap();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].body.contains("acme"), "{}", notices[0].body);
    // Nor does a message that is no request get a notice there.
    let broken =
        json!({"v": 1, "tenant": "globex", "call_id": "x", "reply": {"sqs_queue_url": replies}, "odd": 1});
    send(&rig, &broken).await;
    rig.deliver(&context).await;
    assert!(rig.direct.queue(&replies).receive(10, 0, 1).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_requires_sessions_refuses_calls_without_one() {
    for (rule, unknown) in [("required", SUCCEEDED), ("registered", None)] {
        let rig = Rig::new().await;
        let mut catalog = catalog(&rig);
        catalog["tenants"]["sessions"] = json!({"acme": rule});
        let context = rig.fleet_of(catalog, limits(), None).await;
        for (tenant, id, session) in
            [("acme", "none", None), ("globex", "none", None), ("acme", "met", Some("s"))]
        {
            let mut request = of(tenant, id, "unsafe");
            if let Some(session) = session {
                request["session"] = json!(session);
            }
            send(&rig, &request).await;
            rig.deliver(&context).await;
        }
        let refused = Some((OutcomeKind::Refused, Some("session_invalid".to_owned())));
        assert_eq!(ended(&rig, "acme", "none").await, refused, "{rule}");
        assert_eq!(ended(&rig, "globex", "none").await, SUCCEEDED, "{rule}: of another tenant");
        assert_eq!(ended(&rig, "acme", "met").await, unknown.or(refused), "{rule}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_one_tenant_is_none_of_another() {
    let rig = Rig::new().await;
    let context = context(&rig).await;
    let table = rig.direct.sessions(&Tables::with_prefix("toolfleet"));
    let expires_at = Timestamp::from_ms(i64::try_from(START_MS).unwrap()).plus_ms(60_000);
    let narrow = SessionRow { expires_at, grants: vec!["safe".into()], user: None };
    let session = SessionId::parse("s").unwrap();
    table.create(&Tenant::parse("acme").unwrap(), &session, &narrow).await.unwrap();
    for tenant in ["acme", "globex"] {
        let mut request = of(tenant, "c", "unsafe");
        request["session"] = json!("s");
        send(&rig, &request).await;
        rig.deliver(&context).await;
    }
    let refused = Some((OutcomeKind::Refused, Some("session_invalid".to_owned())));
    assert_eq!(ended(&rig, "acme", "c").await, refused);
    assert_eq!(ended(&rig, "globex", "c").await, SUCCEEDED);
}

/// Calls of the tool that is open to the role `admin` alone: the user that a message names, and how the call ends.
async fn act_as(rig: &Rig, context: &Arc<WorkerContext>, session: Option<&str>) {
    let said = [
        ("nobody", Value::Null, SUCCEEDED),
        ("herself", json!({"id": "ann"}), SUCCEEDED),
        ("narrowed", json!({"id": "ann", "roles": ["support"]}), None),
        ("another", json!({"id": "eve", "roles": ["admin"]}), None),
        ("more", json!({"id": "ann", "roles": ["admin", "root"]}), None),
    ];
    for (id, user, ends) in said {
        let mut request = of("acme", id, "closed");
        if let Some(session) = session {
            request["session"] = json!(session);
        }
        if !user.is_null() {
            request["user"] = user;
        }
        send(rig, &request).await;
        rig.deliver(context).await;
        let denied = Some((OutcomeKind::Refused, Some("access_denied".to_owned())));
        assert_eq!(ended(rig, "acme", id).await, ends.or(denied), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_bound_to_a_user_acts_as_nobody_else() {
    let rig = Rig::new().await;
    rig.mcp.tool("closed", |_| json!({"content": []}));
    let context = context(&rig).await;
    let table = rig.direct.sessions(&Tables::with_prefix("toolfleet"));
    let expires_at = Timestamp::from_ms(i64::try_from(START_MS).unwrap()).plus_ms(60_000);
    let roles = vec!["admin".to_owned(), "support".to_owned()];
    let user = Some(User { id: "ann".into(), kind: None, roles });
    let row = SessionRow { expires_at, grants: vec!["*".into()], user };
    let session = SessionId::parse("s").unwrap();
    table.create(&Tenant::parse("acme").unwrap(), &session, &row).await.unwrap();
    assert_eq!(table.read(&Tenant::parse("acme").unwrap(), &session).await.unwrap(), Some(row));
    act_as(&rig, &context, Some("s")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_is_bound_to_a_user_acts_as_nobody_else() {
    let rig = Rig::new().await;
    rig.mcp.tool("closed", |_| json!({"content": []}));
    let mut catalog = catalog(&rig);
    catalog["tenants"]["senders"][SENDER] =
        json!({"tenants": ["acme"], "user": {"id": "ann", "roles": ["admin", "support"]}});
    let context = rig.fleet_of(catalog, limits(), None).await;
    act_as(&rig, &context, None).await;
}
