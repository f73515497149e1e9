//! Credentials that are no header: client certificates as the server sees them, and AWS signatures as the server computes them.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::{Authority, Issued, MockFault, MockMcp, ProtocolRevision, Recorded, TlsSide};

use crate::credentials::store;
use crate::rig::{Rig, SENDER, Seen, limits, request};

async fn call(rig: &Rig, catalog: Value, id: &str, tool: &str) -> Seen {
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(request(id, tool).to_string()).await;
    rig.settle_with(&context).await;
    rig.outcome(id).await
}

/// A server that wants certificates of that authority, and the rig's catalog with it.
async fn guarded(rig: &mut Rig, authority: &Authority) -> (MockMcp, Value) {
    rig.egress_config.extra_roots = Some(authority.pem().into_bytes());
    let tls = TlsSide::for_clients_of(&authority.issue("localhost"), authority);
    let server = MockMcp::start_tls(ProtocolRevision::Modern, &tls).await;
    server.tool("unsafe", |_| json!({"content": []}));
    let mut catalog = rig.catalog();
    catalog["servers"][0]["url"] = json!(server.url());
    catalog["servers"][0]["client_certificate"] =
        json!({"certificate": "secret://tls#certificate", "key": "secret://tls#key"});
    (server, catalog)
}

fn secret_of(issued: &Issued) -> String {
    json!({"certificate": issued.certificate, "key": issued.key}).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_shown_beside_another_credential() {
    let mut rig = Rig::new().await;
    let authority = Authority::new("ours");
    let (server, mut catalog) = guarded(&mut rig, &authority).await;
    let ours = authority.issue("worker");
    store(&rig, "tls", &secret_of(&ours)).await;
    store(&rig, "crm", "tok-123456").await;
    catalog["servers"][0]["auth"] = json!({"type": "bearer", "token": "secret://crm"});
    let seen = call(&rig, catalog, "c1", "unsafe").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    for request in server.requests() {
        assert_eq!(request.client_certificate.as_ref(), Some(&ours.der));
        assert_eq!(request.header("authorization"), Some("Bearer tok-123456"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_client_certificate_is_reloaded_without_a_restart() {
    let mut rig = Rig::new().await;
    let authority = Authority::new("ours");
    let (server, catalog) = guarded(&mut rig, &authority).await;
    store(&rig, "tls", &secret_of(&Authority::new("theirs").issue("worker"))).await;
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle_with(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!(seen.code, Some("credential_unavailable"), "{}", seen.message);
    assert!(
        seen.message.contains("secret://tls#certificate") && seen.message.contains("TLS alert"),
        "{}",
        seen.message
    );

    let renewed = authority.issue("worker");
    store(&rig, "tls", &secret_of(&renewed)).await;
    // A reading of less than a second ago counts as new, so the first calls may still be refused.
    let begun = tokio::time::Instant::now();
    loop {
        let id = uuid::Uuid::new_v4().to_string();
        rig.send(request(&id, "unsafe").to_string()).await;
        rig.settle_with(&context).await;
        if rig.outcome(&id).await.kind == OutcomeKind::Succeeded {
            break;
        }
        assert!(begun.elapsed().as_secs() < 20, "the new certificate is never shown");
    }
    assert_eq!(server.executions("unsafe"), 1);
    assert!(
        server.requests().iter().all(|request| request.client_certificate.as_ref() == Some(&renewed.der))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_pem_is_named_by_secret_and_field_and_nothing_is_sent() {
    let mut rig = Rig::new().await;
    let authority = Authority::new("ours");
    let (server, catalog) = guarded(&mut rig, &authority).await;
    let (one, other) = (authority.issue("worker"), authority.issue("worker"));
    let cases = [
        ("no-such-pem", one.key.as_str(), "`client_certificate.certificate` (secret://tls#certificate)"),
        (&one.certificate, "no-such-pem", "`client_certificate.key` (secret://tls#key)"),
        (&one.certificate, &other.key, "do not belong together"),
    ];
    for (n, (certificate, key, expected)) in cases.into_iter().enumerate() {
        store(&rig, "tls", &json!({"certificate": certificate, "key": key}).to_string()).await;
        let seen = call(&rig, catalog.clone(), &format!("c{n}"), "unsafe").await;
        assert_eq!(
            (seen.kind, seen.code),
            (OutcomeKind::Failed, Some("credential_unavailable")),
            "{expected}"
        );
        assert!(seen.message.contains(expected), "{}", seen.message);
        assert!(!seen.message.contains("no-such-pem") && !seen.message.contains("BEGIN"), "{}", seen.message);
    }
    let mut without = catalog;
    without["servers"][0].as_object_mut().unwrap().remove("client_certificate");
    let seen = call(&rig, without, "none", "unsafe").await;
    assert_eq!(seen.code, Some("server_unreachable"), "{}", seen.message);
    assert!(server.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_without_tls_is_refused_with_the_catalog() {
    let mut rig = Rig::new().await;
    let (_, mut catalog) = guarded(&mut rig, &Authority::new("ours")).await;
    catalog["servers"][0]["url"] = json!("http://mcp.example/mcp");
    let error = toolfleet_catalog::Catalog::parse(&catalog.to_string()).unwrap_err().to_string();
    assert!(error.contains("servers.mock.client_certificate") && error.contains("https"), "{error}");
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let padded = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

/// Computes the signature anew, as AWS documents it, from what arrived; gives the access key and the scope.
fn verified(request: &Recorded, secret: &str) -> (String, String) {
    let header = request.header("authorization").expect("a signature");
    let fields = header.strip_prefix("AWS4-HMAC-SHA256 Credential=").expect("Signature Version 4");
    let (credential, rest) = fields.split_once(", SignedHeaders=").unwrap();
    let (names, signature) = rest.split_once(", Signature=").unwrap();
    let (key_id, scope) = credential.split_once('/').unwrap();
    let mut canonical = format!("{}\n{}\n\n", request.http_method, request.path);
    for name in names.split(';') {
        canonical.push_str(&format!("{name}:{}\n", request.header(name).expect("a signed header")));
    }
    canonical.push_str(&format!("\n{names}\n{}", hex::encode(Sha256::digest(&request.text))));
    let date = request.header("x-amz-date").unwrap();
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(&canonical)));
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part));
    assert_eq!(hex::encode(hmac(&key, &to_sign)), signature, "{canonical}");
    for needed in ["host", "x-amz-date", "content-type", "mcp-method"] {
        assert!(names.split(';').any(|name| name == needed), "{needed} is not signed: {names}");
    }
    (key_id.to_owned(), scope.split('/').skip(1).collect::<Vec<_>>().join("/"))
}

fn signed(rig: &Rig, auth: Value) -> Value {
    let mut catalog = rig.catalog();
    catalog["servers"][0]["auth"] = auth;
    catalog
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_and_retry_is_signed_with_the_workers_identity() {
    let rig = Rig::new().await;
    let catalog =
        signed(&rig, json!({"type": "aws_sigv4", "service": "bedrock-agentcore", "region": "us-west-2"}));
    rig.mcp.next(MockFault::status(503));
    let seen = call(&rig, catalog, "c1", "safe").await;
    assert_eq!((seen.kind, seen.row.attempts), (OutcomeKind::Succeeded, 2), "{}", seen.message);
    for request in rig.mcp.requests() {
        let (key, scope) = verified(&request, "not-a-secret");
        assert_eq!((key.as_str(), scope.as_str()), (SENDER, "us-west-2/bedrock-agentcore/aws4_request"));
    }
    let calls = rig.mcp.requests_of("tools/call");
    assert_ne!(calls[0].header("authorization"), calls[1].header("authorization"));

    // The region of the worker's own configuration where none is given; and no AWS service that is not named.
    let seen =
        call(&rig, signed(&rig, json!({"type": "aws_sigv4", "service": "lambda"})), "c2", "safe").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    let (_, scope) = verified(rig.mcp.requests().last().unwrap(), "not-a-secret");
    assert_eq!(scope, "us-east-1/lambda/aws4_request");
    let before = rig.mcp.requests().len();
    let seen = call(&rig, signed(&rig, json!({"type": "aws_sigv4"})), "c3", "safe").await;
    assert_eq!(seen.code, Some("credential_unavailable"), "{}", seen.message);
    assert!(seen.message.contains("`service`"), "{}", seen.message);
    assert_eq!(rig.mcp.requests().len(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_from_a_secret_sign_and_are_read_again_at_a_403() {
    let rig = Rig::new().await;
    let keys =
        |secret: &str| json!({"id": "AKIAOTHER", "secret": secret, "token": "tok+/123456=="}).to_string();
    store(&rig, "aws", &keys("first-secret")).await;
    let auth = json!({"type": "aws_sigv4", "service": "execute-api", "region": "eu-west-1",
        "access_key_id": "secret://aws#id", "secret_access_key": "secret://aws#secret",
        "session_token": "secret://aws#token"});
    let context = rig.fleet_of(signed(&rig, auth), limits(), None).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.settle_with(&context).await;
    assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded);
    for request in rig.mcp.requests() {
        assert_eq!(verified(&request, "first-secret").0, "AKIAOTHER");
        assert_eq!(request.header("x-amz-security-token"), Some("tok+/123456=="));
    }

    store(&rig, "aws", &keys("second-secret")).await;
    let begun = tokio::time::Instant::now();
    let id = loop {
        let id = uuid::Uuid::new_v4().to_string();
        rig.mcp.next(MockFault::status(403));
        rig.send(request(&id, "unsafe").to_string()).await;
        rig.settle_with(&context).await;
        if rig.outcome(&id).await.kind == OutcomeKind::Succeeded {
            break id;
        }
        assert!(begun.elapsed().as_secs() < 20, "the new keys are never read");
    };
    assert_eq!(rig.mcp.executions_of(&id), 1);
    verified(rig.mcp.requests_of("tools/call").last().unwrap(), "second-secret");
}
