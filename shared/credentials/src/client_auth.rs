//! The three ways in which a client authenticates at a token endpoint: basic, post, private_key_jwt.
//!
//! **Invariant:** no error repeats text of the signing library, because it may quote the key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm as Jwa, EncodingKey, Header, encode};
use serde::Serialize;
use toolfleet_core::credential::Algorithm;
use url::form_urlencoded;
use uuid::Uuid;

use crate::error::CredentialError;
use crate::keyring::SecretText;
use crate::scrubber::SecretScrubber;
use crate::static_headers::insert_header;

/// RFC 7523, section 2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an assertion is valid.
const ASSERTION_LIFE_S: u64 = 120;

/// A client with its secret or private key.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) key: SecretText,
}

/// The form fields of a request.
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
pub(crate) fn basic(
    client: &Client,
    scrubber: &SecretScrubber,
    headers: &mut HeaderMap,
) -> Result<(), CredentialError> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let secret = encode(client.key.expose());
    scrubber.add(&secret);
    let pair = STANDARD.encode(format!("{}:{secret}", encode(&client.id)));
    scrubber.add(&pair);
    insert_header(headers, AUTHORIZATION.as_str(), &format!("Basic {pair}"))
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

/// RFC 7523, section 3: a signed JWT that names the client, valid for one authorization server and a short time.
pub(crate) fn assertion(
    client: &Client,
    audience: &str,
    algorithm: Algorithm,
    key_id: Option<String>,
    now_s: u64,
) -> Result<String, CredentialError> {
    let pem = client.key.expose().as_bytes();
    let (jwa, key, name) = match algorithm {
        Algorithm::Es256 => (Jwa::ES256, EncodingKey::from_ec_pem(pem), "ES256"),
        Algorithm::Rs256 => (Jwa::RS256, EncodingKey::from_rsa_pem(pem), "RS256"),
    };
    let unusable = || CredentialError::Unavailable {
        detail: format!("private_key is no usable PEM (PKCS#8) key for {name}"),
    };
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
