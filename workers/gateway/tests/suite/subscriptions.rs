//! Subscriptions: what clients of both generations are told of updates, and what survives the death of a gateway or a worker.

use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_gateway::Limits;
use toolfleet_testkit::{MockMcp, ProtocolRevision};

use crate::access::Issuer;
use crate::events::{Events, listen, listen_to, of_session, stream_of, stream_request};
use crate::rig::{Http, Rig, answered, gateway_of, open};
use crate::updating::{Updating, WATCHED};

fn catalog(url: &str) -> Value {
    json!({
        "servers": [{"id": "notes", "url": url, "discover": true}],
        "tenants": {"queue": ["*"]},
        "publish": {"resources": {"notes": true}, "subscriptions": ["notes"]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listening_client_is_told_of_updates_of_servers_of_both_generations() {
    for is_modern in [true, false] {
        let server = Updating::start(is_modern).await;
        let rig = Rig::start_with(|_| catalog(&server.url)).await;
        let served = rig.gateway(Limits::default()).await;
        let discovered = Http::modern(&served).result("server/discover", json!({})).await;
        assert_eq!(discovered["capabilities"]["resources"], json!({"subscribe": true, "listChanged": true}));
        let mut events = listen(&served, json!([WATCHED, "note:other"])).await;
        let first = events.next().await;
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
        assert_eq!(
            first["params"]["notifications"]["resourceSubscriptions"],
            json!([WATCHED]),
            "the other one is refused"
        );
        assert_eq!(first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
        // A server may name a part of the resource, or write its address in another way: the stream is of this subscription alone.
        for named in [WATCHED, "note:watched/part", "NOTE:watched"] {
            server.update(named);
            let told = events.is_told_of(WATCHED).await;
            assert_eq!(told["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7);
        }
        // Nobody listens any more: the worker ends the subscription.
        drop(events);
        server.saw("end of a stream", 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_client_subscribes_and_is_told_on_the_stream_of_its_session() {
    let server = Updating::start(false).await;
    let rig = Rig::start_with(|_| catalog(&server.url)).await;
    let served = rig.gateway(Limits::default()).await;
    let http = of_session(&served, "s1");
    // Without the stream there is nobody to tell.
    let wrong = http.ask("resources/subscribe", json!({"uri": WATCHED})).await;
    assert!(wrong.body["error"]["message"].as_str().unwrap().contains("GET"), "{wrong:?}");
    let mut events = stream_of(&served, "s1", None).await;
    assert_eq!(http.result("resources/subscribe", json!({"uri": WATCHED})).await, json!({}));
    assert_eq!(http.result("resources/subscribe", json!({"uri": WATCHED})).await, json!({}), "twice is once");
    let wrong = http.ask("resources/subscribe", json!({"uri": "note:other"})).await;
    assert_eq!(
        (&wrong.body["error"]["code"], &wrong.body["error"]["data"]["uri"]),
        (&json!(-32602), &json!("note:other"))
    );
    let other = of_session(&served, "s2").ask("resources/subscribe", json!({"uri": WATCHED})).await;
    assert_eq!(other.body["error"]["code"], -32603, "another session has a stream of its own");
    server.update(WATCHED);
    events.is_told_of(WATCHED).await;
    assert_eq!(server.seen("resources/subscribe"), 2);
    assert_eq!(http.result("resources/unsubscribe", json!({"uri": WATCHED})).await, json!({}));
    server.saw("end of a stream", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_streams_keep_out_no_request() {
    let server = Updating::start(true).await;
    let rig = Rig::start_with(|_| catalog(&server.url)).await;
    let served = rig.gateway(Limits { max_requests: 1, ..Limits::default() }).await;
    let _idle = stream_of(&served, "s1", None).await;
    Http::modern(&served).result("server/discover", json!({})).await;
    let refused = stream_request(&served, "s2", None).send().await.unwrap();
    assert_eq!(
        (refused.status(), refused.headers()["retry-after"].to_str().unwrap()),
        (reqwest::StatusCode::SERVICE_UNAVAILABLE, "1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_permit_of_a_subscription_is_renewed_as_long_as_it_lasts() {
    let server = Updating::start(true).await;
    let limited = |_: &str| {
        let mut catalog = catalog(&server.url);
        catalog["servers"][0]["limits"] = json!({"concurrency": 1});
        catalog["servers"][0]["timeout_ms"] = json!(1_000);
        catalog
    };
    let rig = Rig::start_with(limited).await;
    let served = rig.gateway(Limits::default()).await;
    let mut events = listen(&served, json!([WATCHED])).await;
    events.next().await;
    let first = rig.permit_ends("server:notes").await.expect("it has a permit");
    while rig.permit_ends("server:notes").await.expect("it still has it") <= first {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_gateway_goes_on_with_the_stream_of_a_killed_one() {
    let server = Updating::start(true).await;
    let rig = Rig::start_with(|_| catalog(&server.url)).await;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (catalog, client) = (rig.catalog.clone(), rig.client());
    let first = runtime.spawn(gateway_of(client, catalog, Limits::default(), open("acme"))).await.unwrap();
    let mut events = stream_of(&first, "s1", None).await;
    of_session(&first, "s1").result("resources/subscribe", json!({"uri": WATCHED})).await;
    server.update(WATCHED);
    events.is_told_of(WATCHED).await;
    let last_id = events.last_id.clone().unwrap();
    assert!(!last_id.contains("note"), "{last_id}");
    runtime.shutdown_background();
    let second = rig.gateway(Limits::default()).await;
    // The id is good for its session and its caller alone.
    let mut stranger = stream_of(&second, "s2", Some(&last_id)).await;
    let mut events = stream_of(&second, "s1", Some(&last_id)).await;
    events.is_told_of(WATCHED).await;
    server.update(WATCHED);
    events.is_told_of(WATCHED).await;
    assert!(tokio::time::timeout(Duration::from_millis(300), stranger.next()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_a_dead_worker_may_have_missed_is_told() {
    let server = Updating::start(false).await;
    let rig = Rig::without_worker(|_| catalog(&server.url)).await;
    let doomed = rig.doomed_worker();
    let served = rig.gateway(Limits::default()).await;
    let mut events = listen(&served, json!([WATCHED])).await;
    events.next().await;
    server.update(WATCHED);
    events.is_told_of(WATCHED).await;
    doomed.shutdown_background();
    server.saw("end of a stream", 1).await;
    server.update(WATCHED);
    let _second = rig.worker().await;
    events.is_told_of(WATCHED).await;
    assert_eq!(server.seen("resources/subscribe"), 2, "the other worker has subscribed anew");
    server.update(WATCHED);
    events.is_told_of(WATCHED).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_a_cut_stream_may_have_missed_is_told() {
    for is_modern in [true, false] {
        let server = Updating::start(is_modern).await;
        let rig = Rig::start_with(|_| catalog(&server.url)).await;
        let served = rig.gateway(Limits::default()).await;
        let mut events = listen(&served, json!([WATCHED])).await;
        events.next().await;
        server.cut();
        events.is_told_of(WATCHED).await;
        server.update(WATCHED);
        events.is_told_of(WATCHED).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_subscribes_to_what_is_closed_or_not_published_so() {
    let server = Updating::start(true).await;
    let rig = Rig::start_with(|_| {
        json!({
            "servers": [{"id": "notes", "url": server.url, "discover": true}],
            "pika": [{"toolId": "guarded", "name": "guarded", "description": "Guarded", "executionType": "mcp", "mcpServerUrl": server.url,
                      "accessRules": [{"enabled": true, "userRoles": ["admin"]}]}],
            "tenants": {"queue": ["*"]},
            "publish": {"resources": {"notes": "", "guarded": true}, "subscriptions": ["guarded"]},
        })
    })
    .await;
    let served = rig.gateway(Limits::default()).await;
    let mut events = listen(&served, json!([WATCHED, "note:guarded~/watched"])).await;
    assert_eq!(events.next().await["params"]["notifications"]["resourceSubscriptions"], json!([]));
    let _events = stream_of(&served, "s1", None).await;
    for uri in [WATCHED, "note:guarded~/watched"] {
        let wrong = of_session(&served, "s1").ask("resources/subscribe", json!({"uri": uri})).await;
        assert_eq!(wrong.body["error"]["code"], -32602, "{wrong:?}");
    }
    assert_eq!(server.seen("subscriptions/listen"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_stream_of_a_session_ends_the_older_one_with_its_subscriptions() {
    let server = Updating::start(true).await;
    let rig = Rig::start_with(|_| catalog(&server.url)).await;
    let served = rig.gateway(Limits::default()).await;
    let http = of_session(&served, "s1");
    let mut older = stream_of(&served, "s1", None).await;
    http.result("resources/subscribe", json!({"uri": WATCHED})).await;
    let mut newer = stream_of(&served, "s1", None).await;
    older.end().await;
    server.saw("end of a stream", 1).await;
    http.result("resources/subscribe", json!({"uri": WATCHED})).await;
    server.update(WATCHED);
    newer.is_told_of(WATCHED).await;
    http.result("resources/unsubscribe", json!({"uri": WATCHED})).await;
    server.saw("end of a stream", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_when_their_token_is_no_longer_accepted() {
    let server = Updating::start(true).await;
    let rig = Rig::start_with(|_| catalog(&server.url)).await;
    let issuer = Issuer::new();
    let served = rig.gateway_for(Limits::default(), issuer.authenticator()).await;
    // It is accepted for ten seconds more: clocks may differ by 30.
    let token = format!("Bearer {}", issuer.token_for(-20, "acme", "ann", &json!([])));
    let get = reqwest::Client::new().get(&served.url).header("accept", "text/event-stream");
    let mut of_session = Events::of(get.header("mcp-session-id", "s1").header("authorization", &token)).await;
    let http = Http::modern(&served).with("authorization", &token);
    let params = json!({"notifications": {"resourceSubscriptions": [WATCHED]}});
    let mut listening = Events::of(http.post(&http.message("subscriptions/listen", params))).await;
    let first = listening.next().await;
    assert_eq!(first["params"]["notifications"]["resourceSubscriptions"], json!([WATCHED]));
    let last = listening.next().await;
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(7), &json!("complete")), "{last}");
    listening.end().await;
    of_session.end().await;
    server.saw("end of a stream", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_leave_slots_to_other_calls_of_their_tenant() {
    let server = Updating::start(true).await;
    let rig = Rig::start_with(|_| catalog(&server.url)).await;
    let served = rig.gateway(Limits::default()).await;
    // A quarter of the slots.
    let listening = futures::future::join_all((0..16).map(|_| listen(&served, json!([WATCHED])))).await;
    let mut held = Vec::new();
    for mut events in listening {
        let first = events.next().await;
        assert_eq!(first["params"]["notifications"]["resourceSubscriptions"], json!([WATCHED]), "{first}");
        held.push(events);
    }
    let mut refused = listen(&served, json!([WATCHED])).await;
    let params = refused.next().await["params"].clone();
    assert_eq!(params["notifications"]["resourceSubscriptions"], json!([]));
    let why = params["_meta"]["toolfleet/refused"][WATCHED].as_str().unwrap();
    assert!(why.contains("are 16"), "{why}");
    let _events = stream_of(&served, "s1", None).await;
    let wrong = of_session(&served, "s1").ask("resources/subscribe", json!({"uri": WATCHED})).await;
    let error = &wrong.body["error"];
    assert!(error["code"] == -32602 && error["message"].as_str().unwrap().contains("are 16"), "{error}");
    Http::modern(&served).result("resources/read", json!({"uri": WATCHED})).await;
    assert_eq!(held.len(), 16);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_last_leave_slots_to_other_callers() {
    let rig = Rig::start_with(|url| {
        let mut catalog = catalog(url);
        catalog["publish"]["servers"] = json!({"notes": true});
        catalog
    })
    .await;
    let issuer = Issuer::new();
    let served = rig.gateway_for(Limits::default(), issuer.authenticator()).await;
    let bearer = |user: &str| format!("Bearer {}", issuer.token_for(600, "acme", user, &json!([])));
    let of = |version, user: &str| Http::of(&served, version).with("authorization", &bearer(user));
    let says = |told: &Value| told["error"]["message"].as_str().unwrap_or_default().contains("at most 20");
    let (ann, older) = (of("2026-07-28", "ann"), of("2025-11-25", "ann"));
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut events = listen_to(&ann, json!({})).await;
        let first = events.next().await;
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
        held.push(events);
    }
    let refused = listen_to(&ann, json!({})).await.next().await;
    assert!(says(&refused), "{refused}");
    let get = reqwest::Client::new().get(&served.url).header("accept", "text/event-stream");
    let get = get.header("mcp-session-id", "s1").header("authorization", bearer("ann"));
    let refused = answered(get).await;
    assert!(refused.status == 429 && says(&refused.body), "{refused:?}");
    let hold = rig.mcp.hold();
    let task = json!({"name": "notes__echo", "arguments": {}, "task": {}});
    let made = older.result("tools/call", task).await;
    let id = json!({"taskId": made["task"]["taskId"]});
    let refused = Events::of(older.post(&older.message("tasks/result", id.clone()))).await.next().await;
    assert!(says(&refused), "{refused}");
    // Another user of the tenant has its own.
    let first = listen_to(&of("2026-07-28", "bob"), json!({})).await.next().await;
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
    // What has ended is not waited for.
    drop(hold);
    crate::going_on::until_done(&older, &id).await;
    let ended = Events::of(older.post(&older.message("tasks/result", id))).await.next().await;
    assert!(ended["result"].is_object(), "{ended}");
    drop(held.pop());
    while says(&listen_to(&ann, json!({})).await.next().await) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_ends_its_streams_with_an_answer() {
    let server = Updating::start(true).await;
    let rig = Rig::start_with(|_| catalog(&server.url)).await;
    let served = rig.gateway(Limits::default()).await;
    let mut events = listen(&served, json!([WATCHED])).await;
    events.next().await;
    served.stop.cancel();
    let last = events.next().await;
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(7), &json!("complete")), "{last}");
    server.saw("end of a stream", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_of_servers_with_kept_connections_are_told() {
    for transport in ["websocket", "sse"] {
        let server = MockMcp::start(ProtocolRevision::Legacy).await;
        server.method("resources/subscribe", |_| json!({}));
        server.method("resources/unsubscribe", |_| json!({}));
        let url = if transport == "sse" { server.sse_url() } else { server.ws_url() };
        let rig = Rig::start_with(|_| {
            let mut catalog = catalog(&url);
            catalog["servers"][0]["transport"] = json!(transport);
            catalog
        })
        .await;
        let served = rig.gateway(Limits::default()).await;
        let mut events = listen(&served, json!([WATCHED])).await;
        let first = events.next().await;
        assert_eq!(
            first["params"]["notifications"]["resourceSubscriptions"],
            json!([WATCHED]),
            "{transport}: {first}"
        );
        let updated = |uri: &str| json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": uri}});
        for _ in 0..2 {
            server.push(&updated(WATCHED));
            events.is_told_of(WATCHED).await;
        }
        // Between the end of the connection and the next one an update may have been missed.
        server.end_connections();
        events.is_told_of(WATCHED).await;
        server.arrived("resources/subscribe", 2).await;
        server.push(&updated(WATCHED));
        events.is_told_of(WATCHED).await;
        drop(events);
        server.arrived("resources/unsubscribe", 1).await;
    }
}
