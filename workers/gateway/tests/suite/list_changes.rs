//! What clients are told of lists that change: who, of which, how often, and at which gateway.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_catalog::Catalog;
use toolfleet_gateway::Limits;
use toolfleet_testkit::{MockMcp, ProtocolRevision};

use crate::access::Issuer;
use crate::events::{Events, listen_to, of_session, stream_of};
use crate::rig::{Http, Rig};

/// All lists.
fn all() -> Value {
    json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true})
}

/// A catalog whose tools have these descriptions.
fn catalog(url: &str, echo: &str, secret: &str) -> Value {
    json!({
        "servers": [{"id": "main", "url": url, "discover": true}],
        "tools": [
            {"id": "echo", "server": "main", "description": echo},
            {"id": "secret", "server": "main", "name": "echo", "description": secret, "access": [{"user_roles": ["admin"]}]},
        ],
        "tenants": {"queue": ["*"]},
        "publish": {"tools": {"echo": true, "secret": true}, "prompts": {"main": true}, "resources": {"main": true}, "subscriptions": ["main"]},
    })
}

fn exchange(rig: &Rig, echo: &str, secret: &str) {
    let catalog = catalog(&rig.mcp.url(), echo, secret);
    rig.catalog.store(Arc::new(Catalog::parse(&catalog.to_string()).unwrap()));
}

/// Reads lists again each second.
fn quick() -> Limits {
    Limits { tools_ttl: Duration::from_secs(1), ..Limits::default() }
}

async fn is_told(events: &mut Events, list: &str) -> Value {
    let message = events.next().await;
    assert_eq!(message["method"], format!("notifications/{list}/list_changed"), "{message}");
    message
}

/// Nothing comes in the time that a change takes to be told.
async fn is_told_nothing(events: &mut Events) {
    let told = tokio::time::timeout(Duration::from_secs(5), events.next()).await;
    assert!(told.is_err(), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_follow_each_other_are_told_once() {
    let rig = Rig::start_with(|url| catalog(url, "One.", "Two.")).await;
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    let capabilities = http.result("server/discover", json!({})).await["capabilities"].clone();
    for list in ["tools", "prompts", "resources"] {
        assert_eq!(capabilities[list]["listChanged"], true, "{capabilities}");
    }
    let mut events = listen_to(&http, all()).await;
    let mut of_prompts = listen_to(&http, json!({"promptsListChanged": true})).await;
    let acknowledged = events.next().await["params"].clone();
    for member in ["toolsListChanged", "promptsListChanged", "resourcesListChanged"] {
        assert_eq!(acknowledged["notifications"][member], true, "{acknowledged}");
    }
    let other = of_prompts.next().await["params"]["notifications"].clone();
    assert_eq!(other, json!({"promptsListChanged": true, "resourceSubscriptions": []}));
    for n in 0..20 {
        exchange(&rig, &format!("Description {n}."), "Two.");
    }
    let told = is_told(&mut events, "tools").await;
    assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7, "{told}");
    is_told_nothing(&mut events).await;
    // What changes back while nobody looks has not changed.
    exchange(&rig, "Another.", "Two.");
    exchange(&rig, "Description 19.", "Two.");
    is_told_nothing(&mut events).await;
    is_told_nothing(&mut of_prompts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_is_told_of_what_it_may_see_alone() {
    let rig = Rig::start_with(|url| catalog(url, "One.", "Two.")).await;
    let issuer = Issuer::new();
    let served = rig.gateway_for(Limits::default(), issuer.authenticator()).await;
    let of = |user: &str, roles: Value| {
        Http::modern(&served)
            .with("authorization", &format!("Bearer {}", issuer.token_for(600, "acme", user, &roles)))
    };
    let mut ann = listen_to(&of("ann", json!([])), all()).await;
    let mut admin = listen_to(&of("bob", json!(["admin"])), all()).await;
    ann.next().await;
    admin.next().await;
    exchange(&rig, "One.", "Three.");
    is_told(&mut admin, "tools").await;
    is_told_nothing(&mut ann).await;
    exchange(&rig, "Four.", "Three.");
    is_told(&mut ann, "tools").await;
    is_told(&mut admin, "tools").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lists_otherwise_is_noticed() {
    let rig = Rig::start_with(|url| {
        json!({
            "servers": [{"id": "main", "url": url, "discover": true}],
            "tenants": {"queue": ["*"]},
            "publish": {"servers": {"main": true}, "resources": {"main": true}},
        })
    })
    .await;
    rig.mcp.method("resources/list", |_| json!({"resources": []}));
    let served = rig.gateway(quick()).await;
    let http = Http::modern(&served);
    let mut events = listen_to(&http, all()).await;
    let acknowledged = events.next().await["params"]["notifications"].clone();
    assert!(acknowledged.get("promptsListChanged").is_none(), "no prompts are offered: {acknowledged}");
    rig.mcp.tool("new", |_: &Value| json!({"content": []}));
    is_told(&mut events, "tools").await;
    let tools = http.result("tools/list", json!({})).await.to_string();
    assert!(tools.contains("main__new"), "who is told finds it: {tools}");
    rig.mcp.method("resources/list", |_| json!({"resources": [{"uri": "a:1", "name": "a"}]}));
    is_told(&mut events, "resources").await;
    rig.mcp.method(
        "resources/templates/list",
        |_| json!({"resourceTemplates": [{"uriTemplate": "a:{x}", "name": "a"}]}),
    );
    is_told(&mut events, "resources").await;
    // A list that cannot be read again is used on.
    rig.mcp.always_for("resources/list", toolfleet_testkit::MockFault::Garbage("no JSON".into()));
    is_told_nothing(&mut events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_makes_no_other_list_late() {
    let dead = MockMcp::start(ProtocolRevision::Modern).await;
    let rig = Rig::start_with(|url| {
        json!({
            "servers": [{"id": "main", "url": url, "discover": true}, {"id": "dead", "url": dead.url(), "discover": true}],
            "tenants": {"queue": ["*"]},
            "publish": {"servers": {"dead": true}, "prompts": {"main": true}},
        })
    })
    .await;
    rig.mcp.method("prompts/list", |_| json!({"prompts": [{"name": "p"}]}));
    let _held = dead.hold_for("tools/list");
    let served = rig.gateway(quick()).await;
    let mut events = listen_to(&Http::modern(&served), all()).await;
    events.next().await;
    is_told_nothing(&mut events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_moved_is_listed_as_it_is_there() {
    let of = |url: &str| {
        json!({
            "servers": [{"id": "main", "url": url, "discover": true}],
            "tenants": {"queue": ["*"]},
            "publish": {"servers": {"main": true}},
        })
    };
    let rig = Rig::without_worker(of).await;
    let doomed = rig.doomed_worker();
    let served = rig.gateway(Limits::default()).await;
    let http = Http::modern(&served);
    let tools = http.result("tools/list", json!({})).await.to_string();
    assert!(tools.contains("main__echo"), "{tools}");
    doomed.shutdown_background();
    let moved = MockMcp::start(ProtocolRevision::Modern).await;
    moved.tool("other", |_: &Value| json!({"content": []}));
    rig.catalog.store(Arc::new(Catalog::parse(&of(&moved.url()).to_string()).unwrap()));
    let _worker = rig.worker().await;
    let tools = http.result("tools/list", json!({})).await.to_string();
    assert!(tools.contains("main__other") && !tools.contains("main__echo"), "{tools}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_client_is_told_on_the_stream_of_its_session_wherever_it_opens_it() {
    let rig = Rig::start_with(|url| catalog(url, "One.", "Two.")).await;
    let served = rig.gateway(Limits::default()).await;
    let opened =
        of_session(&served, "s1").result("initialize", json!({"protocolVersion": "2025-11-25"})).await;
    assert_eq!(opened["capabilities"]["tools"], json!({"listChanged": true}));
    let mut events = stream_of(&served, "s1", None).await;
    // The second id holds how the lists are.
    events.has_another_id().await;
    events.has_another_id().await;
    exchange(&rig, "Two.", "Two.");
    is_told(&mut events, "tools").await;
    let last_id = events.last_id.clone().unwrap();
    drop(events);
    exchange(&rig, "Three.", "Two.");
    let second = rig.gateway(Limits::default()).await;
    let mut events = stream_of(&second, "s1", Some(&last_id)).await;
    is_told(&mut events, "tools").await;
    is_told_nothing(&mut events).await;
    // Where sessions have no streams, nothing is declared that could not be told.
    let without = Rig::start().await;
    let served = without.gateway(Limits::default()).await;
    let opened =
        of_session(&served, "s1").result("initialize", json!({"protocolVersion": "2025-11-25"})).await;
    assert_eq!(opened["capabilities"]["tools"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_where_it_was_when_the_catalog_is_exchanged() {
    let rig = Rig::start_with(|url| catalog(url, "One.", "Two.")).await;
    let published = |tools: &[&str]| {
        let tools: Vec<_> =
            tools.iter().map(|id| json!({"id": id, "server": "main", "name": "echo"})).collect();
        let ids: serde_json::Map<_, _> =
            tools.iter().map(|one| (one["id"].as_str().unwrap().to_owned(), json!(true))).collect();
        let catalog = json!({"servers": [{"id": "main", "url": rig.mcp.url()}], "tools": tools, "tenants": {"queue": ["*"]}, "publish": {"tools": ids}});
        rig.catalog.store(Arc::new(Catalog::parse(&catalog.to_string()).unwrap()));
    };
    published(&["a", "b", "c", "d"]);
    let served = rig.gateway(Limits { page: 2, ..Limits::default() }).await;
    let http = Http::modern(&served);
    let names = |list: &Value| {
        list["tools"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let first = http.result("tools/list", json!({})).await;
    assert_eq!(names(&first), ["get_result", "a", "b"]);
    // Where the page before ended is no tool any more.
    published(&["a", "aa", "c", "cc", "d"]);
    let second = http.result("tools/list", json!({"cursor": first["nextCursor"]})).await;
    assert_eq!(names(&second), ["c", "cc"]);
    published(&[]);
    let third = http.result("tools/list", json!({"cursor": second["nextCursor"]})).await;
    assert_eq!((names(&third), third.get("nextCursor")), (Vec::new(), None));
}
