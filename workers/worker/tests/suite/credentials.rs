//! Credentials: each kind as the server sees it, rotation without a restart, redaction of an echoed secret.

use base64::Engine as _;
use serde_json::{Value, json};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::MockFault;

use crate::rig::{Rig, Seen, limits, request};

/// Puts a secret into the rig's Secrets Manager, or a new value for it.
pub(crate) async fn store(rig: &Rig, name: &str, text: &str) {
    for (operation, key) in [("CreateSecret", "Name"), ("PutSecretValue", "SecretId")] {
        let body =
            json!({key: name, "SecretString": text, "ClientRequestToken": uuid::Uuid::new_v4().to_string()});
        let request = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = request.post(rig.local.secretsmanager_url());
        let request = request
            .header("x-amz-target", format!("secretsmanager.{operation}"))
            .header("content-type", "application/x-amz-json-1.1")
            .body(body.to_string());
        if request.send().await.unwrap().status().is_success() {
            return;
        }
    }
    panic!("the secret `{name}` could not be stored");
}

/// The rig's catalog with that credential for its server.
pub(crate) fn with_auth(rig: &Rig, auth: Value) -> Value {
    let mut catalog = rig.catalog();
    catalog["servers"][0]["auth"] = auth;
    catalog
}

async fn call_with(rig: &Rig, auth: Value, id: &str) -> Seen {
    let context = rig.fleet_of(with_auth(rig, auth), limits(), None).await;
    rig.send(request(id, "unsafe").to_string()).await;
    rig.settle_with(&context).await;
    rig.outcome(id).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_reaches_the_server_in_its_header_on_every_request() {
    let rig = Rig::new().await;
    store(&rig, "crm", r#"{"token": "tok-123456", "list": [{"key": "key-123456"}]}"#).await;
    store(&rig, "plain", "pass-123456\n").await;
    let basic = base64::engine::general_purpose::STANDARD.encode("fleet:pass-123456");
    let cases = [
        (json!({"type": "bearer", "token": "secret://crm#token"}), "authorization", "Bearer tok-123456"),
        (json!({"type": "api_key", "key": "secret://crm#/list/0/key"}), "x-api-key", "key-123456"),
        (json!({"type": "api_key", "header": "Key", "key": "secret://plain"}), "key", "pass-123456"),
        (
            json!({"type": "basic", "username": "fleet", "password": "secret://plain"}),
            "authorization",
            &format!("Basic {basic}"),
        ),
        (json!({"type": "headers", "headers": {"X-T": "Token secret://plain"}}), "x-t", "Token pass-123456"),
    ];
    for (n, (auth, header, expected)) in cases.into_iter().enumerate() {
        let before = rig.mcp.requests().len();
        let seen = call_with(&rig, auth.clone(), &format!("c{n}")).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{auth}: {}", seen.message);
        for request in &rig.mcp.requests()[before..] {
            assert_eq!(request.header(header), Some(expected), "{auth}: {}", request.method());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_secret_is_read_again_at_a_401_without_a_restart() {
    let rig = Rig::new().await;
    store(&rig, "crm", "old-token").await;
    let catalog = with_auth(&rig, json!({"type": "bearer", "token": "secret://crm"}));
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);

    store(&rig, "crm", "new-token").await;
    // A reading of less than a second ago counts as new, so the first calls may still end as unauthorized.
    let begun = tokio::time::Instant::now();
    let cured = loop {
        let id = uuid::Uuid::new_v4().to_string();
        rig.mcp.next(MockFault::status(401));
        rig.send(request(&id, "unsafe").to_string()).await;
        rig.settle_with(&context).await;
        let seen = rig.outcome(&id).await;
        if seen.kind == OutcomeKind::Succeeded {
            break (id, seen.row.attempts);
        }
        assert_eq!(seen.code, Some("unauthorized"));
        assert!(begun.elapsed().as_secs() < 20, "the rotated secret is never read");
    };
    assert_eq!((rig.mcp.executions_of(&cured.0), cured.1), (1, 1));
    let sent = rig.mcp.requests_of("tools/call");
    let last: Vec<_> = sent.iter().rev().take(2).filter_map(|r| r.header("authorization")).collect();
    assert_eq!(last, ["Bearer new-token", "Bearer old-token"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_401_that_no_new_secret_cures_fails_after_one_reading() {
    let rig = Rig::new().await;
    store(&rig, "crm", "the-token").await;
    rig.mcp.always_for("tools/call", MockFault::status(401));
    let seen = call_with(&rig, json!({"type": "bearer", "token": "secret://crm"}), "c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("unauthorized")));
    assert_eq!(rig.mcp.requests_of("tools/call").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_secret_or_member_is_named_and_nothing_is_sent() {
    let rig = Rig::new().await;
    store(&rig, "crm", r#"{"other": "value-123456"}"#).await;
    for (id, reference, expected) in
        [("c1", "secret://nobody", "nobody"), ("c2", "secret://crm#token", "no text member `token`")]
    {
        let seen = call_with(&rig, json!({"type": "bearer", "token": reference}), id).await;
        assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("credential_unavailable")));
        assert!(
            seen.message.contains(expected) && !seen.message.contains("value-123456"),
            "{}",
            seen.message
        );
    }
    assert!(rig.mcp.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_echoed_secret_is_in_no_result_row_or_record() {
    let rig = Rig::new().await;
    store(&rig, "crm", "echo-\"me\"-123").await;
    let auth = json!({"type": "api_key", "key": "secret://crm"});
    rig.mcp.tool("unsafe", |_| json!({"content": [{"type": "text", "text": "you sent echo-\"me\"-123"}]}));
    let seen = call_with(&rig, auth.clone(), "c1").await;
    let content = seen.content.unwrap();
    assert!(content.contains("you sent [redacted]") && !content.contains("-123"), "{content}");

    rig.mcp.tool(
        "unsafe",
        |_| json!({"isError": true, "content": [{"type": "text", "text": "bad echo-\"me\"-123"}]}),
    );
    let seen = call_with(&rig, auth.clone(), "c2").await;
    assert_eq!(seen.message, "bad [redacted]");
    assert!(!seen.content.unwrap().contains("-123"));

    rig.mcp.next(MockFault::rpc(-32000, "wrong key: echo-\"me\"-123"));
    let seen = call_with(&rig, auth, "c3").await;
    assert!(seen.message.contains("wrong key: [redacted]"), "{}", seen.message);
    for id in ["c1", "c2", "c3"] {
        let records = rig.audit_of(id, toolfleet_core::audit::AuditKind::Call).await;
        assert!(!records.is_empty() && !format!("{records:?}").contains("-123"), "{records:?}");
    }
}
