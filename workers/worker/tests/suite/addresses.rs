//! Which addresses a worker calls and which it refuses, through the queue, to the outcome.

use std::process::Command;

use serde_json::{Value, json};
use toolfleet_core::outcome::{MayHaveRun, OutcomeKind};
use toolfleet_egress::{EgressPolicy, Proxies};
use toolfleet_testkit::{ForwardProxy, MockFault, MockMcp, ProtocolRevision};

use crate::rig::{Rig, Seen, limits, request};

/// The rig's catalog with its server elsewhere.
fn at(rig: &Rig, url: &str) -> Value {
    let mut catalog = rig.catalog();
    catalog["servers"][0]["url"] = json!(url);
    catalog
}

async fn call_at(rig: &Rig, url: &str, id: &str) -> Seen {
    let context = rig.fleet_of(at(rig, url), limits(), None).await;
    rig.send(request(id, "unsafe").to_string()).await;
    rig.settle_with(&context).await;
    rig.outcome(id).await
}

/// The mock's `host:port`.
fn authority(mcp: &MockMcp) -> String {
    mcp.url().trim_start_matches("http://").trim_end_matches("/mcp").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forbidden_address_ends_as_address_refused() {
    let mut rig = Rig::new().await;
    let port = authority(&rig.mcp).split(':').nth(1).unwrap().to_owned();
    let without_tls = EgressPolicy { http: false, ..EgressPolicy::with_loopback() };
    let public = || EgressPolicy { http: true, ..EgressPolicy::public() };
    let cases = [
        (without_tls, rig.mcp.url(), "TOOLFLEET_ALLOW_HTTP"),
        (public(), "http://169.254.169.254/latest/meta-data".to_owned(), "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES"),
        (public(), rig.mcp.url(), "has the address 127.0.0.1"),
        (public(), format!("http://localhost:{port}/mcp"), "localhost has the address"),
        (public(), format!("http://[::ffff:127.0.0.1]:{port}/mcp"), "has the address 127.0.0.1"),
    ];
    for (n, (reach, url, expected)) in cases.into_iter().enumerate() {
        rig.egress_config.reach = reach;
        let seen = call_at(&rig, &url, &format!("c{n}")).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("address_refused")), "{url}");
        assert_eq!((seen.may_have_run, seen.row.attempts), (Some(MayHaveRun::No), 1), "{url}");
        assert!(seen.message.contains(expected), "{url}: {}", seen.message);
    }
    assert!(rig.mcp.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_old_transport_is_found_behind_its_address() {
    let rig = Rig::with(ProtocolRevision::Legacy).await;
    let seen = call_at(&rig, &rig.mcp.sse_url(), "old").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    assert_eq!((rig.mcp.executions_of("old"), seen.row.attempts), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_leads_to_no_other_address() {
    let rig = Rig::new().await;
    let elsewhere = MockMcp::start(ProtocolRevision::Modern).await;
    for (n, target) in
        [elsewhere.url(), "http://169.254.169.254/latest/meta-data".to_owned()].into_iter().enumerate()
    {
        let id = format!("c{n}");
        rig.mcp.always_for("tools/call", MockFault::Redirect(target.clone()));
        let seen = call_at(&rig, &rig.mcp.url(), &id).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("redirected")), "{target}");
        assert_eq!((seen.may_have_run, rig.mcp.executions_of(&id)), (Some(MayHaveRun::No), 0));
        rig.mcp.behave();
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_gets_its_password_and_the_server_does_not() {
    let mut rig = Rig::new().await;
    let proxy = ForwardProxy::start(&[("mcp.example", &authority(&rig.mcp))]).await;
    rig.egress_config.reach = EgressPolicy { http: true, ..EgressPolicy::public() };
    rig.egress_config.proxies =
        Proxies { http: Some(proxy.url("fleet:pass-123456@").parse().unwrap()), ..Proxies::default() };
    let seen = call_at(&rig, "http://mcp.example/mcp", "c1").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    assert_eq!(rig.mcp.executions_of("c1"), 1);
    let asked = proxy.asked();
    assert!(
        asked.iter().all(|(what, user)| what == "POST http://mcp.example/mcp" && user.is_some()),
        "{asked:?}"
    );
    assert!(rig.mcp.requests().iter().all(|request| request.header("proxy-authorization").is_none()));

    // Behind a proxy, too, an address in the URL is judged, and a name that the proxy cannot reach is its answer.
    let seen = call_at(&rig, &rig.mcp.url(), "c2").await;
    assert_eq!(seen.code, Some("address_refused"), "{}", seen.message);
    assert_eq!(proxy.asked().len(), asked.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_proxy_names_is_reached_without_it() {
    let mut rig = Rig::new().await;
    let proxy = ForwardProxy::start(&[]).await;
    let http = Some(proxy.url("").parse().unwrap());
    rig.egress_config.proxies = Proxies { http: http.clone(), https: None, none: Some("127.0.0.0/8".into()) };
    let seen = call_at(&rig, &rig.mcp.url(), "c1").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    assert!(proxy.asked().is_empty());

    rig.egress_config.proxies = Proxies { http, ..Proxies::default() };
    let seen = call_at(&rig, &rig.mcp.url(), "c2").await;
    assert_eq!(seen.code, Some("server_unreachable"), "a 502 of the proxy: {}", seen.message);
    assert!(!proxy.asked().is_empty());
}

#[test]
fn a_wrong_setting_refuses_to_start_and_names_the_remedy() {
    let folder = std::env::temp_dir().join(format!("toolfleet-addresses-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let catalog = folder.join("catalog.json");
    std::fs::write(&catalog, r#"{"servers": [], "tools": [], "tenants": {"queue": ["*"]}}"#).unwrap();
    let no_pem = folder.join("no.pem");
    std::fs::write(&no_pem, "hello").unwrap();
    let broken = folder.join("broken.pem");
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\n####\n-----END CERTIFICATE-----\n").unwrap();
    let path = |path: &std::path::Path| path.display().to_string();
    for (variable, value, remedy) in [
        (
            "TOOLFLEET_ALLOW_PRIVATE_ADDRESSES",
            "10.0.0.0/99".to_owned(),
            "accepted are for example 10.0.0.0/8",
        ),
        ("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "localhost".to_owned(), "accepted are for example 10.0.0.0/8"),
        ("TOOLFLEET_ALLOW_HTTP", "yes".to_owned(), "accepted are true and false"),
        ("HTTPS_PROXY", "ftp://proxy".to_owned(), "give http://host:port"),
        ("http_proxy", "socks5://proxy:1080".to_owned(), "give http://host:port"),
        ("TOOLFLEET_EXTRA_ROOTS", path(&folder.join("absent.pem")), "cannot be read"),
        ("TOOLFLEET_EXTRA_ROOTS", path(&no_pem), "give certificates in PEM format"),
        ("TOOLFLEET_EXTRA_ROOTS", path(&broken), "give certificates in PEM format"),
    ] {
        let ran = Command::new(env!("CARGO_BIN_EXE_toolfleet-worker"))
            .env_clear()
            .envs([("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")])
            .envs([("TOOLFLEET_QUEUE_URL", "http://127.0.0.1:9/0/q"), ("TOOLFLEET_LOG", "off")])
            .env("TOOLFLEET_CATALOG", &catalog)
            .env(variable, &value)
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1), "{variable}={value}: {said}");
        assert!(
            said.contains(&format!("{variable}: ")) && said.contains(remedy),
            "{variable}={value}: {said}"
        );
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
