//! How a visitor is known: by a token that an operator configured, by OpenID Connect, or in `toolfleet dev` by the link that it prints.

use std::time::Duration;

use crate::oidc::Oidc;
use crate::session::SessionKey;
use crate::tokens::Tokens;

/// How a visitor is known.
pub struct Access {
    /// The tokens.
    pub tokens: Tokens,
    /// The provider where visitors log in.
    pub oidc: Option<Oidc>,
    /// What signs sessions.
    pub key: SessionKey,
    /// How long a session lasts.
    pub session: Duration,
    /// Whether a token in the address logs in. Only for an address that no other machine reaches: addresses are written down by browsers
    /// and proxies.
    pub by_link: bool,
    /// Whether the cookie is sent over TLS alone.
    pub secure: bool,
}
