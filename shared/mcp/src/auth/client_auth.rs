//! Owns the three ways in which a client proves itself at a token endpoint: basic, post, private_key_jwt.
//!
//! **Invariant:** no word of the signing library is repeated, because it may quote the key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm as Jwa, EncodingKey, Header, encode};
use serde::Serialize;
use toolfleet_core::credential::Algorithm;
use toolfleet_core::fault::Fault;
use url::form_urlencoded;
use uuid::Uuid;

use super::fixed::write;
use super::keyring::SecretText;
use super::seen::SecretScrubber;

/// RFC 7523, section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an assertion may be used.
const ASSERTION_LIFE_S: u64 = 120;

/// A client, and what it proves itself with: its secret or its key.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) key: SecretText,
}

/// What is sent in a request's body.
pub(crate) type Form = Vec<(&'static str, String)>;

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

/// RFC 6749, section 2.3.1: both parts are form-encoded first.
pub(crate) fn basic(client: &Client, seen: &SecretScrubber, headers: &mut HeaderMap) -> Result<(), Fault> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let secret = encode(client.key.expose());
    seen.add(&secret);
    let pair = STANDARD.encode(format!("{}:{secret}", encode(&client.id)));
    seen.add(&pair);
    write(headers, AUTHORIZATION.as_str(), &format!("Basic {pair}"))
}

pub(crate) fn post(client: &Client, form: &mut Form) {
    form.push(("client_id", client.id.clone()));
    form.push(("client_secret", client.key.expose().to_owned()));
}

pub(crate) fn by_assertion(client: &Client, assertion: String, form: &mut Form) {
    form.push(("client_id", client.id.clone()));
    form.push(("client_assertion_type", ASSERTION_TYPE.to_owned()));
    form.push(("client_assertion", assertion));
}

/// RFC 7523, section 3: who the client is, for one authorization server and a short time, signed with its key.
pub(crate) fn assertion(
    client: &Client,
    audience: &str,
    algorithm: Algorithm,
    key_id: Option<String>,
    now_s: u64,
) -> Result<String, Fault> {
    let pem = client.key.expose().as_bytes();
    let (jwa, key, name) = match algorithm {
        Algorithm::Es256 => (Jwa::ES256, EncodingKey::from_ec_pem(pem), "ES256"),
        Algorithm::Rs256 => (Jwa::RS256, EncodingKey::from_rsa_pem(pem), "RS256"),
    };
    let unusable =
        || Fault::Credential { detail: format!("private_key is no usable PEM (PKCS#8) key for {name}") };
    let mut header = Header::new(jwa);
    header.kid = key_id;
    let claims = Claims {
        iss: &client.id,
        sub: &client.id,
        aud: audience,
        jti: Uuid::new_v4().to_string(),
        iat: now_s,
        exp: now_s.saturating_add(ASSERTION_LIFE_S),
    };
    let key = key.map_err(|_| unusable())?;
    encode(&header, &claims, &key).map_err(|_| unusable())
}
