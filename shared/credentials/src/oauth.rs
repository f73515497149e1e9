//! OAuth 2 client credentials (RFC 6749, section 4.4): requests tokens, with retries for another way of client authentication,
//! fewer scopes, or secrets read again.
//!
//! **Invariant:** a secret is sent only to the token endpoint that the catalog names or that was discovered for the server; one
//! `obtain` makes at most four token requests.

use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tokio::sync::Mutex as AsyncMutex;
use toolfleet_core::credential::{ClientAuth, ClientCredentials};
use url::{Url, form_urlencoded};

use crate::client_auth::{self, Client};
use crate::discovery::{TokenEndpoint, canonical, discover};
use crate::error::CredentialError;
use crate::keyring::SecretText;
use crate::scopes::Scopes;
use crate::scrubber::SecretScrubber;
use crate::secrets::Secrets;
use crate::token_cache::Grant;
use crate::token_http::{TokenHttpClient, TokenResponse, lifetime};

/// Client credentials for one server.
#[derive(Debug)]
pub(crate) struct Oauth {
    of: ClientCredentials,
    server: Url,
    http: TokenHttpClient,
    endpoint: AsyncMutex<Option<TokenEndpoint>>,
    scopes: Scopes,
    /// Whether the secret is sent in the body where the authorization server does not say how.
    by_post: AtomicBool,
}

/// Why a token request failed.
#[derive(Debug)]
struct TokenFailure {
    error: CredentialError,
    rejected: Rejected,
}

/// What a retry may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rejected {
    /// The client was not accepted.
    Client,
    /// The scopes were not accepted.
    Scope,
    /// Nothing.
    Other,
}

impl From<CredentialError> for TokenFailure {
    fn from(error: CredentialError) -> Self {
        Self { error, rejected: Rejected::Other }
    }
}

impl Oauth {
    pub(crate) fn new(of: ClientCredentials, server: Url, http: TokenHttpClient) -> Self {
        Self {
            of,
            server,
            http,
            endpoint: AsyncMutex::default(),
            scopes: Scopes::default(),
            by_post: AtomicBool::new(false),
        }
    }

    /// A new token; `fresh` reads secrets and metadata again, because the last token was refused.
    pub(crate) async fn obtain(
        &self,
        secrets: Secrets<'_>,
        mut fresh: bool,
    ) -> Result<Grant, CredentialError> {
        let mut toggled = false;
        loop {
            let failure = match Box::pin(self.request_token(secrets, fresh)).await {
                Ok(grant) => return Ok(grant),
                Err(failure) => failure,
            };
            match failure.rejected {
                Rejected::Scope if self.scopes.narrow() => {}
                Rejected::Client if !fresh => fresh = true,
                Rejected::Client if !toggled && self.may_toggle_auth().await => {
                    toggled = true;
                    self.by_post.fetch_xor(true, Ordering::Relaxed);
                }
                Rejected::Scope | Rejected::Client | Rejected::Other => {
                    if toggled {
                        self.by_post.fetch_xor(true, Ordering::Relaxed);
                    }
                    // Discover again next time: the endpoint may have moved.
                    *self.endpoint.lock().await = None;
                    return Err(failure.error);
                }
            }
        }
    }

    /// Adds the scopes that a server wants. Returns the least [`Grant::scopes`] of a token that was requested with them, or `None`
    /// where they may not be requested.
    pub(crate) fn widen(&self, scope: &str) -> Option<u64> {
        if self.of.step_up { self.scopes.widen(&self.of.scopes, scope) } else { None }
    }

    /// Whether tokens are still requested with those scopes.
    pub(crate) fn asks_for(&self, scope: &str) -> bool {
        self.scopes.hold(&self.of.scopes, scope)
    }

    async fn token_endpoint(&self, fresh: bool) -> Result<TokenEndpoint, CredentialError> {
        if let Some(token_url) = &self.of.token_url {
            let issuer =
                self.of.issuer.as_ref().map(|issuer| issuer.as_str().trim_end_matches('/').to_owned());
            return Ok(TokenEndpoint::configured(token_url.clone(), issuer, canonical(&self.server)));
        }
        let mut known = self.endpoint.lock().await;
        if let Some(endpoint) = known.as_ref().filter(|_| !fresh) {
            return Ok(endpoint.clone());
        }
        let found = discover(&self.http, &self.server, self.of.issuer.as_ref()).await?;
        Ok(known.insert(found).clone())
    }

    async fn request_token(&self, secrets: Secrets<'_>, fresh: bool) -> Result<Grant, TokenFailure> {
        let endpoint = Box::pin(self.token_endpoint(fresh)).await?;
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        let first = if self.of.scopes.is_empty() { &endpoint.scopes } else { &self.of.scopes };
        let (scope, scopes) = self.scopes.all(first);
        if !scope.is_empty() {
            form.push(("scope", scope));
        }
        let resource = self.of.resource.as_deref().or(endpoint.resource.as_deref());
        if let Some(resource) = resource.filter(|resource| *resource != "none") {
            form.push(("resource", resource.to_owned()));
        }
        if let Some(audience) = &self.of.audience {
            form.push(("audience", audience.clone()));
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let Some(key) = self.of.private_key.as_ref().or(self.of.client_secret.as_ref()) else {
            let detail = "neither client_secret nor private_key is given".to_owned();
            return Err(CredentialError::Unavailable { detail }.into());
        };
        let client = Client {
            id: secrets.setting(&self.of.client_id, fresh).await?,
            key: secrets.secret(key, fresh).await?,
        };
        match self.method(&endpoint) {
            ClientAuth::Basic => client_auth::basic(&client, secrets.scrubber, &mut headers)?,
            ClientAuth::Post => client_auth::post(&client, &mut form),
            ClientAuth::PrivateKeyJwt => {
                let audience = endpoint.issuer.as_deref().unwrap_or(endpoint.token_url.as_str());
                let (algorithm, id) = (self.of.algorithm, self.of.key_id.clone());
                let assertion =
                    client_auth::assertion(&client, audience, algorithm, id, secrets.keyring.now_s())?;
                secrets.scrubber.add(&assertion);
                client_auth::by_assertion(&client, assertion, &mut form);
            }
        }
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let response = self.http.post(&endpoint.token_url, headers, body).await?;
        granted(&response, &endpoint.token_url, scopes, secrets.scrubber)
    }

    /// The way of client authentication: of the catalog, else of the authorization server, else the last that worked.
    fn method(&self, endpoint: &TokenEndpoint) -> ClientAuth {
        let takes = |method: &str| endpoint.methods.iter().any(|known| known == method);
        match self.of.client_auth {
            Some(method) => method,
            None if self.of.private_key.is_some() => ClientAuth::PrivateKeyJwt,
            None if takes("client_secret_basic") => ClientAuth::Basic,
            None if takes("client_secret_post") || self.by_post.load(Ordering::Relaxed) => ClientAuth::Post,
            None => ClientAuth::Basic,
        }
    }

    /// Whether neither the catalog nor the authorization server says how the secret is sent.
    async fn may_toggle_auth(&self) -> bool {
        let listed = self.endpoint.lock().await.as_ref().is_some_and(|endpoint| !endpoint.methods.is_empty());
        self.of.client_auth.is_none() && self.of.private_key.is_none() && !listed
    }
}

fn granted(
    response: &TokenResponse,
    token_url: &Url,
    scopes: u64,
    scrubber: &SecretScrubber,
) -> Result<Grant, TokenFailure> {
    let host = token_url.host_str().unwrap_or_default();
    let token =
        response.text("access_token").filter(|token| !token.is_empty() && response.status.is_success());
    let Some(token) = token else {
        let detail = format!(
            "the authorization server {host} gave no token: {}",
            response.describe_error("error", "error_description")
        );
        return Err(match response.text("error") {
            Some("temporarily_unavailable" | "server_error" | "slow_down") => {
                CredentialError::Pending { detail }.into()
            }
            Some("invalid_scope") => {
                TokenFailure { error: CredentialError::Unavailable { detail }, rejected: Rejected::Scope }
            }
            Some("invalid_client") => {
                TokenFailure { error: CredentialError::Unavailable { detail }, rejected: Rejected::Client }
            }
            _ if response.status.as_u16() == 401 => {
                TokenFailure { error: CredentialError::Unavailable { detail }, rejected: Rejected::Client }
            }
            _ => CredentialError::Unavailable { detail }.into(),
        });
    };
    scrubber.add(token);
    let kind = response.text("token_type").unwrap_or("Bearer");
    if !kind.eq_ignore_ascii_case("bearer") {
        let detail = format!("the authorization server {host} gave a token that is not a bearer token");
        return Err(CredentialError::Unavailable { detail }.into());
    }
    Ok(Grant { token: SecretText::new(token), lifetime: lifetime(response.body.get("expires_in")), scopes })
}
