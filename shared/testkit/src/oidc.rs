//! A provider of OpenID Connect for tests: it checks what a client must send, and answers as the test says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use url::{Url, form_urlencoded};

use crate::http1::{Kind, Message, read};

/// The client that the provider knows, and its secret.
const CLIENT: (&str, &str) = ("console", "s3cret & more");

/// What is wrong with the provider's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OidcFault {
    /// The ID token names another issuer.
    OtherIssuer,
    /// The ID token is for another audience.
    OtherAudience,
    /// The ID token is for two audiences, and was made for the other one.
    OtherParty,
    /// The ID token is for two audiences, and says nothing of whom it was made for.
    NoParty,
    /// The ID token has the nonce of another login.
    OtherNonce,
    /// The ID token has no nonce.
    NoNonce,
    /// The ID token has expired.
    Expired,
    /// The ID token is not signed, and says so.
    AlgorithmNone,
    /// The ID token is signed with the public key as a shared secret.
    SharedSecret,
    /// The ID token is signed with another key under the id of the published one.
    ForgedSignature,
    /// The ID token is signed with a key that is not published.
    UnknownKey,
    /// There is no ID token.
    NoIdToken,
    /// The token endpoint's answer is no JSON.
    NoJson,
    /// The token endpoint answers 400 with an error whose description repeats the client's secret.
    Refuses,
    /// The token endpoint answers 500.
    Breaks,
    /// The metadata names another issuer.
    OtherMetadata,
    /// There is no metadata.
    NoMetadata,
}

/// A request to the token endpoint.
#[derive(Debug, Clone)]
pub struct OidcExchange {
    /// How the client authenticated: `basic`, `post` or `none`.
    pub client: &'static str,
    /// The fields of its form.
    pub form: BTreeMap<String, String>,
}

/// What a code was given for.
struct Given {
    nonce: String,
    challenge: String,
    redirect: String,
}

#[derive(Default)]
struct State {
    fault: Option<OidcFault>,
    claims: Map<String, Value>,
    codes: BTreeMap<String, Given>,
    exchanges: Vec<OidcExchange>,
    names_itself: bool,
    takes_post_alone: bool,
}

/// The provider. It ends when it is dropped.
pub struct MockOidc {
    issuer: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

struct Provider {
    issuer: String,
    key: EncodingKey,
    public: Jwk,
    public_pem: String,
    other: EncodingKey,
    state: Arc<Mutex<State>>,
}

impl MockOidc {
    /// Listens on a free port.
    #[expect(clippy::expect_used, reason = "a test double may panic")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let issuer = format!("http://{}", listener.local_addr().expect("it has an address"));
        let ((key, public_pem), (other, _)) = (new_key(), new_key());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a key of its kind");
        public.common.key_id = Some("k1".to_owned());
        let state = Arc::new(Mutex::new(State::default()));
        let provider =
            Provider { issuer: issuer.clone(), key, public, public_pem, other, state: Arc::clone(&state) };
        let provider = Arc::new(provider);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let provider = Arc::clone(&provider);
                tokio::spawn(async move {
                    let _ = provider.serve(stream).await;
                });
            }
        });
        Self { issuer, state, task }
    }

    /// Its address, which is its name.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The id and the secret of the client that it knows.
    pub const fn client() -> (&'static str, &'static str) {
        CLIENT
    }

    /// What is wrong from now on.
    pub fn fault(&self, fault: Option<OidcFault>) {
        self.state().fault = fault;
    }

    /// The claims of whoever logs in, beside those that every token has.
    #[expect(clippy::expect_used, reason = "a test double may panic")]
    pub fn claims(&self, claims: &Value) {
        self.state().claims = claims.as_object().expect("claims are an object").clone();
    }

    /// From now on it says in its metadata that it names itself when it sends a browser back, and does so.
    pub fn name_itself(&self) {
        self.state().names_itself = true;
    }

    /// From now on clients authenticate in the form alone.
    pub fn take_post_alone(&self) {
        self.state().takes_post_alone = true;
    }

    /// The requests to the token endpoint, in order.
    pub fn exchanges(&self) -> Vec<OidcExchange> {
        self.state().exchanges.clone()
    }

    /// A user logs in at the address to which a browser was sent. Returns where the browser is sent back.
    #[expect(clippy::expect_used, clippy::panic, reason = "a test double may panic")]
    pub fn log_in(&self, address: &str) -> Url {
        let url = Url::parse(address).expect("an address");
        assert!(address.starts_with(&format!("{}/authorize?", self.issuer)), "{address}");
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let get = |name: &str| match query.get(name).filter(|value| !value.is_empty()) {
            Some(value) => value.clone(),
            None => panic!("{name} is missing: {address}"),
        };
        assert_eq!(
            (get("response_type").as_str(), get("client_id").as_str(), get("code_challenge_method").as_str()),
            ("code", CLIENT.0, "S256")
        );
        assert!(get("scope").split(' ').any(|scope| scope == "openid"), "{address}");
        let mut state = self.state();
        let code = format!("code-{}", state.codes.len());
        let redirect = get("redirect_uri");
        let given =
            Given { nonce: get("nonce"), challenge: get("code_challenge"), redirect: redirect.clone() };
        state.codes.insert(code.clone(), given);
        let mut back = Url::parse(&redirect).expect("an address");
        back.query_pairs_mut().append_pair("code", &code).append_pair("state", &get("state"));
        if state.names_itself {
            back.query_pairs_mut().append_pair("iss", &self.issuer);
        }
        back
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for MockOidc {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::expect_used, reason = "a test double may panic")]
fn new_key() -> (EncodingKey, String) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key");
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).expect("a key");
    (key, pair.public_key_pem())
}

impl Provider {
    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        while let Some(message) = read(&mut reader, Kind::Request).await? {
            let (status, body) = match message.word(1) {
                "/.well-known/openid-configuration" => self.metadata(),
                "/jwks" => (200, json!({ "keys": [self.public] }).to_string()),
                "/token" => self.exchange(&message),
                _ => (404, String::new()),
            };
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            writer.write_all(format!("{head}{body}").as_bytes()).await?;
        }
        Ok(())
    }

    fn metadata(&self) -> (u16, String) {
        let (state, at) = (lock(&self.state), |path: &str| format!("{}{path}", self.issuer));
        let mut metadata = json!({
            "issuer": self.issuer, "jwks_uri": at("/jwks"), "authorization_endpoint": at("/authorize"), "token_endpoint": at("/token"),
            "authorization_response_iss_parameter_supported": state.names_itself,
        });
        if let (Some(members), true) = (metadata.as_object_mut(), state.takes_post_alone) {
            members.insert("token_endpoint_auth_methods_supported".to_owned(), json!(["client_secret_post"]));
        }
        match state.fault {
            Some(OidcFault::NoMetadata) => (404, String::new()),
            Some(OidcFault::OtherMetadata) => {
                let other = json!("https://other.example.com");
                metadata.as_object_mut().map(|members| members.insert("issuer".to_owned(), other));
                (200, metadata.to_string())
            }
            Some(_) | None => (200, metadata.to_string()),
        }
    }

    /// The answer of the token endpoint.
    fn exchange(&self, message: &Message) -> (u16, String) {
        let form: BTreeMap<String, String> = form_urlencoded::parse(&message.body).into_owned().collect();
        let get = |name: &str| form.get(name).map_or("", String::as_str);
        let refuse = |error: &str| (400, json!({ "error": error }).to_string());
        let mut state = lock(&self.state);
        let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let basic =
            format!("Basic {}", STANDARD.encode(format!("{}:{}", encode(CLIENT.0), encode(CLIENT.1))));
        let client = match message.header("authorization") {
            Some(shown) if shown == basic => "basic",
            Some(_) => return refuse("invalid_client"),
            None if get("client_id") != CLIENT.0 => return refuse("invalid_client"),
            None if get("client_secret") == CLIENT.1 => "post",
            None if get("client_secret").is_empty() => "none",
            None => return refuse("invalid_client"),
        };
        state.exchanges.push(OidcExchange { client, form: form.clone() });
        // A code is good once.
        let Some(given) = state.codes.remove(get("code")) else { return refuse("invalid_grant") };
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(get("code_verifier")));
        let is_right = challenge == given.challenge && get("redirect_uri") == given.redirect;
        if !is_right || get("grant_type") != "authorization_code" {
            return refuse("invalid_grant");
        }
        let (fault, claims) = (state.fault, state.claims.clone());
        drop(state);
        let answer = |id_token: String| {
            let answer = json!({"access_token": "opaque", "token_type": "Bearer", "expires_in": 60, "id_token": id_token});
            (200, answer.to_string())
        };
        match fault {
            Some(OidcFault::Breaks) => (500, String::new()),
            Some(OidcFault::NoJson) => (200, "<html>".to_owned()),
            Some(OidcFault::NoIdToken) => (200, json!({"access_token": "opaque"}).to_string()),
            Some(OidcFault::Refuses) => {
                let error =
                    json!({"error": "invalid_grant", "error_description": format!("no {}", CLIENT.1)});
                (400, error.to_string())
            }
            Some(_) | None => answer(self.id_token(fault, &given.nonce, claims)),
        }
    }

    #[expect(clippy::expect_used, reason = "a test double may panic")]
    fn id_token(&self, fault: Option<OidcFault>, nonce: &str, claims: Map<String, Value>) -> String {
        let now = get_current_timestamp();
        let mut all = Map::new();
        let mut set = |name: &str, value: Value| {
            all.insert(name.to_owned(), value);
        };
        set("iss", json!(self.issuer));
        set("aud", json!(CLIENT.0));
        set("sub", json!("user-17"));
        set("iat", json!(now));
        set("exp", json!(now + 300));
        set("nonce", json!(nonce));
        claims.into_iter().for_each(|(name, value)| set(&name, value));
        match fault {
            Some(OidcFault::OtherIssuer) => set("iss", json!("https://other.example.com")),
            Some(OidcFault::OtherAudience) => set("aud", json!("other")),
            Some(OidcFault::OtherParty) => {
                set("aud", json!([CLIENT.0, "other"]));
                set("azp", json!("other"));
            }
            Some(OidcFault::NoParty) => set("aud", json!([CLIENT.0, "other"])),
            Some(OidcFault::OtherNonce) => set("nonce", json!("of another login")),
            Some(OidcFault::NoNonce) => set("nonce", Value::Null),
            Some(OidcFault::Expired) => set("exp", json!(now - 300)),
            Some(_) | None => {}
        }
        let header = |algorithm| Header { kid: Some("k1".to_owned()), ..Header::new(algorithm) };
        let signed = |header: Header, key: &EncodingKey| encode(&header, &all, key).expect("a token");
        match fault {
            Some(OidcFault::AlgorithmNone) => {
                let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
                format!("{}.{}.", part(&json!({"alg": "none", "kid": "k1"})), part(&json!(all)))
            }
            Some(OidcFault::SharedSecret) => {
                signed(header(Algorithm::HS256), &EncodingKey::from_secret(self.public_pem.as_bytes()))
            }
            Some(OidcFault::ForgedSignature) => signed(header(Algorithm::ES256), &self.other),
            Some(OidcFault::UnknownKey) => {
                let header = Header { kid: Some("k2".to_owned()), ..Header::new(Algorithm::ES256) };
                signed(header, &self.other)
            }
            Some(_) | None => signed(header(Algorithm::ES256), &self.key),
        }
    }
}
