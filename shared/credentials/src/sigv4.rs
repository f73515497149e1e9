//! Prepares requests for AWS SigV4: which keys, headers, service and region. The keyring computes the signature.
//!
//! **Invariant:** each sending of a request is signed again, over its whole body; a header with a secret is not part of the signed
//! headers, so no log of them shows it.

use std::hash::{BuildHasher as _, RandomState};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};
use toolfleet_core::credential::{AwsSigv4, named_by_host};
use url::Url;

use crate::error::CredentialError;
use crate::keyring::{AwsKeys, Keyring, Role, Unsigned};
use crate::secrets::Secrets;
use crate::static_headers::insert_header;

/// Signs the requests to one server.
#[derive(Debug)]
pub(crate) struct Sigv4 {
    of: AwsSigv4,
    /// The region of the server, where it is given or its host names one.
    region: Option<String>,
    hasher: RandomState,
}

impl Sigv4 {
    pub(crate) fn new(of: AwsSigv4, server: &Url) -> Self {
        let named = || server.host_str().and_then(named_by_host).map(|(_, region)| region);
        let region = of.region.clone().or_else(named);
        Self { of, region, hasher: RandomState::new() }
    }

    /// The keys, and a hash that changes with them.
    pub(crate) async fn keys(
        &self,
        secrets: Secrets<'_>,
        fresh: bool,
    ) -> Result<(AwsKeys, u64), CredentialError> {
        let keys = match (&self.of.access_key_id, &self.of.secret_access_key) {
            (Some(id), Some(of)) => {
                let access_key_id = secrets.setting(id, fresh).await?;
                let secret_access_key = secrets.reference(of, fresh).await?;
                let session_token = match &self.of.session_token {
                    Some(of) => Some(secrets.reference(of, fresh).await?),
                    None => None,
                };
                AwsKeys { access_key_id, secret_access_key, session_token }
            }
            (Some(_) | None, _) => match &self.of.role_arn {
                Some(arn) => {
                    let (external_id, region) = (self.of.external_id.as_deref(), self.region.as_deref());
                    secrets.keyring.role_keys(Role { arn, external_id, region }, fresh).await?
                }
                None => secrets.keyring.aws_keys(fresh).await?,
            },
        };
        secrets.scrubber.add(keys.secret_access_key.expose());
        keys.session_token.iter().for_each(|token| secrets.scrubber.add(token.expose()));
        let parts = (&keys.access_key_id, keys.secret_access_key.expose(), keys.session_token.is_some());
        let token = keys.session_token.as_ref().map(|token| token.expose());
        let version = self.hasher.hash_one((parts, token));
        Ok((keys, version))
    }

    /// Signs a request that is complete except for the signature.
    pub(crate) fn sign(
        &self,
        keyring: &dyn Keyring,
        keys: &AwsKeys,
        (method, url, body): (&str, &Url, &[u8]),
        headers: &mut HeaderMap,
    ) -> Result<(), CredentialError> {
        let named = url.host_str().and_then(named_by_host);
        let (service, region) = named.map_or((None, None), |(service, region)| (Some(service), Some(region)));
        let Some(service) = self.of.service.as_deref().or(service) else {
            let detail = "the host names no service of AWS; give `service` (and `region`) beside `aws_sigv4`";
            return Err(CredentialError::Unavailable { detail: detail.to_owned() });
        };
        let region = self.of.region.as_deref().or(region.as_deref());
        let mut covered = headers.clone();
        let left_out: Vec<HeaderName> = headers
            .iter()
            .filter(|(name, value)| value.is_sensitive() || !is_covered(name))
            .map(|(name, _)| name.clone())
            .collect();
        for name in left_out {
            covered.remove(name);
        }
        let unsigned = Unsigned { method, url, headers: &covered, body, service, region };
        for (name, value) in keyring.aws_sign(keys, &unsigned)? {
            insert_header(headers, &name, &value)?;
        }
        Ok(())
    }
}

/// Headers that no proxy has a reason to change.
fn is_covered(name: &HeaderName) -> bool {
    *name == CONTENT_TYPE || *name == ACCEPT || name.as_str().starts_with("mcp-")
}
