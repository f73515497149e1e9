//! [`Given`]: the credentials that a catalog gives.

use std::collections::BTreeSet;

/// What credentials the catalog gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// The names of its headers, in small letters.
    pub headers: BTreeSet<String>,
    /// The names of the parameters that it adds to the query.
    pub query: BTreeSet<String>,
    /// Whether it has `auth` of some kind, which makes the header `Authorization`.
    pub auth: bool,
    /// Whether it has a `client_certificate`.
    pub certificate: bool,
}
