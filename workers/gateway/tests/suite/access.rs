//! Tokens: whose calls they make, and what the list shows to whom.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use toolfleet_gateway::{Authenticator, ClaimRules, Limits, SessionSource, TokenRules};
use toolfleet_web::tokens::{KeySource, Keys, ReadKeys, Verifier};

use crate::rig::{Http, Rig, Served, answered, text};

struct Fixed(JwkSet);

impl KeySource for Fixed {
    fn read(&self) -> ReadKeys<'_> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

pub(crate) struct Issuer(EncodingKey);

impl Issuer {
    pub(crate) fn new() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        Self(EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap())
    }

    pub(crate) fn authenticator(&self) -> Authenticator {
        self.authenticator_with(SessionSource::None)
    }

    /// Sessions of calls stand there.
    pub(crate) fn authenticator_with(&self, session: SessionSource) -> Authenticator {
        let mut key = Jwk::from_encoding_key(&self.0, Algorithm::ES256).unwrap();
        key.common.key_id = Some("k1".to_owned());
        Authenticator::Tokens(Box::new(TokenRules {
            verifier: Verifier {
                issuer: "https://issuer.example.com".to_owned(),
                audiences: vec!["https://tools.example.com/mcp".to_owned()],
                clients: Vec::new(),
                keys: Keys::of(Box::new(Fixed(JwkSet { keys: vec![key] }))),
            },
            scopes: vec!["tools".to_owned()],
            claims: ClaimRules {
                tenant_claim: Some("tenant".parse().unwrap()),
                tenant: None,
                user: Some("sub".parse().unwrap()),
                user_type: None,
                roles: Some("/realm_access/roles".parse().unwrap()),
                session,
            },
            resource: "https://tools.example.com/mcp".parse().unwrap(),
        }))
    }

    fn token(&self, tenant: &str, user: &str, roles: &Value) -> String {
        self.token_for(60, tenant, user, roles)
    }

    /// A token that expires in so many seconds.
    pub(crate) fn token_for(&self, seconds: i64, tenant: &str, user: &str, roles: &Value) -> String {
        #[expect(clippy::disallowed_methods, reason = "a token is checked by the machine's clock")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expires = i64::try_from(now).unwrap() + seconds;
        let claims = json!({
            "iss": "https://issuer.example.com", "aud": "https://tools.example.com/mcp", "exp": expires, "scope": "tools other",
            "tenant": tenant, "sub": user, "realm_access": {"roles": roles},
        });
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, &self.0).unwrap()
    }
}

fn http(served: &Served, token: &str) -> Http {
    Http::modern(served).with("authorization", &format!("Bearer {token}"))
}

async fn names(http: &Http) -> Vec<String> {
    let list = http.result("tools/list", json!({})).await;
    list["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_of_the_token_open_tools() {
    let (rig, issuer) = (Rig::start().await, Issuer::new());
    let served = rig.gateway_for(Limits::default(), issuer.authenticator()).await;
    let user = http(&served, &issuer.token("acme", "ann", &json!(["reader"])));
    let admin = http(&served, &issuer.token("acme", "ada", &json!(["reader", "admin"])));
    assert!(!names(&user).await.contains(&"secret".to_owned()));
    assert!(names(&admin).await.contains(&"secret".to_owned()));
    let refused = user.call("secret", json!({"text": "x"})).await;
    assert_eq!(refused["_meta"]["toolfleet/outcome"]["code"], "access_denied");
    assert_eq!(text(&admin.call("secret", json!({"text": "x"})).await), "x");
    // Arguments say nothing of who asks.
    let forged = json!({"text": "x", "tenant": "globex", "user": {"id": "ada", "roles": ["admin"]}});
    assert_eq!(user.call("secret", forged).await["isError"], true);
    // Nothing of the token reaches the server.
    for request in rig.mcp.requests() {
        assert!(request.header("authorization").is_none(), "{request:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_is_of_one_user_of_one_tenant() {
    let (rig, issuer) = (Rig::start().await, Issuer::new());
    let served = rig.gateway_for(crate::rig::impatient(), issuer.authenticator()).await;
    let of = |tenant: &str, user: &str| http(&served, &issuer.token(tenant, user, &json!([]))).with_tasks();
    let _held = rig.mcp.hold();
    let task = of("acme", "ann").call("echo", json!({"text": "x"})).await;
    let id = json!({"taskId": task["taskId"]});
    assert_eq!(of("acme", "ann").result("tasks/get", id.clone()).await["status"], "working");
    for other in [of("globex", "ann"), of("acme", "bob")] {
        assert_eq!(other.ask("tasks/get", id.clone()).await.body["error"]["code"], -32602);
        assert_eq!(other.ask("tasks/cancel", id.clone()).await.body["error"]["code"], -32602);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_the_way_to_one_is_named() {
    let (rig, issuer) = (Rig::start().await, Issuer::new());
    let served = rig.gateway_for(Limits::default(), issuer.authenticator()).await;
    let refused = Http::modern(&served).ask("tools/list", json!({})).await;
    assert_eq!(refused.status, 401);
    let challenge = refused.headers["www-authenticate"].to_str().unwrap();
    let metadata = "https://tools.example.com/.well-known/oauth-protected-resource/mcp";
    assert!(
        challenge.contains(&format!("resource_metadata=\"{metadata}\""))
            && challenge.contains("scope=\"tools\""),
        "{challenge}"
    );
    let client = reqwest::Client::new();
    for path in ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"] {
        let found = answered(client.get(served.url.replace("/mcp", path))).await;
        assert_eq!(found.status, 200);
        assert_eq!(found.body["resource"], "https://tools.example.com/mcp");
        assert_eq!(found.body["authorization_servers"], json!(["https://issuer.example.com"]));
    }
    let forged =
        http(&served, &Issuer::new().token("acme", "ann", &json!([]))).ask("tools/list", json!({})).await;
    assert_eq!(forged.status, 401);
    let no_tenant =
        http(&served, &issuer.token("_fleet", "ann", &json!([]))).ask("tools/list", json!({})).await;
    assert_eq!(no_tenant.status, 403);
}
