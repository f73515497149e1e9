//! Tokens: OAuth client credentials and Cognito against scripted authorization servers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::{Value, json};
use toolfleet_core::credential::{Credential, SecretRef};
use toolfleet_core::failure::{Blame, RetryClass};
use toolfleet_credentials::{CredentialError, Keyring, SecretText};
use toolfleet_mcp::{Answer, Endpoint, Fault, McpClient, ToolCall};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision, Recorded};

use crate::support::*;

/// Secrets as a cache holds them, and as they really are.
#[derive(Debug, Default)]
struct Ring {
    cached: Mutex<Vec<(String, String)>>,
    current: Mutex<Vec<(String, String)>>,
}

impl Ring {
    fn with(pairs: &[(&str, &str)]) -> Arc<Self> {
        let all: Vec<_> = pairs.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
        Arc::new(Self { cached: Mutex::new(all.clone()), current: Mutex::new(all) })
    }

    fn rotate(&self, name: &str, text: &str) {
        self.current.lock().unwrap().retain(|(n, _)| n != name);
        self.current.lock().unwrap().push((name.to_owned(), text.to_owned()));
    }
}

impl Keyring for Ring {
    fn secret<'a>(
        &'a self,
        of: &'a SecretRef,
        fresh: bool,
    ) -> BoxFuture<'a, Result<SecretText, CredentialError>> {
        async move {
            if fresh {
                *self.cached.lock().unwrap() = self.current.lock().unwrap().clone();
            }
            let cached = self.cached.lock().unwrap();
            let found = cached.iter().find(|(name, _)| name == of.name()).map(|(_, text)| text.as_str());
            found.map(SecretText::new).ok_or_else(|| CredentialError::Unavailable { detail: of.to_string() })
        }
        .boxed()
    }

    fn now_s(&self) -> u64 {
        1_795_000_000
    }
}

struct World {
    server: MockMcp,
    issuer: MockMcp,
    ring: Arc<Ring>,
    client: McpClient,
}

impl World {
    async fn new() -> Self {
        let server = MockMcp::start(ProtocolRevision::Modern).await;
        server.echo();
        let issuer = MockMcp::start(ProtocolRevision::Modern).await;
        let ring = Ring::with(&[("client", "client-secret-1"), ("password", "password-123")]);
        Self { server, issuer, ring, client: client() }
    }

    fn token_url(&self) -> String {
        self.issuer.url().replace("/mcp", "/token")
    }

    fn endpoint(&self, auth: Value) -> Endpoint {
        let credential: Credential = serde_json::from_value(auth).unwrap();
        let url = self.server.url().parse().unwrap();
        let auth = self.client.auth(&credential, [], &url, self.ring.clone());
        Endpoint { auth: Some(Arc::new(auth)), ..endpoint(url.as_str()) }
    }

    fn oauth(&self, more: Value) -> Endpoint {
        let mut auth = json!({"type": "oauth2_client_credentials", "client_id": "fleet", "client_secret": "secret://client",
            "token_url": self.token_url()});
        auth.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.endpoint(auth)
    }

    async fn call(&self, endpoint: &Endpoint) -> Result<Answer, Fault> {
        let arguments = raw(r#"{"call":"c1"}"#);
        self.client.call_tool(ToolCall::new(endpoint, "echo", &arguments, later())).await
    }

    /// What the issuer answers next.
    fn grants(&self, body: Value) {
        self.issuer.next_for("POST", answer(200, body));
    }

    fn asked(&self) -> Vec<Recorded> {
        self.issuer.requests_of("POST")
    }

    fn bearers(&self) -> Vec<String> {
        let sent = self.server.requests_of("tools/call");
        sent.iter().filter_map(|r| r.header("authorization")).map(str::to_owned).collect()
    }
}

fn answer(status: u16, body: Value) -> MockFault {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    MockFault::Status { status, headers, body: body.to_string() }
}

fn token(n: u32) -> Value {
    json!({"access_token": format!("access-token-{n}"), "token_type": "Bearer", "expires_in": 3600})
}

fn form(request: &Recorded) -> Vec<(String, String)> {
    url::form_urlencoded::parse(request.text.as_bytes()).into_owned().collect()
}

fn field(request: &Recorded, name: &str) -> Option<String> {
    form(request).into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
}

/// Lets that many seconds pass for every timer.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_token_is_obtained_once_and_used_for_every_request() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({"scopes": ["tools:call"]}));
    world.grants(token(1));
    world.call(&endpoint).await.unwrap();
    world.call(&endpoint).await.unwrap();
    let asked = world.asked();
    assert_eq!(asked.len(), 1);
    // "fleet:client-secret-1"
    assert_eq!(asked[0].header("authorization"), Some("Basic ZmxlZXQ6Y2xpZW50LXNlY3JldC0x"));
    assert_eq!(field(&asked[0], "grant_type").as_deref(), Some("client_credentials"));
    assert_eq!(field(&asked[0], "scope").as_deref(), Some("tools:call"));
    assert_eq!(field(&asked[0], "resource"), Some(world.server.url()));
    assert!(!asked[0].text.contains("client-secret-1"));
    let all = world.server.requests();
    assert!(all.iter().all(|r| r.header("authorization") == Some("Bearer access-token-1")), "{all:?}");
}

#[tokio::test]
async fn the_secret_travels_in_the_body_where_that_is_asked_and_the_resource_not_where_it_is_not_wanted() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({"client_auth": "post", "resource": "none"}));
    world.grants(token(1));
    world.call(&endpoint).await.unwrap();
    let asked = world.asked();
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(field(&asked[0], "client_secret").as_deref(), Some("client-secret-1"));
    assert_eq!(field(&asked[0], "resource"), None);
}

#[tokio::test]
async fn an_audience_travels_in_the_request_for_a_token() {
    let world = World::new().await;
    let endpoint =
        world.oauth(json!({"audience": "https://api.example", "scope": "read write", "resource": "none"}));
    world.grants(token(1));
    world.call(&endpoint).await.unwrap();
    let asked = world.asked();
    assert_eq!(field(&asked[0], "audience").as_deref(), Some("https://api.example"));
    assert_eq!(field(&asked[0], "scope").as_deref(), Some("read write"));
}

#[tokio::test]
async fn a_401_obtains_one_new_token_and_a_second_one_fails_without_asking_again() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({}));
    world.grants(token(1));
    world.grants(token(2));
    world.call(&endpoint).await.unwrap();
    world.server.next(MockFault::status(401));
    world.call(&endpoint).await.unwrap();
    assert_eq!(world.bearers(), ["Bearer access-token-1", "Bearer access-token-1", "Bearer access-token-2"]);
    world.server.always_for("tools/call", MockFault::status(401));
    for _ in 0..3 {
        assert_eq!(world.call(&endpoint).await.unwrap_err(), Fault::Unauthorized { detail: String::new() });
    }
    assert_eq!(world.asked().len(), 2);
    assert_eq!(world.server.executions("echo"), 2);
}

#[tokio::test]
async fn a_403_that_wants_a_scope_widens_the_token_once_and_keeps_it_wide() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({"scopes": ["read"]}));
    (1..=2).for_each(|n| world.grants(token(n)));
    let challenge = r#"Bearer error="insufficient_scope", scope="write read""#;
    let refusal = || MockFault::status_with(403, "www-authenticate", challenge);
    world.server.next(refusal());
    world.call(&endpoint).await.unwrap();
    let scopes: Vec<_> = world.asked().iter().filter_map(|r| field(r, "scope")).collect();
    assert_eq!(scopes, ["read", "read write"]);
    world.call(&endpoint).await.unwrap();
    assert_eq!(world.asked().len(), 2);
    // The same refusal with that scope in hand is final.
    world.server.next(refusal());
    let fault = world.call(&endpoint).await.unwrap_err();
    assert_eq!(
        fault,
        Fault::Forbidden { scope: Some("write read".to_owned()), detail: "insufficient_scope".to_owned() }
    );
    assert_eq!(world.asked().len(), 2);
}

#[tokio::test]
async fn a_scope_that_is_not_granted_leaves_the_refusal_and_is_not_asked_for_again() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({"scopes": ["read"]}));
    world.grants(token(1));
    world.issuer.next_for("POST", answer(400, json!({"error": "invalid_scope"})));
    world.grants(token(2));
    for _ in 0..3 {
        world.server.next(MockFault::status_with(403, "www-authenticate", r#"Bearer scope="admin""#));
        let fault = world.call(&endpoint).await.unwrap_err();
        assert_eq!(fault, Fault::Forbidden { scope: Some("admin".to_owned()), detail: String::new() });
    }
    let scopes: Vec<_> = world.asked().iter().filter_map(|r| field(r, "scope")).collect();
    assert_eq!(scopes, ["read", "admin read", "read"]);
    world.call(&endpoint).await.unwrap();
    assert_eq!(world.bearers().last().map(String::as_str), Some("Bearer access-token-2"));
}

#[tokio::test]
async fn an_authorization_server_that_is_away_during_a_step_up_is_waited_for() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({"scopes": ["read"]}));
    world.grants(token(1));
    world.issuer.next_for("POST", MockFault::status(503));
    world.server.next(MockFault::status_with(403, "www-authenticate", r#"Bearer scope="admin""#));
    let fault = world.call(&endpoint).await.unwrap_err();
    assert!(matches!(fault, Fault::CredentialPending { .. }), "{fault:?}");
    assert_eq!(world.server.executions("echo"), 0);
}

#[tokio::test]
async fn concurrent_calls_share_one_request_for_a_token() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({}));
    world.grants(token(1));
    let calls = futures::future::join_all((0..50).map(|_| world.call(&endpoint))).await;
    assert!(calls.iter().all(Result::is_ok), "{calls:?}");
    assert_eq!((world.asked().len(), world.server.executions("echo")), (1, 50));
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end_while_calls_go_on_with_the_old_one() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({}));
    (1..=2).for_each(|n| world.grants(token(n)));
    world.call(&endpoint).await.unwrap();
    pass(3545).await;
    world.call(&endpoint).await.unwrap();
    while world.asked().len() < 2 {
        tokio::task::yield_now().await;
    }
    // The renewal's answer is taken up soon after it was given.
    for _ in 0..200 {
        world.call(&endpoint).await.unwrap();
        if world.bearers().last().map(String::as_str) == Some("Bearer access-token-2") {
            assert_eq!(world.bearers()[1], "Bearer access-token-1");
            return;
        }
    }
    panic!("the new token is never used");
}

#[tokio::test]
async fn a_client_that_is_not_accepted_is_tried_once_more_with_the_secret_read_anew() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({"client_auth": "post"}));
    world.ring.rotate("client", "client-secret-2");
    let refusal = json!({"error": "invalid_client", "error_description": "bad client-secret-1"});
    world.issuer.next_for("POST", answer(401, refusal));
    world.grants(token(1));
    world.call(&endpoint).await.unwrap();
    let secrets: Vec<_> = world.asked().iter().filter_map(|r| field(r, "client_secret")).collect();
    assert_eq!(secrets, ["client-secret-1", "client-secret-2"]);

    let other = world.oauth(json!({}));
    let refusal = json!({"error": "invalid_client", "error_description": "bad client-secret-2"});
    world.issuer.always_for("POST", answer(401, refusal));
    let fault = world.call(&other).await.unwrap_err();
    let text = fault.to_string();
    assert!(matches!(fault, Fault::Credential { .. }) && text.contains("invalid_client bad"), "{text}");
    assert!(!text.contains("client-secret"), "{text}");
}

#[tokio::test]
async fn a_secret_goes_into_the_body_where_the_header_is_not_understood_and_stays_there() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({}));
    for _ in 0..2 {
        world.issuer.next_for("POST", answer(401, json!({"error": "invalid_client"})));
    }
    world.grants(json!({"access_token": "access-token-1", "expires_in": 1}));
    world.grants(token(2));
    world.call(&endpoint).await.unwrap();
    pass(2).await;
    world.call(&endpoint).await.unwrap();
    let in_body: Vec<_> = world.asked().iter().map(|r| field(r, "client_secret").is_some()).collect();
    assert_eq!(in_body, [false, false, true, true]);
}

#[tokio::test]
async fn what_is_no_key_is_said_without_it_and_nothing_is_asked() {
    let world = World::new().await;
    let mut auth =
        json!({"type": "oauth2_client_credentials", "client_id": "fleet", "private_key": "secret://client"});
    auth["token_url"] = json!(world.token_url());
    let fault = world.call(&world.endpoint(auth)).await.unwrap_err();
    let text = fault.to_string();
    assert!(
        matches!(fault, Fault::Credential { .. }) && text.contains("PEM (PKCS#8) key for ES256"),
        "{text}"
    );
    assert!(!text.contains("client-secret") && world.asked().is_empty(), "{text}");
}

#[tokio::test]
async fn an_authorization_server_that_is_away_is_waited_for_and_blames_no_mcp_server() {
    let world = World::new().await;
    let endpoint = world.oauth(json!({}));
    world.issuer.always_for("POST", MockFault::status(503));
    let fault = world.call(&endpoint).await.unwrap_err();
    assert!(matches!(fault, Fault::CredentialPending { .. }), "{fault:?}");
    assert_eq!((fault.retry_class(), fault.blame()), (RetryClass::NotExecuted, Blame::Configuration));
    assert!(world.server.requests().is_empty());
}

#[tokio::test]
async fn a_token_endpoint_that_redirects_or_may_not_be_called_gets_no_secret() {
    let world = World::new().await;
    let elsewhere = MockMcp::start(ProtocolRevision::Modern).await;
    world.issuer.next_for("POST", MockFault::Redirect(elsewhere.url()));
    let fault = world.call(&world.oauth(json!({}))).await.unwrap_err();
    assert!(matches!(fault, Fault::Credential { .. }), "{fault:?}");
    assert!(elsewhere.requests().is_empty());
    let metadata = world.oauth(json!({"token_url": "http://169.254.169.254/token"}));
    let fault = world.call(&metadata).await.unwrap_err();
    assert!(matches!(fault, Fault::AddressRefused { .. }), "{fault:?}");
}

/// A server that names its issuer, and an issuer that names its token endpoint.
fn publish(world: &World, resource: &str, issuer: &str) {
    let prm = world.server.url().replace("/mcp", "/prm");
    let challenge = format!("Bearer resource_metadata=\"{prm}\"");
    world.server.next_for("GET", MockFault::status_with(401, "www-authenticate", &challenge));
    let authorization_server = world.issuer.url().replace("/mcp", "");
    let document = json!({"resource": resource, "authorization_servers": [authorization_server], "scopes_supported": ["s1"]});
    world.server.next_for("GET", answer(200, document));
    world.issuer.next_for(
        "GET",
        answer(
            200,
            json!({"issuer": issuer, "token_endpoint": world.token_url(),
            "token_endpoint_auth_methods_supported": ["client_secret_post"]}),
        ),
    );
}

fn to_be_found(world: &World) -> Endpoint {
    world.endpoint(json!({"type": "oauth2_client_credentials", "client_id": "fleet", "client_secret": "secret://client"}))
}

#[tokio::test]
async fn an_authorization_server_is_found_by_what_the_server_and_the_issuer_publish() {
    let world = World::new().await;
    publish(&world, &world.server.url(), &world.issuer.url().replace("/mcp", ""));
    world.grants(token(1));
    let endpoint = to_be_found(&world);
    world.call(&endpoint).await.unwrap();
    let asked = world.asked();
    assert_eq!(asked[0].path, "/token");
    assert_eq!(field(&asked[0], "client_secret").as_deref(), Some("client-secret-1"));
    assert_eq!(field(&asked[0], "resource"), Some(world.server.url()));
    assert_eq!(field(&asked[0], "scope").as_deref(), Some("s1"));
    let documents: Vec<_> = world.issuer.requests_of("GET").into_iter().map(|r| r.path).collect();
    assert_eq!(documents, ["/.well-known/oauth-authorization-server"]);
}

#[tokio::test]
async fn a_document_that_speaks_for_another_resource_or_issuer_gets_no_secret() {
    for (resource, issuer) in
        [(None, Some("https://other.example")), (Some("https://other.example/mcp"), None)]
    {
        let world = World::new().await;
        let own = world.issuer.url().replace("/mcp", "");
        publish(&world, resource.unwrap_or(&world.server.url()), issuer.unwrap_or(&own));
        let fault = world.call(&to_be_found(&world)).await.unwrap_err();
        assert!(fault.to_string().contains("describes"), "{fault}");
        assert!(world.asked().is_empty());
    }
}

#[tokio::test]
async fn a_server_or_issuer_that_is_away_while_it_is_asked_is_waited_for() {
    let world = World::new().await;
    let endpoint = to_be_found(&world);
    world.server.next_for("GET", MockFault::status(503));
    let fault = world.call(&endpoint).await.unwrap_err();
    assert!(matches!(fault, Fault::CredentialPending { .. }), "{fault:?}");
    pass(2).await;
    publish(&world, &world.server.url(), &world.issuer.url().replace("/mcp", ""));
    world.grants(token(1));
    world.call(&endpoint).await.unwrap();
}

#[tokio::test]
async fn what_was_found_is_found_anew_after_it_failed() {
    let world = World::new().await;
    let endpoint = to_be_found(&world);
    let own = world.issuer.url().replace("/mcp", "");
    publish(&world, &world.server.url(), &own);
    world.issuer.next_for("POST", answer(404, json!({})));
    world.call(&endpoint).await.unwrap_err();
    pass(2).await;
    publish(&world, &world.server.url(), &own);
    world.grants(token(1));
    world.call(&endpoint).await.unwrap();
    assert_eq!(world.issuer.requests_of("GET").len(), 2);
}

fn cognito(world: &World) -> Endpoint {
    world.endpoint(
        json!({"type": "cognito", "user_pool_id": "us-east-1_Pool", "client_id": "app", "username": "agent",
        "password": "secret://password", "client_secret": "secret://client", "endpoint": world.issuer.url()}),
    )
}

fn logged_in(n: u32, refresh: bool, life: u64) -> Value {
    let refresh = refresh.then_some("refresh-token-1");
    json!({"AuthenticationResult": {"AccessToken": format!("access-token-{n}"), "IdToken": "id-token-1",
        "ExpiresIn": life, "RefreshToken": refresh}, "ChallengeParameters": {}})
}

#[tokio::test]
async fn a_cognito_user_logs_in_once_and_is_refreshed_when_the_token_has_ended() {
    let world = World::new().await;
    let endpoint = cognito(&world);
    world.grants(logged_in(1, true, 0));
    world.grants(logged_in(2, false, 0));
    world.issuer.next_for(
        "POST",
        answer(400, json!({"__type": "NotAuthorizedException", "message": "Refresh Token has expired"})),
    );
    world.grants(logged_in(3, true, 3600));
    for _ in 0..3 {
        world.call(&endpoint).await.unwrap();
        pass(2).await;
    }
    let asked = world.asked();
    let flows: Vec<_> = asked.iter().filter_map(|r| r.body["AuthFlow"].as_str()).collect();
    let [password, refresh] = ["USER_PASSWORD_AUTH", "REFRESH_TOKEN_AUTH"];
    assert_eq!(flows, [password, refresh, refresh, password]);
    assert_eq!(asked[1].body["AuthParameters"]["REFRESH_TOKEN"], "refresh-token-1");
    assert_eq!(asked[0].header("x-amz-target"), Some("AWSCognitoIdentityProviderService.InitiateAuth"));
    let parameters = &asked[0].body["AuthParameters"];
    assert_eq!(
        (parameters["USERNAME"].as_str(), parameters["PASSWORD"].as_str()),
        (Some("agent"), Some("password-123"))
    );
    // printf agentapp | openssl dgst -sha256 -hmac client-secret-1 -binary | base64
    assert_eq!(parameters["SECRET_HASH"].as_str(), Some("DdD0HwGdWZemD1WnfClPJEVuESLYaAQSx1UGrR3JQAw="));
    assert_eq!(world.bearers().last().map(String::as_str), Some("Bearer access-token-3"));
}

#[tokio::test]
async fn a_rotated_password_is_read_anew_and_a_challenge_is_named() {
    let world = World::new().await;
    world.ring.rotate("password", "password-456");
    let wrong = json!({"__type": "NotAuthorizedException", "message": "Incorrect username or password."});
    world.issuer.next_for("POST", answer(400, wrong));
    world.grants(logged_in(1, true, 3600));
    world.call(&cognito(&world)).await.unwrap();
    assert_eq!(world.asked()[1].body["AuthParameters"]["PASSWORD"], "password-456");

    world.grants(json!({"ChallengeName": "NEW_PASSWORD_REQUIRED", "Session": "session-1"}));
    let fault = world.call(&cognito(&world)).await.unwrap_err();
    assert!(
        matches!(fault, Fault::Credential { .. }) && fault.to_string().contains("NEW_PASSWORD_REQUIRED"),
        "{fault}"
    );
}
