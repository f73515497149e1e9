//! The trait through which credentials read secrets, sign for AWS and get the time.

use std::fmt;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderMap;
use toolfleet_core::credential::SecretRef;
use url::Url;

use crate::error::CredentialError;

/// The text of a secret. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Arc<str>);

impl SecretText {
    /// Wraps the text of a secret.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text, for the code that sends it or signs with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText([redacted])")
    }
}

/// Reads secrets and signs requests for AWS.
pub trait Keyring: fmt::Debug + Send + Sync {
    /// The current text of a secret; `fresh` bypasses caches, because the cached value was refused.
    ///
    /// An error that may pass is [`CredentialError::Pending`], one that an operator must fix [`CredentialError::Unavailable`].
    fn secret<'a>(
        &'a self,
        reference: &'a SecretRef,
        fresh: bool,
    ) -> BoxFuture<'a, Result<SecretText, CredentialError>>;

    /// The time in seconds since 1970, for signatures.
    fn now_s(&self) -> u64;

    /// The keys of the fleet's own AWS identity; `fresh` as above.
    fn aws_keys(&self, fresh: bool) -> BoxFuture<'_, Result<AwsKeys, CredentialError>> {
        let _ = fresh;
        std::future::ready(Err(no_aws())).boxed()
    }

    /// The AWS keys of a role that this process assumes; with `fresh` not from a cache.
    fn role_keys<'a>(
        &'a self,
        role: Role<'a>,
        fresh: bool,
    ) -> BoxFuture<'a, Result<AwsKeys, CredentialError>> {
        let _ = (role, fresh);
        std::future::ready(Err(no_aws())).boxed()
    }

    /// The headers that sign a request for AWS with these keys.
    fn aws_sign(
        &self,
        keys: &AwsKeys,
        request: &Unsigned<'_>,
    ) -> Result<Vec<(String, String)>, CredentialError> {
        let _ = (keys, request);
        Err(no_aws())
    }
}

fn no_aws() -> CredentialError {
    CredentialError::Unavailable { detail: "this process cannot sign for AWS".to_owned() }
}

/// Keys of AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKeys {
    /// The access key, which is a name and no secret.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: SecretText,
    /// The session token of temporary keys.
    pub session_token: Option<SecretText>,
}

/// A request that is to be signed for AWS.
#[derive(Debug)]
pub struct Unsigned<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// Where it goes.
    pub url: &'a Url,
    /// The headers that the signature covers, beside `host`.
    pub headers: &'a HeaderMap,
    /// The body, as it will be sent.
    pub body: &'a [u8],
    /// The service's name in signatures.
    pub service: &'a str,
    /// The region; without one, that of the fleet's own configuration.
    pub region: Option<&'a str>,
}

/// A role to assume.
#[derive(Debug, Clone, Copy)]
pub struct Role<'a> {
    /// Its ARN.
    pub arn: &'a str,
    /// The external id that it asks for.
    pub external_id: Option<&'a str>,
    /// The region of the server, where it is given.
    pub region: Option<&'a str>,
}
