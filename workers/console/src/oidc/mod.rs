//! Login at a provider of OpenID Connect: the authorization code flow with PKCE (OpenID Connect Core 1.0, RFC 7636, RFC 9207).
//!
//! ```text
//! authorization   a login that begins      -> the provider's address, for the browser
//! visitor         the code that came back  -> ID token -> its claims -> who looks, and what they see
//! ```
//!
//! **Invariant:** nothing of the provider is kept but its keys and metadata: no token outlives the login.

mod claims;

use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use toolfleet_credentials::{SecretText, TokenHttpClient};
use toolfleet_web::tokens::{HttpKeys, Issuer, IssuerError, Keys, Metadata, TokenError, Verifier};
use url::{Url, form_urlencoded};

pub use claims::{OperatorClaim, VisitorClaims};

use crate::visitor::Visitor;

/// How long the provider's metadata is used before it is read again.
const METADATA_TTL: Duration = Duration::from_secs(3_600);
/// How long a reading may take while there is an older one.
const METADATA_TIME_OUT: Duration = Duration::from_secs(3);
/// How long an older reading is used where there is no newer one.
const METADATA_PAUSE: Duration = Duration::from_secs(60);

/// The path to which the provider sends browsers back.
pub(crate) const CALLBACK: &str = "/login/callback";

/// What a console knows of its provider.
pub struct OidcConfig {
    /// The issuer, as its tokens name it.
    pub issuer: String,
    /// The issuer's address.
    pub issuer_url: Url,
    /// The console's name at the provider.
    pub client_id: String,
    /// The console's secret there; without one PKCE alone protects the code.
    pub client_secret: Option<SecretText>,
    /// The scopes that are asked for beside `openid`.
    pub scopes: Vec<String>,
    /// Where the provider sends the browser back.
    pub redirect: Url,
    /// What the claims mean.
    pub claims: VisitorClaims,
    /// The client of the provider's endpoints.
    pub http: TokenHttpClient,
}

/// A provider where visitors log in.
pub struct Oidc {
    config: OidcConfig,
    issuer: Issuer,
    verifier: Verifier,
    /// What was read last, and until when it is used.
    metadata: Mutex<Option<(Metadata, Instant)>>,
    rules: String,
}

/// What belongs to one login, all derived from its state.
pub(crate) struct Attempt {
    pub(crate) state: String,
    pub(crate) nonce: String,
    /// The secret of PKCE.
    pub(crate) verifier: String,
}

/// Why nobody is logged in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OidcError {
    /// The provider cannot be asked now.
    #[error("the provider cannot be asked: {0}")]
    Unavailable(String),
    /// Its answer is none that may be trusted.
    #[error("the provider's answer is not accepted: {0}")]
    Invalid(String),
    /// It has refused the code.
    #[error("the provider has refused the login: {0}")]
    Refused(String),
    /// Whoever has logged in may see nothing here.
    #[error("{0}")]
    NotAllowed(String),
}

impl OidcError {
    /// The error for somebody who is not logged in: where the provider's endpoints are is not theirs to know.
    pub(crate) fn for_visitor(&self) -> String {
        match self {
            Self::Unavailable(_) => "the provider cannot be asked".to_owned(),
            Self::Invalid(_) | Self::Refused(_) | Self::NotAllowed(_) => self.to_string(),
        }
    }
}

impl From<IssuerError> for OidcError {
    fn from(error: IssuerError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

fn invalid(why: &str) -> OidcError {
    OidcError::Invalid(why.to_owned())
}

impl Oidc {
    /// The provider of that configuration. Nothing is read yet.
    pub fn new(config: OidcConfig) -> Self {
        let issuer = Issuer { http: config.http.clone(), url: config.issuer_url.clone() };
        let keys = Keys::of(Box::new(HttpKeys { issuer: issuer.clone(), jwks_url: None }));
        let verifier = Verifier {
            issuer: config.issuer.clone(),
            audiences: vec![config.client_id.clone()],
            clients: Vec::new(),
            keys,
        };
        let rules = serde_json::json!([config.issuer, config.client_id, config.claims.text()]).to_string();
        let rules = URL_SAFE_NO_PAD.encode(Sha256::digest(rules).get(..12).unwrap_or_default());
        Self { config, issuer, verifier, metadata: Mutex::default(), rules }
    }

    /// A text that changes with the rules by which visitors are let in.
    pub(crate) fn rules(&self) -> &str {
        &self.rules
    }

    /// The provider's name for people.
    pub(crate) fn host(&self) -> &str {
        self.config.issuer_url.host_str().unwrap_or_default()
    }

    /// Where the browser logs in.
    pub(crate) async fn authorization(&self, attempt: &Attempt) -> Result<Url, OidcError> {
        let metadata = self.metadata().await?;
        let mut url = metadata
            .authorization_endpoint
            .ok_or_else(|| invalid("its metadata names no authorization_endpoint"))?;
        // The browser goes there, and not this process: any address will do, but not any scheme.
        if url.scheme() != "https" && !(url.scheme() == "http" && self.config.http.policy.http) {
            return Err(invalid("its authorization_endpoint is not https"));
        }
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&attempt.verifier));
        let scopes = std::iter::once("openid").chain(self.config.scopes.iter().map(String::as_str));
        let scopes = scopes.collect::<Vec<_>>().join(" ");
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.config.client_id)
            .append_pair("redirect_uri", self.config.redirect.as_str())
            .append_pair("scope", &scopes)
            .append_pair("state", &attempt.state)
            .append_pair("nonce", &attempt.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Who has logged in, by the code that the browser brought back with the name of its sender.
    pub(crate) async fn visitor(
        &self,
        code: &str,
        sender: Option<&str>,
        attempt: &Attempt,
    ) -> Result<Visitor, OidcError> {
        let metadata = self.metadata().await?;
        // RFC 9207: a code of another provider must not be shown to this one.
        if sender.is_some_and(|sender| sender != self.config.issuer) {
            return Err(invalid("the browser comes from another provider"));
        }
        if sender.is_none() && metadata.authorization_response_iss_parameter_supported {
            return Err(invalid("the browser does not say which provider it comes from"));
        }
        let token = self.exchange(&metadata, code, attempt).await?;
        let claims = self.verifier.claims(&token).await.map_err(|error| match error {
            TokenError::Invalid(why) => invalid(why),
            TokenError::Unavailable(error) => error.into(),
        })?;
        if claims.get("nonce").and_then(Value::as_str) != Some(attempt.nonce.as_str()) {
            return Err(invalid("the token is of another login"));
        }
        self.is_party(&claims)?;
        self.config.claims.visitor(&claims).map_err(OidcError::NotAllowed)
    }

    /// A token for several audiences has to say that it was made for this one (OpenID Connect Core 1.0, section 3.1.3.7).
    fn is_party(&self, claims: &Map<String, Value>) -> Result<(), OidcError> {
        let several = claims.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
        match claims.get("azp") {
            Some(party) if party.as_str() != Some(self.config.client_id.as_str()) => {
                Err(invalid("the token was made for another client"))
            }
            None if several => Err(invalid("the token does not say for which client it was made")),
            Some(_) | None => Ok(()),
        }
    }

    /// The ID token of a code.
    async fn exchange(
        &self,
        metadata: &Metadata,
        code: &str,
        attempt: &Attempt,
    ) -> Result<String, OidcError> {
        let endpoint = metadata
            .token_endpoint
            .as_ref()
            .ok_or_else(|| invalid("its metadata names no token_endpoint"))?;
        let (headers, form) = self.request(metadata, code, attempt)?;
        let sent = self.config.http.post(endpoint, headers, form).await;
        let response = sent.map_err(|error| OidcError::Unavailable(error.to_string()))?;
        if !response.status.is_success() {
            // The code of an error is a word of a list; its description is any text, and may repeat the secret.
            let why = response.text("error").filter(|code| is_code(code)).unwrap_or("no reason");
            return Err(OidcError::Refused(format!("HTTP {}, {why}", response.status.as_u16())));
        }
        response.text("id_token").map(str::to_owned).ok_or_else(|| invalid("it has no id_token"))
    }

    /// The headers and the form that show a code to the token endpoint.
    fn request(
        &self,
        metadata: &Metadata,
        code: &str,
        attempt: &Attempt,
    ) -> Result<(HeaderMap, String), OidcError> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "authorization_code")
            .append_pair("code", code)
            .append_pair("redirect_uri", self.config.redirect.as_str())
            .append_pair("code_verifier", &attempt.verifier);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        match &self.config.client_secret {
            Some(secret) if takes_basic(metadata) => {
                headers.insert(AUTHORIZATION, basic(&self.config.client_id, secret)?);
            }
            Some(secret) => {
                form.append_pair("client_id", &self.config.client_id)
                    .append_pair("client_secret", secret.expose());
            }
            None => {
                form.append_pair("client_id", &self.config.client_id);
            }
        }
        Ok((headers, form.finish()))
    }

    async fn metadata(&self) -> Result<Metadata, OidcError> {
        let mut cached = self.metadata.lock().await;
        let (metadata, lasts) = match cached.as_ref() {
            Some((metadata, until)) if Instant::now() < *until => return Ok(metadata.clone()),
            None => (self.issuer.metadata().await?, METADATA_TTL),
            Some((old, _)) => match timeout(METADATA_TIME_OUT, self.issuer.metadata()).await {
                Ok(Ok(metadata)) => (metadata, METADATA_TTL),
                // What held an hour ago is better than nothing.
                Ok(Err(_)) | Err(_) => (old.clone(), METADATA_PAUSE),
            },
        };
        *cached = Some((metadata.clone(), Instant::now() + lasts));
        Ok(metadata)
    }
}

/// Whether a text is the code of an error (RFC 6749, section 4.1.2.1), and not more.
pub(crate) fn is_code(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !text.is_empty() && text.len() <= 64 && text.bytes().all(is_word)
}

/// The default of the specification, unless the provider has others.
fn takes_basic(metadata: &Metadata) -> bool {
    let supported = metadata.token_endpoint_auth_methods_supported.as_deref();
    supported.is_none_or(|methods| {
        let has = |name: &str| methods.iter().any(|method| method == name);
        has("client_secret_basic") || !has("client_secret_post")
    })
}

/// RFC 6749, section 2.3.1: both parts are form-encoded first.
fn basic(id: &str, secret: &SecretText) -> Result<HeaderValue, OidcError> {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = STANDARD.encode(format!("{}:{}", encode(id), encode(secret.expose())));
    let mut value = HeaderValue::from_str(&format!("Basic {pair}")).map_err(|_| invalid("its secret"))?;
    value.set_sensitive(true);
    Ok(value)
}
