//! Owns where the tokens of one server and tenant come from.
//!
//! **Invariant:** a fault that leaves it holds no credential, whatever an authorization server echoed.

use std::fmt;
use std::sync::Arc;

use toolfleet_core::fault::Fault;

use super::cognito::Cognito;
use super::keyring::Keyring;
use super::oauth::Oauth;
use super::seen::SecretScrubber;
use super::token::Grant;

/// What gives tokens, with all it needs.
pub(crate) struct Source {
    pub(crate) kind: Kind,
    pub(crate) keyring: Arc<dyn Keyring>,
    pub(crate) seen: Arc<SecretScrubber>,
}

/// Who gives them.
#[derive(Debug)]
pub(crate) enum Kind {
    Oauth(Box<Oauth>),
    Cognito(Box<Cognito>),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.kind).finish()
    }
}

impl Source {
    /// A token; `fresh` because the one before was refused.
    pub(crate) async fn obtain(self: Arc<Self>, fresh: bool) -> Result<Grant, Fault> {
        let keyring = self.keyring.as_ref();
        let grant = match &self.kind {
            Kind::Oauth(oauth) => Box::pin(oauth.obtain(keyring, &self.seen, fresh)).await,
            Kind::Cognito(cognito) => Box::pin(cognito.obtain(keyring, &self.seen, fresh)).await,
        };
        grant.map_err(|fault| fault.map_text(|text| self.seen.scrub(text)))
    }

    /// Notes the scopes that a server wants; see [`Oauth::widen`].
    pub(crate) fn widen(&self, scope: &str) -> Option<u64> {
        match &self.kind {
            Kind::Oauth(oauth) => oauth.widen(scope),
            Kind::Cognito(_) => None,
        }
    }

    /// Whether those scopes are still asked for.
    pub(crate) fn asks_for(&self, scope: &str) -> bool {
        match &self.kind {
            Kind::Oauth(oauth) => oauth.asks_for(scope),
            Kind::Cognito(_) => false,
        }
    }
}
