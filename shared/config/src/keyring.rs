//! The keyring on AWS: secrets from Secrets Manager, and the process's own identity for SigV4.

use std::fmt;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use toolfleet_aws::identity::{AssumedRole, Identity, Keys, ToSign, signature};
use toolfleet_aws::secrets::Secrets;
use toolfleet_aws::{Aws, AwsError, Clock};
use toolfleet_core::credential::SecretRef;
use toolfleet_credentials::{AwsKeys, CredentialError, Keyring, Role, SecretText, Unsigned};

/// Secrets Manager and the process's own identity.
pub struct AwsKeyring {
    secrets: Secrets,
    identity: Identity,
    clock: Clock,
}

impl AwsKeyring {
    /// What that connection can read.
    pub fn new(aws: &Aws, clock: Clock) -> Self {
        Self { secrets: aws.secrets(), identity: aws.identity(), clock }
    }
}

impl fmt::Debug for AwsKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsKeyring")
    }
}

impl Keyring for AwsKeyring {
    fn secret<'a>(
        &'a self,
        reference: &'a SecretRef,
        fresh: bool,
    ) -> BoxFuture<'a, Result<SecretText, CredentialError>> {
        async move {
            let name = reference.name();
            let read = if fresh { self.secrets.refresh(name).await } else { self.secrets.get(name).await };
            let secret = read.map_err(|error| credential_error(&error))?;
            let text =
                reference.pick(secret.expose()).map_err(|detail| CredentialError::Unavailable { detail })?;
            Ok(SecretText::new(text))
        }
        .boxed()
    }

    fn now_s(&self) -> u64 {
        u64::try_from(self.clock.now().as_ms() / 1000).unwrap_or_default()
    }

    fn aws_keys(&self, fresh: bool) -> BoxFuture<'_, Result<AwsKeys, CredentialError>> {
        async move {
            let keys = self.identity.keys(fresh).await.map_err(|error| credential_error(&error))?;
            Ok(aws_keys(keys))
        }
        .boxed()
    }

    fn role_keys<'a>(
        &'a self,
        role: Role<'a>,
        fresh: bool,
    ) -> BoxFuture<'a, Result<AwsKeys, CredentialError>> {
        async move {
            let role = AssumedRole {
                arn: role.arn.to_owned(),
                external_id: role.external_id.map(str::to_owned),
                region: role.region.map(str::to_owned),
            };
            let keys = self.identity.assumed(&role, fresh).await.map_err(|error| credential_error(&error))?;
            Ok(aws_keys(keys))
        }
        .boxed()
    }

    fn aws_sign(
        &self,
        keys: &AwsKeys,
        request: &Unsigned<'_>,
    ) -> Result<Vec<(String, String)>, CredentialError> {
        let Some(region) = request.region.or_else(|| self.identity.region()) else {
            let detail = "there is no region to sign for; give `region` beside `aws_sigv4`, or AWS_REGION";
            return Err(CredentialError::Unavailable { detail: detail.to_owned() });
        };
        let keys = Keys {
            access_key_id: keys.access_key_id.clone(),
            secret_access_key: keys.secret_access_key.expose().to_owned(),
            session_token: keys.session_token.as_ref().map(|token| token.expose().to_owned()),
        };
        let text = |(name, value): (&'_ http::HeaderName, &'_ http::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let headers: Vec<_> = request.headers.iter().filter_map(text).collect();
        let to_sign = ToSign {
            method: request.method,
            url: request.url.as_str(),
            headers: headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            body: request.body,
            service: request.service,
            region,
            at: self.clock.now(),
        };
        signature(&keys, &to_sign).map_err(|error| credential_error(&error))
    }
}

/// An error of the worker's own access to AWS (expired credentials, a role without the right, an outage) ends no call: the call waits.
/// A secret that the catalog names and that does not exist ends it.
fn credential_error(error: &AwsError) -> CredentialError {
    let detail = error.to_string();
    if error.is_access_or_outage() {
        CredentialError::Pending { detail }
    } else {
        CredentialError::Unavailable { detail }
    }
}

fn aws_keys(keys: Keys) -> AwsKeys {
    AwsKeys {
        access_key_id: keys.access_key_id,
        secret_access_key: SecretText::new(keys.secret_access_key),
        session_token: keys.session_token.map(SecretText::new),
    }
}
