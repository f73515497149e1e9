//! The credentials that are tokens from an authorization server: OAuth 2 client credentials and Cognito users.
//!
//! A client authenticates in one way: an entry with two does not parse.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use url::Url;

use super::reference::text;
use super::secret::{Secret, Setting};
use crate::literal_secret::wrong_in_address;

/// OAuth 2 client credentials, RFC 6749, section 4.4.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCredentials {
    /// The client.
    pub client_id: Setting,
    /// Its secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Its key (PEM, PKCS#8) in place of a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Secret>,
    /// The key's id at the authorization server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// With what the key signs.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How the client authenticates; by default what the authorization server takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
    /// Where tokens are to be had; found by itself if it is not given.
    #[serde(default, deserialize_with = "address", skip_serializing_if = "Option::is_none")]
    pub token_url: Option<Url>,
    /// The authorization server whose metadata are trusted; by default the one that the server names.
    #[serde(default, deserialize_with = "address", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<Url>,
    /// What the token is asked for: a list, or one text with blanks.
    #[serde(default, alias = "scope", deserialize_with = "scopes")]
    pub scopes: Vec<String>,
    /// Whom the token is for, where the authorization server wants that as `audience` (Auth0 and others, before RFC 8707).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The resource indicator (RFC 8707) in place of the server's address; `none` sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Whether scopes that the server asks for later may be added.
    #[serde(default = "yes")]
    pub step_up: bool,
}

/// How a client authenticates at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
    /// `private_key_jwt`, RFC 7523.
    PrivateKeyJwt,
}

/// With what a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Algorithm {
    /// ECDSA on P-256.
    #[default]
    Es256,
    /// RSA PKCS#1 v1.5.
    Rs256,
}

/// A user of an Amazon Cognito user pool, logged in by `USER_PASSWORD_AUTH`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cognito {
    /// The pool's id; it begins with its region.
    pub user_pool_id: Setting,
    /// The app client.
    pub client_id: Setting,
    /// The app client's secret, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// The user.
    pub username: Setting,
    /// The password.
    pub password: Secret,
    /// In place of the region's endpoint, for example a VPC endpoint.
    #[serde(default, deserialize_with = "address", skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Url>,
}

impl ClientCredentials {
    pub(super) fn checked(self) -> Result<Self, String> {
        let wrong = match (&self.client_secret, &self.private_key, self.client_auth) {
            (None, None, _) => "has neither `client_secret` nor `private_key`; give one of them",
            (Some(_), Some(_), _) => "has both `client_secret` and `private_key`; leave one of them out",
            (Some(_), None, Some(ClientAuth::PrivateKeyJwt)) => {
                "field `client_auth` is `private_key_jwt`; give `private_key` in place of `client_secret`"
            }
            (None, Some(_), Some(ClientAuth::Basic | ClientAuth::Post)) => {
                "field `client_auth` needs `client_secret` in place of `private_key`"
            }
            (Some(_), None, Some(ClientAuth::Basic | ClientAuth::Post) | None)
            | (None, Some(_), Some(ClientAuth::PrivateKeyJwt) | None) => "",
        };
        if !wrong.is_empty() {
            return Err(wrong.to_owned());
        }
        if !self.scopes.iter().all(|scope| is_scope(scope)) {
            return Err(
                "field `scopes` has an entry that is no scope; give one scope an entry, without blanks"
                    .to_owned(),
            );
        }
        Ok(self)
    }
}

/// A list of scopes, or the text that a token request carries, in which blanks stand between them.
pub fn scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => {
            let text = |scope: Value| match scope {
                Value::String(text) => Some(text),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
            };
            let list: Option<Vec<_>> = list.into_iter().map(text).collect();
            list.ok_or_else(|| D::Error::custom("is not a list of texts; give one scope an entry"))
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            Err(D::Error::custom("is neither a list of texts nor a text"))
        }
    }
}

/// RFC 6749, section 3.3: one scope token.
pub fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\')
}

/// Where something is asked for, read without ever repeating it in an error.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let url = Url::parse(&text(deserializer)?)
        .map_err(|problem| D::Error::custom(format_args!("is not a URL: {problem}")))?;
    check_address(&url).map_err(D::Error::custom)?;
    Ok(Some(url))
}

/// Refuses an address where nothing could be asked for, or that would tell a password.
pub fn check_address(url: &Url) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("is not an http or https address".to_owned());
    }
    wrong_in_address(url).map_or(Ok(()), Err)
}

const fn yes() -> bool {
    true
}
