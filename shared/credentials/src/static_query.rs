//! Credentials in the query of an address. They are added to a request that is about to leave, so that whatever names an address names it
//! without them. Errors name the parameter, never its value.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};

use futures::future::try_join_all;
use toolfleet_core::credential::Template;
use url::{Url, form_urlencoded};

use crate::error::CredentialError;
use crate::secrets::Secrets;
use crate::static_headers::fill;

/// Parameters whose values come from the catalog and from secrets.
#[derive(Default)]
pub(crate) struct StaticQuery {
    parameters: Vec<(String, Template)>,
    hasher: RandomState,
}

impl fmt::Debug for StaticQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parameters.iter().map(|(name, _)| name)).finish()
    }
}

impl StaticQuery {
    pub(crate) fn new(parameters: Vec<(String, Template)>) -> Self {
        Self { parameters, hasher: RandomState::new() }
    }

    async fn values(&self, secrets: Secrets<'_>, fresh: bool) -> Result<Vec<String>, CredentialError> {
        try_join_all(self.parameters.iter().map(|(_, value)| fill(secrets, value, fresh))).await
    }

    /// A hash that changes with the values; 0 where there are none.
    pub(crate) async fn version(&self, secrets: Secrets<'_>, fresh: bool) -> Result<u64, CredentialError> {
        if self.parameters.is_empty() {
            return Ok(0);
        }
        Ok(self.hasher.hash_one(self.values(secrets, fresh).await?))
    }

    /// Writes the parameters into the address. What the address says under their names is replaced: nobody else chooses a credential.
    pub(crate) async fn write(&self, secrets: Secrets<'_>, url: &mut Url) -> Result<(), CredentialError> {
        if self.parameters.is_empty() {
            return Ok(());
        }
        let values = self.values(secrets, false).await?;
        let is_ours = |piece: &str| {
            let name = form_urlencoded::parse(piece.as_bytes()).next().map(|(name, _)| name);
            name.is_some_and(|name| self.parameters.iter().any(|(ours, _)| *ours == name))
        };
        let kept =
            url.query().unwrap_or_default().split('&').filter(|piece| !piece.is_empty() && !is_ours(piece));
        let kept = kept.collect::<Vec<_>>().join("&");
        url.set_query(Some(&kept).filter(|kept| !kept.is_empty()).map(String::as_str));
        let mut query = url.query_pairs_mut();
        for ((name, _), value) in self.parameters.iter().zip(&values) {
            query.append_pair(name, value);
        }
        Ok(())
    }
}
