//! Owns the login at an Amazon Cognito user pool: user and password first, the refresh token as long as it holds, by plain HTTPS.
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
use toolfleet_core::fault::Fault;
use url::Url;

use super::fixed::{secret, setting};
use super::keyring::{Keyring, SecretText};
use super::outlet::{TokenHttpClient, TokenResponse, life};
use super::seen::SecretScrubber;
use super::token::Grant;
use crate::words::shorten_to;

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const INITIATE_AUTH: &str = "AWSCognitoIdentityProviderService.InitiateAuth";

/// A user of a user pool.
pub(crate) struct Cognito {
    of: Of,
    outlet: TokenHttpClient,
    /// In place of the region's endpoint, where the catalog names none.
    elsewhere: Option<Url>,
    refresh: Mutex<Option<Refresh>>,
}

/// What gives a new token without a login.
#[derive(Clone)]
struct Refresh {
    token: SecretText,
    /// The user's own name in the pool, which its hash is made with; a login may have used an alias.
    user: Option<String>,
}

/// What a login needs.
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
    pub(crate) fn new(of: Of, outlet: TokenHttpClient, elsewhere: Option<Url>) -> Self {
        Self { of, outlet, elsewhere, refresh: Mutex::default() }
    }

    /// An access token, by the refresh token if there is one that still holds, else by a login; `fresh` always logs in, with
    /// secrets read anew.
    pub(crate) async fn obtain(
        &self,
        keyring: &dyn Keyring,
        seen: &SecretScrubber,
        fresh: bool,
    ) -> Result<Grant, Fault> {
        let login = self.login(keyring, seen, fresh).await?;
        if let Some(kept) = self.kept().filter(|_| !fresh) {
            let said = self.refresh(keyring, seen, &login, kept).await?;
            if said.status.is_success() || is_throttled(&said) {
                return self.granted(&said, seen);
            }
            self.keep(None);
        }
        let said = self.log_in(keyring, seen, &login).await?;
        if said.status.is_success() || fresh || is_throttled(&said) {
            return self.granted(&said, seen);
        }
        // The password may have been rotated since it was read.
        let again = self.login(keyring, seen, true).await?;
        if again == login {
            return self.granted(&said, seen);
        }
        let said = self.log_in(keyring, seen, &again).await?;
        self.granted(&said, seen)
    }

    async fn login(&self, keyring: &dyn Keyring, seen: &SecretScrubber, fresh: bool) -> Result<Login, Fault> {
        let client_secret = match &self.of.client_secret {
            Some(of) => Some(secret(keyring, seen, of, fresh).await?),
            None => None,
        };
        Ok(Login {
            client_id: setting(keyring, seen, &self.of.client_id, fresh).await?,
            username: setting(keyring, seen, &self.of.username, fresh).await?,
            password: secret(keyring, seen, &self.of.password, fresh).await?,
            client_secret,
        })
    }

    async fn log_in(
        &self,
        keyring: &dyn Keyring,
        seen: &SecretScrubber,
        login: &Login,
    ) -> Result<TokenResponse, Fault> {
        let parameters = json!({ "USERNAME": login.username, "PASSWORD": login.password.expose() });
        self.ask(keyring, seen, login, &login.username, ("USER_PASSWORD_AUTH", parameters)).await
    }

    async fn refresh(
        &self,
        keyring: &dyn Keyring,
        seen: &SecretScrubber,
        login: &Login,
        kept: Refresh,
    ) -> Result<TokenResponse, Fault> {
        let parameters = json!({ "REFRESH_TOKEN": kept.token.expose() });
        let user = kept.user.as_deref().unwrap_or(&login.username);
        self.ask(keyring, seen, login, user, ("REFRESH_TOKEN_AUTH", parameters)).await
    }

    async fn ask(
        &self,
        keyring: &dyn Keyring,
        seen: &SecretScrubber,
        login: &Login,
        user: &str,
        (flow, mut parameters): (&str, Value),
    ) -> Result<TokenResponse, Fault> {
        if let (Some(key), Some(parameters)) = (&login.client_secret, parameters.as_object_mut()) {
            let hash = secret_hash(key, user, &login.client_id)?;
            seen.add(&hash);
            parameters.insert("SECRET_HASH".to_owned(), Value::from(hash));
        }
        let body = json!({ "AuthFlow": flow, "ClientId": login.client_id, "AuthParameters": parameters });
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
        headers.insert(TARGET, HeaderValue::from_static(INITIATE_AUTH));
        let endpoint = self.endpoint(keyring, seen).await?;
        self.outlet.post(&endpoint, headers, body.to_string()).await
    }

    /// The region's endpoint; a pool's id begins with its region.
    async fn endpoint(&self, keyring: &dyn Keyring, seen: &SecretScrubber) -> Result<Url, Fault> {
        if let Some(endpoint) = self.of.endpoint.as_ref().or(self.elsewhere.as_ref()) {
            return Ok(endpoint.clone());
        }
        let pool = setting(keyring, seen, &self.of.user_pool_id, false).await?;
        let region = pool.split_once('_').map(|(region, _)| region).filter(|region| is_region(region));
        let url = region.and_then(|r| Url::parse(&format!("https://cognito-idp.{r}.{}/", suffix(r))).ok());
        url.ok_or_else(|| {
            let detail = "user_pool_id does not begin with a region, as in us-east-1_AbCdEfGhI".to_owned();
            Fault::Credential { detail }
        })
    }

    fn granted(&self, said: &TokenResponse, seen: &SecretScrubber) -> Result<Grant, Fault> {
        if let Some(challenge) = said.text("ChallengeName") {
            let detail = format!(
                "Cognito asks for the challenge {}, which no worker can answer; complete it for this user once, or use another",
                shorten_to(challenge, 60)
            );
            return Err(Fault::Credential { detail });
        }
        let result = said.body.get("AuthenticationResult");
        let text = |member: &str| result.and_then(|result| result.get(member)).and_then(Value::as_str);
        let token = text("AccessToken").filter(|token| !token.is_empty() && said.status.is_success());
        let Some(token) = token else {
            let detail = format!("Cognito gave no token: {}", said.problem("__type", "message"));
            return Err(if is_throttled(said) {
                Fault::CredentialPending { detail }
            } else {
                Fault::Credential { detail }
            });
        };
        seen.add(token);
        text("IdToken").into_iter().for_each(|id_token| seen.add(id_token));
        // A refresh gives no new refresh token, unless rotation is on.
        if let Some(refresh) = text("RefreshToken") {
            seen.add(refresh);
            self.keep(Some(Refresh { token: SecretText::new(refresh), user: user_in(token) }));
        }
        let life = life(result.and_then(|result| result.get("ExpiresIn")));
        Ok(Grant { token: SecretText::new(token), life, scopes: 0 })
    }

    fn kept(&self) -> Option<Refresh> {
        self.refresh.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, refresh: Option<Refresh>) {
        *self.refresh.lock().unwrap_or_else(PoisonError::into_inner) = refresh;
    }
}

/// The user's name in the pool as an access token tells it; it is read, not believed: no signature is checked.
fn user_in(token: &str) -> Option<String> {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    claims.get("username").and_then(Value::as_str).map(str::to_owned)
}

/// Cognito says with HTTP 400 what others say with 429 or 500.
fn is_throttled(said: &TokenResponse) -> bool {
    let passes =
        ["TooManyRequestsException", "LimitExceededException", "ThrottlingException", "InternalError"];
    said.text("__type").is_some_and(|kind| passes.iter().any(|name| kind.contains(name)))
}

fn is_region(text: &str) -> bool {
    text.contains('-') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// The domain of the partition that a region belongs to.
fn suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// Cognito's SecretHash: Base64(HMAC-SHA256(client secret, username + client id)).
fn secret_hash(key: &SecretText, username: &str, client_id: &str) -> Result<String, Fault> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose().as_bytes())
        .map_err(|_| Fault::Credential { detail: "the client secret is no usable key".to_owned() })?;
    mac.update(username.as_bytes());
    mac.update(client_id.as_bytes());
    Ok(STANDARD.encode(mac.finalize().into_bytes()))
}
