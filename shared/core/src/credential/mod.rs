//! A server's credential as a catalog describes it: its kind, and where each secret is kept, but no secret itself.
//!
//! **Invariant:** a field that is a secret holds a reference into Secrets Manager; a catalog with the value itself does not
//! parse, and the error does not repeat the value.

mod identity;
mod reference;
mod secret;
mod tokens;

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub use identity::{AwsSigv4, ClientCertificate, check_role, named_by_host};
use reference::read;
pub use reference::{SecretRef, Template};
pub use secret::{Secret, Sensitive, Setting};
pub use tokens::{Algorithm, ClientAuth, ClientCredentials, Cognito, is_scope};
pub use tokens::{check_address, scopes};

use crate::literal_secret::wrong_in;

/// The kinds, for errors.
const KINDS: &str = "none, bearer, api_key, basic, headers, oauth2_client_credentials, cognito, aws_sigv4";

/// How workers prove to a server who they are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Credential {
    /// They do not.
    #[default]
    None,
    /// `Authorization: Bearer ..` with a token that somebody else renews.
    Bearer(Bearer),
    /// A key in a header.
    ApiKey(ApiKey),
    /// User and password, RFC 7617.
    Basic(Basic),
    /// Any headers.
    Headers(Headers),
    /// A token from an OAuth 2 authorization server, for the fleet itself.
    #[serde(rename = "oauth2_client_credentials")]
    ClientCredentials(ClientCredentials),
    /// A token from an Amazon Cognito user pool, for a user with a password.
    Cognito(Cognito),
    /// A signature of each request, AWS Signature Version 4.
    #[serde(rename = "aws_sigv4")]
    AwsSigv4(AwsSigv4),
}

/// A token that somebody else renews.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bearer {
    /// The token.
    pub token: SecretRef,
}

/// A key in a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The header's name.
    #[serde(default = "api_key_header")]
    pub header: String,
    /// The key.
    pub key: SecretRef,
}

/// User and password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basic {
    /// The user.
    pub username: Setting,
    /// The password.
    pub password: SecretRef,
}

/// Any headers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Headers {
    /// Names and values; a value may end in a reference, as in `Token secret://name`.
    pub headers: BTreeMap<String, Template>,
}

impl Credential {
    fn read(value: Value) -> Result<Self, String> {
        let Value::Object(mut fields) = value else {
            return Err(format!("is not an object; write {{\"type\": ..}} with one of {KINDS}"));
        };
        let kind = fields.remove("type");
        let Some(kind) = kind.as_ref().and_then(Value::as_str) else {
            return Err(format!("has no `type`; accepted are {KINDS}"));
        };
        match kind.replace('-', "_").as_str() {
            "none" if fields.is_empty() => Ok(Self::None),
            "none" => Err("has the type `none` and other fields beside it; leave them out".to_owned()),
            "bearer" => read(fields).map(Self::Bearer),
            "api_key" => read(fields).and_then(|key: ApiKey| {
                check_header("header", &key.header)?;
                Ok(Self::ApiKey(key))
            }),
            "basic" => read(fields).map(Self::Basic),
            "headers" | "custom_headers" => read(fields).and_then(|headers: Headers| {
                for (name, value) in &headers.headers {
                    check_header("headers", name)?;
                    if let Some(wrong) = wrong_in(name, &value.before, value.secret.is_some()) {
                        return Err(format!("field `headers.{name}` {wrong}"));
                    }
                }
                Ok(Self::Headers(headers))
            }),
            "oauth2_client_credentials" => {
                read(fields).and_then(ClientCredentials::checked).map(Self::ClientCredentials)
            }
            "cognito" => read(fields).map(Self::Cognito),
            "aws_sigv4" => read(fields).and_then(AwsSigv4::checked).map(Self::AwsSigv4),
            _ => Err(format!("has a `type` that is not known; accepted are {KINDS}")),
        }
    }
}

impl<'de> Deserialize<'de> for Credential {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Value::deserialize(deserializer)?)
            .map_err(|problem| D::Error::custom(format!("auth {problem}")))
    }
}

fn check_header(field: &str, name: &str) -> Result<(), String> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if !name.is_empty() && name.chars().all(token) {
        return Ok(());
    }
    Err(format!("field `{field}` names a header that HTTP does not allow; use letters, digits and `-`"))
}

fn api_key_header() -> String {
    "X-API-Key".to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(auth: Value) -> String {
        serde_json::from_value::<Credential>(auth).unwrap_err().to_string()
    }

    #[test]
    fn a_written_secret_is_refused_by_field_and_not_repeated() {
        for auth in [
            json!({"type": "bearer", "token": "sk-live-1"}),
            json!({"type": "api_key", "key": "sk-live-1"}),
            json!({"type": "basic", "username": "u", "password": "sk-live-1"}),
            json!({"type": "headers", "headers": "sk-live-1"}),
            json!({"type": "bearer", "token": ["sk-live-1"]}),
            json!({"type": "sk-live-1"}),
            json!({"type": "oauth2_client_credentials", "client_id": "c", "client_secret": "sk-live-1"}),
            json!({"type": "oauth2_client_credentials", "client_id": "c", "client_secret": "secret://s", "client_auth": "sk-live-1"}),
            json!({"type": "oauth2_client_credentials", "client_id": "c", "client_secret": "secret://s", "token_url": "sk-live-1"}),
            json!({"type": "oauth2_client_credentials", "client_id": "c", "client_secret": "secret://s",
                "token_url": "https://u:sk-live-1@as.example/token"}),
            json!({"type": "cognito", "user_pool_id": "us-east-1_x", "client_id": "c", "username": "u", "password": "sk-live-1"}),
            json!("sk-live-1"),
        ] {
            let error = problem(auth.clone());
            assert!(!error.contains("sk-live"), "{auth}: {error}");
            assert!(error.starts_with("auth "), "{auth}: {error}");
        }
        let error = problem(json!({"type": "basic", "username": "u", "password": "hunter2"}));
        assert!(
            error.contains("`password` is not a reference") && error.contains("`secret://name`"),
            "{error}"
        );
    }

    #[test]
    fn an_error_names_the_field_and_what_is_accepted() {
        for (auth, expected) in [
            (json!({"type": "oauth9"}), "accepted are none, bearer"),
            (json!({"token": "secret://a"}), "has no `type`"),
            (json!({"type": "bearer"}), "missing field `token`"),
            (json!({"type": "bearer", "token": "secret://a", "colour": 1}), "unknown field `colour`"),
            (json!({"type": "bearer", "token": "secret://"}), "`token` is no whole reference"),
            (json!({"type": "api_key", "header": "a b", "key": "secret://a"}), "`header` names a header"),
            (json!({"type": "none", "token": "secret://a"}), "other fields beside it"),
            (json!({"type": "oauth2-client-credentials", "client_id": "c"}), "neither `client_secret`"),
            (
                json!({"type": "oauth2-client-credentials", "client_id": "c", "client_secret": "secret://s", "scopes": ["a b"]}),
                "one scope an entry",
            ),
            (
                json!({"type": "oauth2-client-credentials", "client_id": "c", "client_secret": "secret://s",
                    "client_auth": "private_key_jwt"}),
                "give `private_key`",
            ),
            (json!({"type": "cognito", "user_pool_id": "us-east-1_x"}), "missing field `client_id`"),
        ] {
            let error = problem(auth);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_is_read_is_written_back_the_same() {
        for auth in [
            json!({"type": "none"}),
            json!({"type": "bearer", "token": "secret://crm/token"}),
            json!({"type": "api_key", "header": "X-Key", "key": "secret://crm#key"}),
            json!({"type": "basic", "username": "u", "password": "secret://agents#/0/password"}),
            json!({"type": "headers", "headers": {"A": "Token secret://a#b", "B": "plain"}}),
            json!({"type": "oauth2_client_credentials", "client_id": "c", "private_key": "secret://k", "key_id": "1",
                "algorithm": "RS256", "issuer": "https://as.example/", "scopes": ["a"], "step_up": false}),
            json!({"type": "cognito", "user_pool_id": "us-east-1_x", "client_id": "secret://c#id", "username": "u",
                "password": "secret://c#password"}),
        ] {
            let read: Credential = serde_json::from_value(auth.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), auth);
        }
    }

    #[test]
    fn a_secrets_member_is_picked_by_name_or_pointer() {
        let secret = r#"{"a": "1", "list": [{"b": "2"}], "n": 3}"#;
        let pick = |reference: &str| SecretRef::parse(reference).unwrap().pick(secret);
        assert_eq!(pick("secret://s#a").unwrap(), "1");
        assert_eq!(pick("secret://s#/list/0/b").unwrap(), "2");
        assert_eq!(pick("secret://s").unwrap(), secret);
        assert_eq!(pick("secret://s#n").unwrap_err(), "secret `s` has no text member `n`");
        let error = SecretRef::parse("secret://s#a").unwrap().pick("hunter2").unwrap_err();
        assert_eq!(error, "secret `s` is not JSON, so it has no member `a`");
    }
}
