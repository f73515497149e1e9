//! TLS and HTTP/2 through a worker: how a call ends when the certificate is not trusted, and when its stream is refused or broken.

use serde_json::json;
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_egress::{EgressPolicy, Proxies};
use toolfleet_testkit::{Authority, ForwardProxy, H2Fault, H2Mcp, MockMcp, ProtocolRevision, TlsSide};

use crate::rig::{Rig, Seen, limits, request};

async fn call_at(rig: &Rig, url: &str, id: &str) -> Seen {
    let mut catalog = rig.catalog();
    catalog["servers"][0]["url"] = json!(url);
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(request(id, "unsafe").to_string()).await;
    rig.settle_with(&context).await;
    rig.outcome(id).await
}

async fn served(authority: &Authority, name: &str) -> MockMcp {
    let server = MockMcp::start_tls(ProtocolRevision::Modern, &TlsSide::new(&authority.issue(name))).await;
    server.tool("unsafe", |_| json!({"content": []}));
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_called_only_under_a_trusted_root() {
    let mut rig = Rig::new().await;
    let authority = Authority::new("ours");
    let server = served(&authority, "localhost").await;
    let seen = call_at(&rig, &server.url(), "c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("server_unreachable")), "{}", seen.message);
    assert_eq!(seen.may_have_run, Some(MayHaveRun::No));
    assert!(seen.row.attempts <= 1, "tries without a connection are no attempts");
    assert!(seen.message.contains("TLS: invalid peer certificate"), "{}", seen.message);
    assert!(server.requests().is_empty());

    rig.egress_config.extra_roots = Some(authority.pem().into_bytes());
    let seen = call_at(&rig, &server.url(), "c2").await;
    assert_eq!((seen.kind, server.executions_of("c2")), (OutcomeKind::Succeeded, 1), "{}", seen.message);

    let misnamed = served(&authority, "other.example").await;
    let seen = call_at(&rig, &misnamed.url(), "c3").await;
    assert!(seen.code == Some("server_unreachable") && seen.message.contains("TLS"), "{}", seen.message);
    assert!(misnamed.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_tunnelled_through_and_only_the_server_is_believed() {
    let mut rig = Rig::new().await;
    let authority = Authority::new("ours");
    let server = served(&authority, "mcp.example").await;
    let route = format!("127.0.0.1:{}", server.port());
    let proxy = ForwardProxy::start(&[("mcp.example:443", &route), ("else.example:443", &route)]).await;
    rig.egress_config.reach = EgressPolicy::public();
    rig.egress_config.extra_roots = Some(authority.pem().into_bytes());
    rig.egress_config.proxies = Proxies { https: Some(proxy.url("").parse().unwrap()), ..Proxies::default() };
    let seen = call_at(&rig, "https://mcp.example/mcp", "c1").await;
    assert_eq!((seen.kind, server.executions_of("c1")), (OutcomeKind::Succeeded, 1), "{}", seen.message);
    assert!(proxy.asked().iter().all(|(what, _)| what == "CONNECT mcp.example:443"), "{:?}", proxy.asked());

    let seen = call_at(&rig, "https://else.example/mcp", "c2").await;
    assert!(seen.code == Some("server_unreachable") && seen.message.contains("TLS"), "{}", seen.message);
    let seen = call_at(&rig, "https://nowhere.example/mcp", "c3").await;
    assert_eq!((seen.code, seen.may_have_run), (Some("server_unreachable"), Some(MayHaveRun::No)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_stream_is_tried_again_and_a_broken_answer_is_not() {
    let mut rig = Rig::new().await;
    let authority = Authority::new("ours");
    rig.egress_config.extra_roots = Some(authority.pem().into_bytes());
    let server = H2Mcp::start(&TlsSide::new(&authority.issue("localhost"))).await;
    for (id, fault, kind, attempts) in [
        ("c1", H2Fault::RefuseStream, OutcomeKind::Succeeded, 1),
        ("c2", H2Fault::GoAwayBefore, OutcomeKind::Succeeded, 1),
        ("c3", H2Fault::ResetMidway, OutcomeKind::OutcomeUnknown, 1),
        ("c4", H2Fault::ResetBeforeAnswer, OutcomeKind::OutcomeUnknown, 1),
        ("c5", H2Fault::GoAwayAfter, OutcomeKind::OutcomeUnknown, 1),
    ] {
        let before = server.executions();
        server.next(fault);
        let seen = call_at(&rig, &server.url(), id).await;
        assert_eq!((seen.kind, seen.row.attempts), (kind, attempts), "{fault:?}: {}", seen.message);
        assert_eq!(server.executions() - before, 1, "{fault:?}");
        if kind == OutcomeKind::OutcomeUnknown {
            assert_eq!((seen.code, seen.may_have_run), (Some("answer_lost"), Some(MayHaveRun::Unknown)));
        }
    }
}
