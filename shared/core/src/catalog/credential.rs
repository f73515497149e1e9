//! Owns what a server's credentials are made of, as far as the catalog says: references and values, not tokens.
//!
//! **Invariant:** a value does not print; the name of a secret does.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use url::Url;

/// A text of a credential: the value itself, or `secret://name` for where it stands.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(String);

impl Sensitive {
    /// The text, for the one place that sends it or reads the secret it names.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.starts_with("secret://") { &self.0 } else { crate::redact::REDACTED })
    }
}

impl<'de> Deserialize<'de> for Sensitive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `String::deserialize`, whose complaint would repeat what it found.
        match Value::deserialize(deserializer)? {
            Value::String(text) if text.is_empty() => Err(D::Error::custom("is empty")),
            Value::String(text) => Ok(Self(text)),
            other
            @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(D::Error::custom(format_args!("is {}; accepted is a text", super::json::kind(&other))))
            }
        }
    }
}

/// How a worker gets the token that a server wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// OAuth 2 client credentials.
    OAuth2ClientCredentials {
        /// The client.
        client_id: Sensitive,
        /// Its secret.
        client_secret: Sensitive,
        /// Where tokens are given out.
        token_url: Url,
        /// The scopes to ask for; empty: those the server of the tokens thinks right.
        scopes: Vec<String>,
    },
    /// Cognito `InitiateAuth` with `USER_PASSWORD_AUTH`; the access token is the bearer token.
    CognitoUserPassword {
        /// The pool, which starts with its region: `us-east-1_AbC`.
        user_pool_id: String,
        /// The app client.
        client_id: Sensitive,
        /// The user.
        username: Sensitive,
        /// The password.
        password: Sensitive,
    },
}

impl Credential {
    /// The word for this kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::OAuth2ClientCredentials { .. } => "oauth2-client-credentials",
            Self::CognitoUserPassword { .. } => "cognito-user-password",
        }
    }
}
