//! The prompts that the gateway offers: `prefix__name`, as the names of tools, or the server's own name where its prefix is empty.

use std::sync::Arc;

use super::prefixes::{Prefixes, SEPARATOR};
use crate::error::{CatalogError, invalid};
use crate::server::Server;

/// The longest name of a prompt at its server, in bytes: that of a request.
const MAX_BYTES: usize = 256;

/// The servers whose prompts are published.
///
/// **Invariant:** a name leads to one server.
#[derive(Debug, Clone, Default)]
pub struct PublishedPrompts(pub(super) Prefixes);

impl PublishedPrompts {
    /// Whether none are published.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The servers.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.0.servers()
    }

    /// The published name of what a server lists as `listed`; none where it leads elsewhere or cannot be asked for.
    pub fn name_of(&self, server: &Server, listed: &str) -> Option<String> {
        if !(1..=MAX_BYTES).contains(&listed.len()) {
            return None;
        }
        let prefix = self.0.of(server)?;
        let name = if prefix.is_empty() { listed.to_owned() } else { format!("{prefix}{SEPARATOR}{listed}") };
        let (found, own) = self.find(&name)?;
        (found.id == server.id && own == listed).then_some(name)
    }

    /// The server of a published name, and the name there.
    pub fn find<'a>(&self, name: &'a str) -> Option<(&Arc<Server>, &'a str)> {
        let prefixed = self.0.prefixed().find_map(|(prefix, server)| {
            let listed = name.strip_prefix(prefix)?.strip_prefix(SEPARATOR)?;
            Some((server, listed))
        });
        let plain = || self.0.plain().map(|server| (server, name));
        prefixed.or_else(plain).filter(|(_, listed)| !listed.is_empty())
    }

    /// Whether no name can be of two servers.
    pub(super) fn check(&self) -> Result<(), CatalogError> {
        for (prefix, server) in self.0.prefixed() {
            let beginning = format!("{prefix}{SEPARATOR}");
            let others = self.0.prefixed().filter(|(other, _)| *other != prefix);
            if let Some((other, _)) =
                others.into_iter().find(|(other, _)| format!("{other}{SEPARATOR}").starts_with(&beginning))
            {
                let text = format!(
                    "the prefix `{other}` begins as the names of the server `{}` with the prefix `{prefix}`; give one of them another name",
                    server.id
                );
                return Err(invalid("publish.prompts", text));
            }
        }
        Ok(())
    }
}
