//! Obtains tokens for one server and tenant from its authorization server, and scrubs secrets from the errors.

use std::fmt;
use std::sync::Arc;

use crate::cognito::Cognito;
use crate::error::CredentialError;
use crate::keyring::Keyring;
use crate::oauth::Oauth;
use crate::scrubber::SecretScrubber;
use crate::secrets::Secrets;
use crate::token_cache::Grant;

/// A provider of tokens with the secrets it needs.
pub(crate) struct TokenSource {
    pub(crate) provider: TokenProvider,
    pub(crate) keyring: Arc<dyn Keyring>,
    pub(crate) scrubber: Arc<SecretScrubber>,
}

/// The kind of authorization server.
#[derive(Debug)]
pub(crate) enum TokenProvider {
    Oauth(Box<Oauth>),
    Cognito(Box<Cognito>),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokenSource").field(&self.provider).finish()
    }
}

impl TokenSource {
    /// A new token; `fresh` bypasses caches of secrets, because the last token was refused.
    pub(crate) async fn obtain(self: Arc<Self>, fresh: bool) -> Result<Grant, CredentialError> {
        let secrets = Secrets { keyring: self.keyring.as_ref(), scrubber: &self.scrubber };
        let grant = match &self.provider {
            TokenProvider::Oauth(oauth) => Box::pin(oauth.obtain(secrets, fresh)).await,
            TokenProvider::Cognito(cognito) => Box::pin(cognito.obtain(secrets, fresh)).await,
        };
        grant.map_err(|error| error.map_text(|text| self.scrubber.scrub(text)))
    }

    /// Adds the scopes that a server wants; see [`Oauth::widen`].
    pub(crate) fn widen(&self, scope: &str) -> Option<u64> {
        match &self.provider {
            TokenProvider::Oauth(oauth) => oauth.widen(scope),
            TokenProvider::Cognito(_) => None,
        }
    }

    /// Whether tokens are still requested with those scopes.
    pub(crate) fn asks_for(&self, scope: &str) -> bool {
        match &self.provider {
            TokenProvider::Oauth(oauth) => oauth.asks_for(scope),
            TokenProvider::Cognito(_) => false,
        }
    }
}
