//! [`Given`]: the credentials that a catalog gives.

use std::collections::BTreeSet;

use toolfleet_core::credential::Credential;

/// What credentials the catalog gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// The names of its headers, in small letters.
    pub headers: BTreeSet<String>,
    /// The names of the parameters that it adds to the query.
    pub query: BTreeSet<String>,
    /// Whether it has `auth` of a kind that makes the header `Authorization`.
    pub auth: bool,
    /// Whether it has a `client_certificate`.
    pub certificate: bool,
}

impl Given {
    /// The same with what an `auth` gives: a key or headers of any name, else the header `Authorization`.
    #[must_use]
    pub fn with(mut self, auth: &Credential) -> Self {
        match auth {
            Credential::None => {}
            Credential::ApiKey(key) => drop(self.headers.insert(key.header.to_ascii_lowercase())),
            Credential::Headers(headers) => {
                self.headers.extend(headers.headers.keys().map(|name| name.to_ascii_lowercase()));
            }
            Credential::Bearer(_)
            | Credential::Basic(_)
            | Credential::ClientCredentials(_)
            | Credential::Cognito(_)
            | Credential::AwsSigv4(_) => self.auth = true,
        }
        self
    }
}
