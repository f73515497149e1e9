//! Failed AWS requests: calls wait until AWS answers again, their rows say so, and no call ends because of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::any;
use serde_json::json;
use toolfleet_core::call::HeldReason;
use toolfleet_core::outcome::OutcomeKind;

use crate::credentials::with_auth;
use crate::rig::{LEASE_MS, Rig, limits, request};

/// A Secrets Manager that refuses with these codes, one after the other, and then gives a secret.
async fn refusing(codes: &'static [&'static str]) -> String {
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = move || {
        let asked = asked.clone();
        async move {
            let json = [(header::CONTENT_TYPE, "application/x-amz-json-1.1")];
            match codes.get(asked.fetch_add(1, Ordering::SeqCst)) {
                Some(code) => {
                    (StatusCode::BAD_REQUEST, json, json!({"__type": code, "message": "no"}).to_string())
                }
                None => {
                    (StatusCode::OK, json, json!({"Name": "crm", "SecretString": "tok-123456"}).to_string())
                }
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let app = Router::new().fallback(any(answer));
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

#[tokio::test]
async fn invalid_aws_credentials_of_the_worker_end_no_call() {
    for codes in [
        &["ExpiredTokenException"][..],
        &["UnrecognizedClientException"],
        &["AccessDeniedException"],
        &["InvalidSignatureException"],
        &["DecryptionFailure"],
    ] {
        let rig = Rig { secrets: Some(refusing(codes).await), ..Rig::new().await };
        let catalog = with_auth(&rig, json!({"type": "bearer", "token": "secret://crm"}));
        let context = rig.fleet_of(catalog, limits(), None).await;
        rig.clock.advance_ms(1);
        rig.send(request("c1", "unsafe").to_string()).await;
        // An older message: its wait is told at once.
        rig.clock.advance_ms(5_000);
        rig.deliver(&context).await;
        let row = rig.row("c1").await.expect("it is held visibly");
        let held = row.held().expect("it waits");
        assert_eq!(held.reason, HeldReason::Credential, "{codes:?}");
        assert!(held.last_fault.as_ref().unwrap().contains(codes[0]), "{held:?}");
        // The failure is remembered for a second of real time.
        tokio::time::pause();
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        tokio::time::resume();
        rig.clock.advance_ms(LEASE_MS);
        rig.deliver(&context).await;
        assert_eq!(rig.outcome("c1").await.kind, OutcomeKind::Succeeded, "{codes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_does_not_exist_ends_the_call_with_its_name() {
    let rig = Rig { secrets: Some(refusing(&["ResourceNotFoundException"; 20]).await), ..Rig::new().await };
    let catalog = with_auth(&rig, json!({"type": "bearer", "token": "secret://crm"}));
    let context = rig.fleet_of(catalog, limits(), None).await;
    rig.send(request("c1", "unsafe").to_string()).await;
    rig.deliver(&context).await;
    let seen = rig.outcome("c1").await;
    assert_eq!(seen.code, Some("credential_unavailable"), "{}", seen.message);
    assert!(seen.message.contains("crm"), "{}", seen.message);
}
