//! Logs in at an Amazon Cognito user pool: with user and password first, then with the refresh token while it is valid.
//!
//! **Invariant:** a login that needs a human (a challenge) fails with the challenge's name; it is never answered.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use sha2::Sha256;
use toolfleet_core::credential::Cognito as Of;
use toolfleet_egress::sanitize_text_to;
use url::Url;

use crate::error::CredentialError;
use crate::keyring::SecretText;
use crate::scrubber::SecretScrubber;
use crate::secrets::Secrets;
use crate::token_cache::Grant;
use crate::token_http::{TokenHttpClient, TokenResponse, lifetime};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const INITIATE_AUTH: &str = "AWSCognitoIdentityProviderService.InitiateAuth";

/// A user of a user pool.
pub(crate) struct Cognito {
    of: Of,
    http: TokenHttpClient,
    /// Replaces the region's endpoint where the catalog names none.
    default_endpoint: Option<Url>,
    refresh: Mutex<Option<Refresh>>,
}

/// What a new token is requested with, without a login.
#[derive(Clone)]
struct Refresh {
    token: SecretText,
    /// The user name in the pool, which the secret hash is computed with; a login may have used an alias.
    user: Option<String>,
}

/// The fields of a login.
#[derive(PartialEq, Eq)]
struct Login {
    client_id: String,
    username: String,
    password: SecretText,
    client_secret: Option<SecretText>,
}

impl fmt::Debug for Cognito {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cognito").field("of", &self.of).finish_non_exhaustive()
    }
}

impl Cognito {
    pub(crate) fn new(of: Of, http: TokenHttpClient, default_endpoint: Option<Url>) -> Self {
        Self { of, http, default_endpoint, refresh: Mutex::default() }
    }

    /// An access token: by the refresh token while it is valid, else by a login. `fresh` always logs in, with secrets that bypass
    /// caches.
    pub(crate) async fn obtain(&self, secrets: Secrets<'_>, fresh: bool) -> Result<Grant, CredentialError> {
        let login = self.login(secrets, fresh).await?;
        if let Some(kept) = self.stored_refresh().filter(|_| !fresh) {
            let response = self.refresh(secrets, &login, kept).await?;
            if response.status.is_success() || is_throttled(&response) {
                return self.granted(&response, secrets.scrubber);
            }
            self.store_refresh(None);
        }
        let response = self.log_in(secrets, &login).await?;
        if response.status.is_success() || fresh || is_throttled(&response) {
            return self.granted(&response, secrets.scrubber);
        }
        // The password may have been rotated since it was read.
        let again = self.login(secrets, true).await?;
        if again == login {
            return self.granted(&response, secrets.scrubber);
        }
        let response = self.log_in(secrets, &again).await?;
        self.granted(&response, secrets.scrubber)
    }

    async fn login(&self, secrets: Secrets<'_>, fresh: bool) -> Result<Login, CredentialError> {
        let client_secret = match &self.of.client_secret {
            Some(of) => Some(secrets.secret(of, fresh).await?),
            None => None,
        };
        Ok(Login {
            client_id: secrets.setting(&self.of.client_id, fresh).await?,
            username: secrets.setting(&self.of.username, fresh).await?,
            password: secrets.secret(&self.of.password, fresh).await?,
            client_secret,
        })
    }

    async fn log_in(&self, secrets: Secrets<'_>, login: &Login) -> Result<TokenResponse, CredentialError> {
        let parameters = json!({ "USERNAME": login.username, "PASSWORD": login.password.expose() });
        self.initiate_auth(secrets, login, &login.username, ("USER_PASSWORD_AUTH", parameters)).await
    }

    async fn refresh(
        &self,
        secrets: Secrets<'_>,
        login: &Login,
        kept: Refresh,
    ) -> Result<TokenResponse, CredentialError> {
        let parameters = json!({ "REFRESH_TOKEN": kept.token.expose() });
        let user = kept.user.as_deref().unwrap_or(&login.username);
        self.initiate_auth(secrets, login, user, ("REFRESH_TOKEN_AUTH", parameters)).await
    }

    async fn initiate_auth(
        &self,
        secrets: Secrets<'_>,
        login: &Login,
        user: &str,
        (flow, mut parameters): (&str, Value),
    ) -> Result<TokenResponse, CredentialError> {
        if let (Some(key), Some(parameters)) = (&login.client_secret, parameters.as_object_mut()) {
            let hash = secret_hash(key, user, &login.client_id)?;
            secrets.scrubber.add(&hash);
            parameters.insert("SECRET_HASH".to_owned(), Value::from(hash));
        }
        let body = json!({ "AuthFlow": flow, "ClientId": login.client_id, "AuthParameters": parameters });
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert(TARGET, HeaderValue::from_static(INITIATE_AUTH));
        let endpoint = self.endpoint(secrets).await?;
        self.http.post(&endpoint, headers, body.to_string()).await
    }

    /// The region's endpoint; a pool's id begins with its region.
    async fn endpoint(&self, secrets: Secrets<'_>) -> Result<Url, CredentialError> {
        if let Some(endpoint) = self.of.endpoint.as_ref().or(self.default_endpoint.as_ref()) {
            return Ok(endpoint.clone());
        }
        let pool = secrets.setting(&self.of.user_pool_id, false).await?;
        let region = pool.split_once('_').map(|(region, _)| region).filter(|region| is_region(region));
        let url = region.and_then(|r| Url::parse(&format!("https://cognito-idp.{r}.{}/", suffix(r))).ok());
        url.ok_or_else(|| {
            let detail = "user_pool_id does not begin with a region, as in us-east-1_AbCdEfGhI".to_owned();
            CredentialError::Unavailable { detail }
        })
    }

    fn granted(&self, response: &TokenResponse, scrubber: &SecretScrubber) -> Result<Grant, CredentialError> {
        if let Some(challenge) = response.text("ChallengeName") {
            let detail = format!(
                "Cognito asks for the challenge {}, which a worker cannot answer; complete it for this user once, or use another user",
                sanitize_text_to(challenge, 60)
            );
            return Err(CredentialError::Unavailable { detail });
        }
        let result = response.body.get("AuthenticationResult");
        let text = |member: &str| result.and_then(|result| result.get(member)).and_then(Value::as_str);
        let token = text("AccessToken").filter(|token| !token.is_empty() && response.status.is_success());
        let Some(token) = token else {
            let detail = format!("Cognito gave no token: {}", response.describe_error("__type", "message"));
            return Err(if is_throttled(response) {
                CredentialError::Pending { detail }
            } else {
                CredentialError::Unavailable { detail }
            });
        };
        scrubber.add(token);
        text("IdToken").into_iter().for_each(|id_token| scrubber.add(id_token));
        // A refresh returns a new refresh token only where rotation is on.
        if let Some(refresh) = text("RefreshToken") {
            scrubber.add(refresh);
            self.store_refresh(Some(Refresh { token: SecretText::new(refresh), user: user_in(token) }));
        }
        let lifetime = lifetime(result.and_then(|result| result.get("ExpiresIn")));
        Ok(Grant { token: SecretText::new(token), lifetime, scopes: 0 })
    }

    fn stored_refresh(&self) -> Option<Refresh> {
        self.refresh.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn store_refresh(&self, refresh: Option<Refresh>) {
        *self.refresh.lock().unwrap_or_else(PoisonError::into_inner) = refresh;
    }
}

/// The user name in the pool, from the claims of an access token. It is only used for the secret hash, so no signature is checked.
fn user_in(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("username").and_then(Value::as_str).map(str::to_owned)
}

/// Whether Cognito throttles or fails for the moment, which it reports with HTTP 400.
fn is_throttled(response: &TokenResponse) -> bool {
    let transient =
        ["TooManyRequestsException", "LimitExceededException", "ThrottlingException", "InternalError"];
    response.text("__type").is_some_and(|kind| transient.iter().any(|name| kind.contains(name)))
}

fn is_region(text: &str) -> bool {
    text.contains('-') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The domain of a region's partition.
fn suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// Cognito's SecretHash: Base64(HMAC-SHA256(client secret, username + client id)).
fn secret_hash(key: &SecretText, username: &str, client_id: &str) -> Result<String, CredentialError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes()).map_err(|_| {
        CredentialError::Unavailable { detail: "the client secret is no usable key".to_owned() }
    })?;
    mac.update(username.as_bytes());
    mac.update(client_id.as_bytes());
    Ok(STANDARD.encode(mac.finalize().into_bytes()))
}
