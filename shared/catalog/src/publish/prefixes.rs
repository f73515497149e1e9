//! The servers of which something is published, by the prefix of its names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{CatalogError, invalid};
use crate::server::Server;

/// Between the prefix of a published name and a function's own name.
pub(super) const SEPARATOR: &str = "__";

/// Servers by prefix. One of them may have an empty prefix: its names are as the server gives them.
///
/// **Invariant:** two prefixes differ in more than the case of their letters, because clients may write addresses in lower case.
#[derive(Debug, Clone, Default)]
pub(super) struct Prefixes(BTreeMap<String, (String, Arc<Server>)>);

impl Prefixes {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(
        &mut self,
        place: &str,
        prefix: &str,
        server: &Arc<Server>,
    ) -> Result<(), CatalogError> {
        match self.0.insert(prefix.to_ascii_lowercase(), (prefix.to_owned(), Arc::clone(server))) {
            None => Ok(()),
            Some((_, other)) => Err(clash(place, prefix, &format!("server `{}`", other.id))),
        }
    }

    /// The servers, by prefix.
    pub(super) fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.0.values().map(|(_, server)| server)
    }

    /// The prefix of the server's names; none where nothing of it is published.
    pub(super) fn of(&self, server: &Server) -> Option<&str> {
        self.0.values().find(|(_, one)| one.id == server.id).map(|(prefix, _)| prefix.as_str())
    }

    /// The server of that prefix, whatever the case of its letters.
    pub(super) fn server(&self, prefix: &str) -> Option<&Arc<Server>> {
        self.0.get(&prefix.to_ascii_lowercase()).map(|(_, server)| server)
    }

    /// The server whose names are as it gives them.
    pub(super) fn plain(&self) -> Option<&Arc<Server>> {
        self.server("")
    }

    /// The servers that have a prefix, with it.
    pub(super) fn prefixed(&self) -> impl Iterator<Item = (&str, &Arc<Server>)> {
        self.0
            .values()
            .filter(|(prefix, _)| !prefix.is_empty())
            .map(|(prefix, server)| (prefix.as_str(), server))
    }
}

/// The error of a name that something else has already.
pub(super) fn clash(place: &str, name: &str, other: &str) -> CatalogError {
    invalid(place, format!("has the name `{name}`, which {other} has already; give one of them another name"))
}
