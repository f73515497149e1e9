use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::http::HeaderValue;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use toolfleet_web::tokens::{ClaimName, IssuerError, KeySource, Keys, ReadKeys};

use super::*;

const NOW_IN_TOKENS: i64 = 60;

/// The keys of an issuer, which may change, and how often they were read.
#[derive(Clone, Default)]
struct Published(Arc<std::sync::Mutex<Vec<Jwk>>>, Arc<AtomicUsize>);

impl KeySource for Published {
    fn read(&self) -> ReadKeys<'_> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let keys = self.0.lock().unwrap().clone();
        let read = if keys.is_empty() { Err(IssuerError("away".to_owned())) } else { Ok(JwkSet { keys }) };
        Box::pin(std::future::ready(read))
    }
}

struct Key {
    private: EncodingKey,
    public: Jwk,
    public_pem: String,
}

fn key(id: &str) -> Key {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let private = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256).unwrap();
    public.common.key_id = Some(id.to_owned());
    Key { private, public, public_pem: pair.public_key_pem() }
}

fn rules(published: &Published) -> TokenRules {
    TokenRules {
        verifier: Verifier {
            issuer: "https://issuer.example.com".to_owned(),
            audiences: vec!["https://tools.example.com/mcp".to_owned()],
            clients: Vec::new(),
            keys: Keys::of(Box::new(published.clone())),
        },
        scopes: vec!["tools".to_owned()],
        claims: ClaimRules {
            tenant_claim: Some("org".parse().unwrap()),
            tenant: None,
            user: Some("sub".parse().unwrap()),
            user_type: Some("kind".parse().unwrap()),
            roles: Some("https://example.com/roles".parse().unwrap()),
            session: SessionSource::Claim("sid".parse().unwrap()),
        },
        resource: "https://tools.example.com/mcp".parse().unwrap(),
    }
}

fn seconds_from_now(seconds: i64) -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap() + seconds
}

/// Claims that are accepted.
fn claims() -> Map<String, Value> {
    let claims = json!({
        "iss": "https://issuer.example.com", "aud": ["other", "https://tools.example.com/mcp"], "exp": seconds_from_now(NOW_IN_TOKENS),
        "scope": "openid tools", "org": "acme", "sub": "ann", "kind": "internal", "https://example.com/roles": ["reader"], "sid": "s1",
    });
    claims.as_object().unwrap().clone()
}

fn with(name: &str, value: Value) -> Map<String, Value> {
    let mut claims = claims();
    claims.insert(name.to_owned(), value);
    claims
}

fn without(name: &str) -> Map<String, Value> {
    let mut claims = claims();
    claims.remove(name);
    claims
}

fn signed(key: &Key, kid: Option<&str>, claims: &Map<String, Value>) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::ES256) };
    encode(&header, claims, &key.private).unwrap()
}

async fn ask(rules: &TokenRules, token: &str) -> Result<Caller, Refusal> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
    rules.caller(&headers).await
}

async fn why(rules: &TokenRules, token: &str) -> String {
    match ask(rules, token).await {
        Err(Refusal::Unauthorized { why, challenge }) => {
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
            why
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_claims_are_the_caller() {
    let (one, published) = (key("k1"), Published::default());
    published.0.lock().unwrap().push(one.public.clone());
    let rules = rules(&published);
    let token = claims();
    let caller = ask(&rules, &signed(&one, Some("k1"), &token)).await.unwrap();
    let accepted_until = (token["exp"].as_i64().unwrap() + 30) * 1_000;
    assert_eq!(caller.expires.unwrap().as_ms(), accepted_until);
    let user = caller.user.unwrap();
    assert_eq!((caller.tenant.as_str(), user.id.as_str()), ("acme", "ann"));
    assert_eq!((user.kind.as_deref(), user.roles), (Some("internal"), vec!["reader".to_owned()]));
    assert_eq!(caller.session.unwrap().as_str(), "s1");
    // The only key needs no id.
    assert!(ask(&rules, &signed(&one, None, &claims())).await.is_ok());
    assert_eq!(published.1.load(Ordering::Relaxed), 1, "keys are read once");
}

#[tokio::test]
async fn an_access_token_without_audience_is_of_an_accepted_client() {
    let (one, published) = (key("k1"), Published::default());
    published.0.lock().unwrap().push(one.public.clone());
    let strict = rules(&published);
    let mut open = rules(&published);
    open.verifier.clients = vec!["app-1".to_owned(), "app-2".to_owned()];
    let cognito = |client: &str, kind: &str| {
        let mut claims = without("aud");
        claims.insert("client_id".to_owned(), json!(client));
        claims.insert("token_use".to_owned(), json!(kind));
        claims
    };
    let token = |claims: &Map<String, Value>| signed(&one, Some("k1"), claims);
    let accepted = token(&cognito("app-2", "access"));
    assert!(ask(&open, &accepted).await.is_ok());
    assert!(why(&strict, &accepted).await.contains("aud"));
    let mut of_azp = without("aud");
    of_azp.insert("azp".to_owned(), json!("app-1"));
    assert!(ask(&open, &token(&of_azp)).await.is_ok());
    for other in [cognito("app-3", "access"), cognito("app-1", "id"), without("aud")] {
        assert!(why(&open, &token(&other)).await.contains("accepted client"));
    }
    let mut elsewhere = cognito("app-1", "access");
    elsewhere.insert("aud".to_owned(), json!("https://other.example.com"));
    assert!(why(&open, &token(&elsewhere)).await.contains("another audience"));
    let mut old = cognito("app-1", "access");
    old.insert("exp".to_owned(), json!(seconds_from_now(-100)));
    assert!(why(&open, &token(&old)).await.contains("expired"));
    assert!(ask(&open, &token(&claims())).await.is_ok());
}

#[tokio::test]
async fn a_token_of_elsewhere_is_refused() {
    let (one, published) = (key("k1"), Published::default());
    published.0.lock().unwrap().push(one.public.clone());
    let rules = rules(&published);
    let refused = async |claims: &Map<String, Value>, part: &str| {
        let why = why(&rules, &signed(&one, Some("k1"), claims)).await;
        assert!(why.contains(part), "{why}");
    };
    refused(&with("iss", json!("https://evil.example.com")), "issuer").await;
    refused(&with("aud", json!("https://other.example.com")), "audience").await;
    refused(&with("exp", json!(seconds_from_now(-60))), "expired").await;
    refused(&with("nbf", json!(seconds_from_now(60))), "not valid yet").await;
    for name in ["iss", "aud", "exp"] {
        refused(&without(name), "").await;
    }
    let other = key("k1");
    assert!(why(&rules, &signed(&other, Some("k1"), &claims())).await.contains("signature"));
    for token in ["", "x", "a.b.c", &"x".repeat(20_000)] {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap());
        assert!(matches!(rules.caller(&headers).await, Err(Refusal::Unauthorized { .. })), "{token}");
    }
}

#[tokio::test]
async fn the_algorithm_is_not_the_tokens_choice() {
    let (one, published) = (key("k1"), Published::default());
    published.0.lock().unwrap().push(one.public.clone());
    let rules = rules(&published);
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_string(&claims()).unwrap());
    let none = format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"k1"}"#));
    assert!(why(&rules, &none).await.contains("no signed JWT"));
    // The public key as a shared secret.
    let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
    let secret = EncodingKey::from_secret(one.public_pem.as_bytes());
    let confused = encode(&header, &claims(), &secret).unwrap();
    assert!(why(&rules, &confused).await.contains("algorithm"));
    // A key that is for another algorithm is not used.
    let claimed = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"k1"}"#);
    assert!(why(&rules, &format!("{claimed}.{payload}.AAAA")).await.contains("does not publish"));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_looked_for_again_but_not_often() {
    let (one, two, published) = (key("k1"), key("k2"), Published::default());
    published.0.lock().unwrap().push(one.public.clone());
    let rules = rules(&published);
    assert!(ask(&rules, &signed(&one, Some("k1"), &claims())).await.is_ok());
    // The issuer has a new key. It is found when keys may be read again.
    published.0.lock().unwrap().push(two.public.clone());
    let token = signed(&two, Some("k2"), &claims());
    for _ in 0..5 {
        assert!(why(&rules, &token).await.contains("does not publish"));
    }
    assert_eq!(published.1.load(Ordering::Relaxed), 1);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(ask(&rules, &token).await.is_ok());
    assert_eq!(published.1.load(Ordering::Relaxed), 2);
    // An issuer that is away locks nobody out whose key is known.
    published.0.lock().unwrap().clear();
    tokio::time::advance(Duration::from_secs(4_000)).await;
    assert!(ask(&rules, &token).await.is_ok());
    let unknown = signed(&key("k3"), Some("k3"), &claims());
    assert!(matches!(ask(&rules, &unknown).await, Err(Refusal::Unauthorized { .. })));
    // But not for ever: a key that was withdrawn is not accepted any more.
    tokio::time::advance(Duration::from_secs(24 * 3_600)).await;
    assert!(matches!(ask(&rules, &token).await, Err(Refusal::Unavailable { .. })));
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_no_fault_of_the_token() {
    let rules = rules(&Published::default());
    let token = signed(&key("k1"), Some("k1"), &claims());
    for _ in 0..2 {
        assert!(matches!(ask(&rules, &token).await, Err(Refusal::Unavailable { .. })));
    }
}

#[tokio::test]
async fn a_scope_or_a_tenant_that_is_missing_is_named() {
    let (one, published) = (key("k1"), Published::default());
    published.0.lock().unwrap().push(one.public.clone());
    let rules = rules(&published);
    let forbidden =
        async |claims: Map<String, Value>| match ask(&rules, &signed(&one, Some("k1"), &claims)).await {
            Err(Refusal::Forbidden { why, challenge }) => (why, challenge.unwrap_or_default()),
            other => panic!("{other:?}"),
        };
    let (why, challenge) = forbidden(with("scope", json!("openid toolsmith"))).await;
    assert!(
        why.contains("`tools`") && challenge.contains("error=\"insufficient_scope\""),
        "{why} {challenge}"
    );
    let mut in_list = without("scope");
    in_list.insert("scp".to_owned(), json!(["tools"]));
    assert!(ask(&rules, &signed(&one, Some("k1"), &in_list)).await.is_ok());
    for org in [json!(1), json!("_fleet"), json!("a#b"), json!("")] {
        let (why, _) = forbidden(with("org", org)).await;
        assert!(why.contains("`org`"), "{why}");
    }
    assert!(forbidden(without("org")).await.0.contains("`org`"));
    assert!(forbidden(without("sub")).await.0.contains("`sub`"));
}

#[tokio::test]
async fn a_number_is_an_id_and_no_user_is_a_choice() {
    let (one, published) = (key("k1"), Published::default());
    published.0.lock().unwrap().push(one.public.clone());
    let mut rules = rules(&published);
    let caller = ask(&rules, &signed(&one, Some("k1"), &with("sub", json!(17)))).await.unwrap();
    assert_eq!(caller.user.unwrap().id, "17");
    rules.claims.user = Some("uid".parse().unwrap());
    for id in [json!(null), json!(""), json!(" "), json!(1.5), json!(true), json!(["ann"]), json!({"id": 1})]
    {
        match ask(&rules, &signed(&one, Some("k1"), &with("uid", id))).await {
            Err(Refusal::Forbidden { why, .. }) => assert!(why.contains("`uid`"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    rules.claims.user = None;
    assert_eq!(ask(&rules, &signed(&one, Some("k1"), &without("sub"))).await.unwrap().user, None);
    let named = |text: &str| text.parse::<ClaimName>().unwrap();
    assert_eq!((named("none").unless_none(), named("sub").unless_none()), (None, Some(named("sub"))));
}

#[test]
fn the_metadata_is_where_rfc_9728_says() {
    let url = |resource: &str| metadata_url(&resource.parse().unwrap()).to_string();
    assert_eq!(
        url("https://a.example.com/mcp"),
        "https://a.example.com/.well-known/oauth-protected-resource/mcp"
    );
    assert_eq!(url("https://a.example.com/"), "https://a.example.com/.well-known/oauth-protected-resource");
}

#[test]
fn a_session_stands_where_the_settings_say() {
    assert_eq!("none".parse(), Ok(SessionSource::None));
    assert_eq!("user".parse(), Ok(SessionSource::User));
    assert_eq!("claim:sid".parse(), Ok(SessionSource::Claim("sid".parse().unwrap())));
    assert_eq!("header:X-Session".parse(), Ok(SessionSource::Header("x-session".parse().unwrap())));
    for wrong in ["", "sid", "cookie:x", "header:a b", "claim:"] {
        assert!(wrong.parse::<SessionSource>().is_err(), "{wrong}");
    }
}
