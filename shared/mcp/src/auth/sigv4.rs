//! Owns what is signed for AWS: which keys, which headers, for which service and region. The signature itself is the keyring's.
//!
//! **Invariant:** a request is signed when it is sent, each time anew, over its whole body; a header that holds a secret is no
//! part of the signature, so that no log of what was signed shows it.

use std::hash::{BuildHasher as _, RandomState};

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};
use toolfleet_core::credential::{AwsSigv4, named_by_host};
use toolfleet_core::fault::Fault;
use url::Url;

use super::fixed::{kept, setting, write};
use super::keyring::{AwsKeys, Keyring, Unsigned};
use super::seen::SecretScrubber;

/// The signing of one server's requests.
#[derive(Debug)]
pub(super) struct Sigv4 {
    of: AwsSigv4,
    hasher: RandomState,
}

impl Sigv4 {
    pub(super) fn new(of: AwsSigv4) -> Self {
        Self { of, hasher: RandomState::new() }
    }

    /// The keys, and a mark that changes with them.
    pub(super) async fn keys(
        &self,
        keyring: &dyn Keyring,
        seen: &SecretScrubber,
        fresh: bool,
    ) -> Result<(AwsKeys, u64), Fault> {
        let keys = match (&self.of.access_key_id, &self.of.secret_access_key) {
            (Some(id), Some(of)) => {
                let access_key_id = setting(keyring, seen, id, fresh).await?;
                let secret_access_key = kept(keyring, seen, of, fresh).await?;
                let session_token = match &self.of.session_token {
                    Some(of) => Some(kept(keyring, seen, of, fresh).await?),
                    None => None,
                };
                AwsKeys { access_key_id, secret_access_key, session_token }
            }
            (Some(_) | None, _) => keyring.aws_keys(fresh).await?,
        };
        seen.add(keys.secret_access_key.expose());
        keys.session_token.iter().for_each(|token| seen.add(token.expose()));
        let parts = (&keys.access_key_id, keys.secret_access_key.expose(), keys.session_token.is_some());
        let token = keys.session_token.as_ref().map(|token| token.expose());
        let mark = self.hasher.hash_one((parts, token));
        Ok((keys, mark))
    }

    /// Signs a request that is complete but for this.
    pub(super) fn sign(
        &self,
        keyring: &dyn Keyring,
        keys: &AwsKeys,
        (method, url, body): (&str, &Url, &[u8]),
        headers: &mut HeaderMap,
    ) -> Result<(), Fault> {
        let named = url.host_str().and_then(named_by_host);
        let (service, region) = named.map_or((None, None), |(service, region)| (Some(service), Some(region)));
        let Some(service) = self.of.service.as_deref().or(service) else {
            let detail = "the host names no service of AWS; give `service` (and `region`) beside `aws_sigv4`";
            return Err(Fault::Credential { detail: detail.to_owned() });
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
            write(headers, &name, &value)?;
        }
        Ok(())
    }
}

/// What nobody on the way has a reason to change.
fn is_covered(name: &HeaderName) -> bool {
    *name == CONTENT_TYPE || *name == ACCEPT || name.as_str().starts_with("mcp-")
}
