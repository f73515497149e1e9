//! Tokens: obtained once for each tenant, renewed and replaced under running calls, for catalogs of all three formats.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use toolfleet_core::audit::AuditKind;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision, Recorded};
use toolfleet_worker::Limits;
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::pipeline;
use toolfleet_worker::services::catalog_reload::Watcher;

use crate::credentials::{store, with_auth};
use crate::reload::Folder;
use crate::rig::{Rig, SENDER, limits, request};

const PIKA: &str = include_str!("../../../../shared/catalog/tests/fixtures/pika-tools.json");
const IDP: &str =
    include_str!("../../../../shared/catalog/tests/fixtures/idp-external-mcp-agents-secret.json");

/// A worker whose server wants tokens, and who gives them.
struct World {
    rig: Rig,
    issuer: MockMcp,
}

impl World {
    async fn new() -> Self {
        Self::of(ProtocolRevision::Modern).await
    }

    async fn of(revision: ProtocolRevision) -> Self {
        let rig = Rig::with(revision).await;
        store(&rig, "client", "client-secret-1").await;
        Self { rig, issuer: MockMcp::start(ProtocolRevision::Modern).await }
    }

    fn token_url(&self) -> String {
        self.issuer.url().replace("/mcp", "/token")
    }

    fn catalog(&self) -> Value {
        let auth = json!({"type": "oauth2_client_credentials", "client_id": "fleet", "client_secret": "secret://client",
            "client_auth": "post", "token_url": self.token_url(), "scopes": ["read"]});
        let mut catalog = with_auth(&self.rig, auth);
        catalog["tenants"]["senders"][SENDER] = json!(["acme", "beta"]);
        catalog
    }

    async fn context(&self) -> Arc<WorkerContext> {
        self.rig.fleet_of(self.catalog(), limits(), None).await
    }

    /// What the issuer answers next.
    fn says(&self, status: u16, body: Value) {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        self.issuer.next_for("POST", MockFault::Status { status, headers, body: body.to_string() });
    }

    fn grants(&self, n: u32) {
        self.says(
            200,
            json!({"access_token": format!("access-token-{n}"), "token_type": "Bearer", "expires_in": 3600}),
        );
    }

    async fn call(&self, context: &Arc<WorkerContext>, id: &str) {
        self.rig.send(request(id, "unsafe").to_string()).await;
        self.rig.deliver(context).await;
    }

    async fn succeeds(&self, context: &Arc<WorkerContext>, id: &str) {
        self.call(context, id).await;
        let seen = self.rig.outcome(id).await;
        assert_eq!(seen.kind, OutcomeKind::Succeeded, "{id}: {}", seen.message);
    }

    fn asked(&self) -> Vec<Recorded> {
        self.issuer.requests_of("POST")
    }

    fn asked_with(&self, name: &str) -> Vec<String> {
        self.asked().iter().filter_map(|request| field(request, name)).collect()
    }

    /// The tokens that tool calls came with.
    fn bearers(&self) -> Vec<String> {
        let calls = self.rig.mcp.requests_of("tools/call");
        calls.iter().filter_map(|request| request.header("authorization")).map(str::to_owned).collect()
    }
}

fn field(request: &Recorded, name: &str) -> Option<String> {
    let form = url::form_urlencoded::parse(request.text.as_bytes());
    form.into_owned().find(|(n, _)| n == name).map(|(_, value)| value)
}

/// Lets that many seconds pass for every timer.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn each_tenant_has_a_token_of_its_own_and_keeps_it() {
    let world = World::new().await;
    let context = world.context().await;
    world.grants(1);
    world.grants(2);
    for (id, tenant) in [("a1", "acme"), ("b1", "beta"), ("a2", "acme"), ("b2", "beta")] {
        let mut body = request(id, "unsafe");
        body["tenant"] = json!(tenant);
        world.rig.send(body.to_string()).await;
        world.rig.deliver(&context).await;
    }
    let (one, two) = ("Bearer access-token-1", "Bearer access-token-2");
    assert_eq!(
        (world.bearers(), world.asked().len()),
        (vec![one.into(), two.into(), one.into(), two.into()], 2)
    );
    for id in ["a1", "a2"] {
        let records = world.rig.audit_of(id, AuditKind::Call).await;
        assert!(!records.is_empty() && !format!("{records:?}").contains("access-token"), "{records:?}");
    }
}

#[tokio::test]
async fn fifty_calls_at_once_obtain_one_token() {
    let world = World::new().await;
    let many = Limits { slots: 50, ..limits() };
    let context = world.rig.fleet_of(world.catalog(), many, None).await;
    let mut deliveries = Vec::new();
    for n in 0..50 {
        world.rig.send(request(&format!("c{n}"), "unsafe").to_string()).await;
        deliveries.push(world.rig.receive(&context).await.unwrap());
    }
    world.grants(1);
    join_all(deliveries.into_iter().map(|delivery| pipeline::run(context.clone(), delivery, ()))).await;
    for n in 0..50 {
        assert_eq!(world.rig.outcome(&format!("c{n}")).await.kind, OutcomeKind::Succeeded);
    }
    assert_eq!((world.asked().len(), world.bearers().len()), (1, 50));
}

#[tokio::test]
async fn an_expired_token_is_renewed_with_the_current_secret() {
    let world = World::new().await;
    let context = world.context().await;
    world.grants(1);
    world.succeeds(&context, "c1").await;
    store(&world.rig, "client", "client-secret-2").await;
    // While the token is valid, no new one is requested.
    pass(30).await;
    world.succeeds(&context, "c2").await;
    assert_eq!(world.asked().len(), 1);
    pass(3600).await;
    world.grants(2);
    world.succeeds(&context, "c3").await;
    assert_eq!(world.asked_with("client_secret"), ["client-secret-1", "client-secret-2"]);
    assert_eq!(world.bearers().last().map(String::as_str), Some("Bearer access-token-2"));
}

#[tokio::test]
async fn a_rotated_client_secret_is_read_again_when_rejected() {
    let world = World::new().await;
    let context = world.context().await;
    world.says(200, json!({"access_token": "access-token-1", "expires_in": 10}));
    world.succeeds(&context, "c1").await;
    store(&world.rig, "client", "client-secret-2").await;
    pass(15).await;
    world.says(401, json!({"error": "invalid_client", "error_description": "not client-secret-1"}));
    world.grants(2);
    world.succeeds(&context, "c2").await;
    assert_eq!(world.asked_with("client_secret"), ["client-secret-1", "client-secret-1", "client-secret-2"]);
}

#[tokio::test]
async fn a_rejected_client_ends_the_call_and_shows_no_secret() {
    let world = World::new().await;
    let context = world.context().await;
    for _ in 0..2 {
        world.says(401, json!({"error": "invalid_client", "error_description": "not client-secret-1"}));
    }
    world.call(&context, "c1").await;
    let seen = world.rig.outcome("c1").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("credential_unavailable")));
    assert!(seen.message.contains("invalid_client not [redacted]"), "{}", seen.message);
    assert!(world.rig.mcp.requests().is_empty());
}

#[tokio::test]
async fn a_call_waits_for_an_unavailable_authorization_server() {
    let world = World::new().await;
    let context = world.context().await;
    world.says(503, json!({}));
    world.call(&context, "c1").await;
    assert!(world.rig.row("c1").await.is_none_or(|row| row.finished.is_none()));
    assert!(world.rig.mcp.requests().is_empty());
    pass(2).await;
    world.grants(1);
    world.rig.settle_with(&context).await;
    let seen = world.rig.outcome("c1").await;
    assert_eq!((seen.kind, world.rig.mcp.executions_of("c1")), (OutcomeKind::Succeeded, 1));
    assert_eq!(world.asked().len(), 2);
}

#[tokio::test]
async fn a_broken_stream_is_taken_up_with_a_new_token() {
    let world = World::of(ProtocolRevision::Legacy).await;
    let context = world.context().await;
    world.grants(1);
    world.grants(2);
    world.rig.mcp.next(MockFault::PrimedSseThenEnd { retry_ms: 1, resumable: true });
    world.rig.mcp.next_for("GET", MockFault::status(401));
    world.succeeds(&context, "c1").await;
    let resumptions = world.rig.mcp.requests_of("GET");
    let bearers: Vec<_> = resumptions.iter().filter_map(|request| request.header("authorization")).collect();
    assert_eq!(bearers, ["Bearer access-token-1", "Bearer access-token-2"]);
    assert_eq!(world.rig.mcp.executions_of("c1"), 1);
}

#[tokio::test]
async fn a_401_replaces_the_token_and_a_403_adds_the_scope_once() {
    let world = World::new().await;
    let context = world.context().await;
    (1..=3).for_each(|n| world.grants(n));
    world.rig.mcp.next(MockFault::status(401));
    world.succeeds(&context, "c1").await;
    let challenge = r#"Bearer error="insufficient_scope", scope="write""#;
    world.rig.mcp.next(MockFault::status_with(403, "www-authenticate", challenge));
    world.succeeds(&context, "c2").await;
    assert_eq!(world.asked_with("scope"), ["read", "read", "read write"]);
    world.rig.mcp.next(MockFault::status_with(403, "www-authenticate", challenge));
    world.call(&context, "c3").await;
    let seen = world.rig.outcome("c3").await;
    assert_eq!((seen.kind, seen.code), (OutcomeKind::Failed, Some("forbidden")));
    assert_eq!(world.asked().len(), 3);
    for id in ["c1", "c2"] {
        assert_eq!(world.rig.mcp.executions_of(id), 1);
    }
}

#[tokio::test]
async fn an_idp_agent_is_called_with_a_cognito_token() {
    let mut world = World::new().await;
    world.rig.egress_config.cognito_endpoint = Some(world.issuer.url().parse().unwrap());
    let mut agents: Value = serde_json::from_str(IDP).unwrap();
    agents[0]["mcp_url"] = json!(world.rig.mcp.url());
    store(&world.rig, "agents", &agents.to_string()).await;
    let mut catalog = world.rig.catalog();
    catalog["idp"] = json!("secret://agents");
    let folder = Folder::new("idp");
    let path = folder.write("catalog.json", catalog);
    let context = world.rig.context(None).await;
    let mut watcher = Watcher::new(context.clone(), path.into());
    watcher.look(false).await;
    let login = |n: u32, life: u32| {
        json!({"AuthenticationResult": {"AccessToken": format!("access-token-{n}"), "ExpiresIn": life,
            "RefreshToken": "refresh-token-1", "IdToken": "id-token-1"}})
    };
    let call = |id: &str| {
        json!({"v": 1, "call_id": id, "tenant": "acme", "server": "my_custom_calculator_agent", "name": "safe",
            "arguments": {"call": id}})
    };
    world.says(200, login(1, 5));
    world.says(200, login(2, 3600));
    for id in ["c1", "c2"] {
        world.rig.send(call(id).to_string()).await;
        world.rig.deliver(&context).await;
        assert_eq!(world.rig.outcome(id).await.kind, OutcomeKind::Succeeded);
        pass(10).await;
    }
    let asked = world.asked();
    let parameters: Vec<_> = asked.iter().map(|request| request.body["AuthParameters"].clone()).collect();
    let expected = [
        json!({"USERNAME": "mcp-service-user-1", "PASSWORD": "example-password-1"}),
        json!({"REFRESH_TOKEN": "refresh-token-1"}),
    ];
    assert_eq!(parameters, expected);
    assert_eq!(world.bearers(), ["Bearer access-token-1", "Bearer access-token-2"]);

    // The secret has changed: the new password logs in, without a restart.
    agents[0]["cognito_password"] = json!("example-password-9");
    store(&world.rig, "agents", &agents.to_string()).await;
    pass(61).await;
    watcher.look(true).await;
    world.says(200, login(3, 3600));
    world.rig.send(call("c3").to_string()).await;
    world.rig.deliver(&context).await;
    assert_eq!(world.asked()[2].body["AuthParameters"]["PASSWORD"], "example-password-9");
    assert_eq!(world.bearers()[2], "Bearer access-token-3");
    let told =
        format!("{:?} {:?}", world.rig.audit_of("c1", AuditKind::Call).await, world.rig.row("c1").await);
    assert!(!told.contains("access-token") && !told.contains("example-password"), "{told}");
}

#[tokio::test]
async fn a_tool_of_pikas_definitions_is_called_with_an_oauth_token() {
    let world = World::new().await;
    store(&world.rig, "crm/client-id", "pika-client").await;
    store(&world.rig, "crm/client-secret", "pika-secret-1").await;
    let mut definitions: Value = serde_json::from_str(PIKA).unwrap();
    assert_eq!(definitions[1]["toolId"], "crm-mcp-tool");
    definitions[1]["mcpServerUrl"] = json!(world.rig.mcp.url());
    definitions[1]["authentication"]["tokenUrl"] = json!(world.token_url());
    world.rig.mcp.tool("get_customer_info", |_| json!({"content": []}));
    let mut catalog = world.rig.catalog();
    catalog["pika"] = definitions;
    let context = world.rig.fleet_of(catalog, limits(), None).await;
    world.grants(1);
    let call = json!({"v": 1, "call_id": "c1", "tenant": "acme", "tool": "crm-mcp-tool", "function": "get_customer_info",
        "arguments": {}, "user": {"id": "u", "type": "internal-user", "roles": ["customer-support"]}});
    world.rig.send(call.to_string()).await;
    world.rig.deliver(&context).await;
    let seen = world.rig.outcome("c1").await;
    assert_eq!(seen.kind, OutcomeKind::Succeeded, "{}", seen.message);
    let asked = &world.asked()[0];
    // "pika-client:pika-secret-1"
    assert_eq!(asked.header("authorization"), Some("Basic cGlrYS1jbGllbnQ6cGlrYS1zZWNyZXQtMQ=="));
    assert_eq!(asked.text, "grant_type=client_credentials&scope=read%3Acustomers+write%3Aopportunities");
    assert_eq!(world.bearers(), ["Bearer access-token-1"]);
}
