//! Owns OAuth 2 client credentials (RFC 6749, section 4.4): where a token is asked for, with which scopes, how often.
//!
//! **Invariant:** a secret is sent to nobody but the token endpoint of the catalog, or of the issuer that was found for the
//! server; one obtaining asks at most four times: with another way to authenticate, narrower scopes, or the secret read anew.

use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use tokio::sync::Mutex as AsyncMutex;
use toolfleet_core::credential::{ClientAuth, ClientCredentials};
use toolfleet_core::fault::Fault;
use url::{Url, form_urlencoded};

use super::client_auth::{self, Client};
use super::discovery::{Place, canonical, discover};
use super::fixed::{secret, setting};
use super::keyring::{Keyring, SecretText};
use super::outlet::{TokenHttpClient, TokenResponse, life};
use super::scopes::Scopes;
use super::seen::SecretScrubber;
use super::token::Grant;

/// Client credentials for one server.
#[derive(Debug)]
pub(crate) struct Oauth {
    of: ClientCredentials,
    server: Url,
    outlet: TokenHttpClient,
    place: AsyncMutex<Option<Place>>,
    scopes: Scopes,
    /// Whether an authorization server that says nothing of it wants the secret in the body.
    by_post: AtomicBool,
}

/// Why a request for a token failed.
#[derive(Debug)]
struct Failure {
    fault: Fault,
    why: Why,
}

/// What might be another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// The client was not accepted.
    Client,
    /// The scopes were not.
    Scope,
    /// There is none.
    Other,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { fault, why: Why::Other }
    }
}

impl Oauth {
    pub(crate) fn new(of: ClientCredentials, server: Url, outlet: TokenHttpClient) -> Self {
        Self {
            of,
            server,
            outlet,
            place: AsyncMutex::default(),
            scopes: Scopes::default(),
            by_post: AtomicBool::new(false),
        }
    }

    /// A token; `fresh` reads secrets and metadata anew, because the token before was refused.
    pub(crate) async fn obtain(
        &self,
        keyring: &dyn Keyring,
        seen: &SecretScrubber,
        mut fresh: bool,
    ) -> Result<Grant, Fault> {
        let mut other_way = false;
        loop {
            let failure = match Box::pin(self.ask(keyring, seen, fresh)).await {
                Ok(grant) => return Ok(grant),
                Err(failure) => failure,
            };
            match failure.why {
                Why::Scope if self.scopes.narrow() => {}
                Why::Client if !fresh => fresh = true,
                Why::Client if !other_way && self.may_turn().await => {
                    other_way = true;
                    self.by_post.fetch_xor(true, Ordering::Relaxed);
                }
                Why::Scope | Why::Client | Why::Other => {
                    if other_way {
                        self.by_post.fetch_xor(true, Ordering::Relaxed);
                    }
                    // What was found may have moved.
                    *self.place.lock().await = None;
                    return Err(failure.fault);
                }
            }
        }
    }

    /// Notes the scopes that a server wants; gives what [`Grant::scopes`] is at least once they are asked for, or none if they
    /// may not be.
    pub(crate) fn widen(&self, scope: &str) -> Option<u64> {
        if self.of.step_up { self.scopes.widen(&self.of.scopes, scope) } else { None }
    }

    /// Whether those scopes are still asked for.
    pub(crate) fn asks_for(&self, scope: &str) -> bool {
        self.scopes.hold(&self.of.scopes, scope)
    }

    async fn place(&self, fresh: bool) -> Result<Place, Fault> {
        if let Some(token_url) = &self.of.token_url {
            let issuer =
                self.of.issuer.as_ref().map(|issuer| issuer.as_str().trim_end_matches('/').to_owned());
            return Ok(Place::at(token_url.clone(), issuer, canonical(&self.server)));
        }
        let mut known = self.place.lock().await;
        if let Some(place) = known.as_ref().filter(|_| !fresh) {
            return Ok(place.clone());
        }
        let found = discover(&self.outlet, &self.server, self.of.issuer.as_ref()).await?;
        Ok(known.insert(found).clone())
    }

    async fn ask(&self, keyring: &dyn Keyring, seen: &SecretScrubber, fresh: bool) -> Result<Grant, Failure> {
        let place = Box::pin(self.place(fresh)).await?;
        let mut form = vec![("grant_type", "client_credentials".to_owned())];
        let first = if self.of.scopes.is_empty() { &place.scopes } else { &self.of.scopes };
        let (scope, scopes) = self.scopes.all(first);
        if !scope.is_empty() {
            form.push(("scope", scope));
        }
        let resource = self.of.resource.as_deref().or(place.resource.as_deref());
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
            return Err(Fault::Credential { detail }.into());
        };
        let client = Client {
            id: setting(keyring, seen, &self.of.client_id, fresh).await?,
            key: secret(keyring, seen, key, fresh).await?,
        };
        match self.method(&place) {
            ClientAuth::Basic => client_auth::basic(&client, seen, &mut headers)?,
            ClientAuth::Post => client_auth::post(&client, &mut form),
            ClientAuth::PrivateKeyJwt => {
                let audience = place.issuer.as_deref().unwrap_or(place.token_url.as_str());
                let (algorithm, id) = (self.of.algorithm, self.of.key_id.clone());
                let assertion = client_auth::assertion(&client, audience, algorithm, id, keyring.now_s())?;
                seen.add(&assertion);
                client_auth::by_assertion(&client, assertion, &mut form);
            }
        }
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let said = self.outlet.post(&place.token_url, headers, body).await?;
        granted(&said, &place.token_url, scopes, seen)
    }

    /// As the catalog says, or else as the authorization server does, or else as it turned out.
    fn method(&self, place: &Place) -> ClientAuth {
        let takes = |method: &str| place.methods.iter().any(|known| known == method);
        match self.of.client_auth {
            Some(method) => method,
            None if self.of.private_key.is_some() => ClientAuth::PrivateKeyJwt,
            None if takes("client_secret_basic") => ClientAuth::Basic,
            None if takes("client_secret_post") || self.by_post.load(Ordering::Relaxed) => ClientAuth::Post,
            None => ClientAuth::Basic,
        }
    }

    /// Whether neither the catalog nor the authorization server says how a secret is to be sent.
    async fn may_turn(&self) -> bool {
        let told = self.place.lock().await.as_ref().is_some_and(|place| !place.methods.is_empty());
        self.of.client_auth.is_none() && self.of.private_key.is_none() && !told
    }
}

fn granted(
    said: &TokenResponse,
    token_url: &Url,
    scopes: u64,
    seen: &SecretScrubber,
) -> Result<Grant, Failure> {
    let host = token_url.host_str().unwrap_or_default();
    let token = said.text("access_token").filter(|token| !token.is_empty() && said.status.is_success());
    let Some(token) = token else {
        let detail = format!(
            "the authorization server {host} gave no token: {}",
            said.problem("error", "error_description")
        );
        return Err(match said.text("error") {
            Some("temporarily_unavailable" | "server_error" | "slow_down") => {
                Fault::CredentialPending { detail }.into()
            }
            Some("invalid_scope") => Failure { fault: Fault::Credential { detail }, why: Why::Scope },
            Some("invalid_client") => Failure { fault: Fault::Credential { detail }, why: Why::Client },
            _ if said.status.as_u16() == 401 => {
                Failure { fault: Fault::Credential { detail }, why: Why::Client }
            }
            _ => Fault::Credential { detail }.into(),
        });
    };
    seen.add(token);
    let kind = said.text("token_type").unwrap_or("Bearer");
    if !kind.eq_ignore_ascii_case("bearer") {
        let detail = format!("the authorization server {host} gave a token that is no bearer token");
        return Err(Fault::Credential { detail }.into());
    }
    Ok(Grant { token: SecretText::new(token), life: life(said.body.get("expires_in")), scopes })
}
