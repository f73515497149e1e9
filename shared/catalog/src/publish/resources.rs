//! The resources that the gateway offers, and their addresses there.
//!
//! Where several servers publish resources, the prefix of its server stands in each address, behind the scheme: `ui://app/view` of the
//! server `crm` is `ui://crm~/app/view`, and `note:1` is `note:crm~/1`. The scheme stays, because clients choose by it what they do with a
//! resource. Addresses with `http` and `https` stay as they are: clients fetch them by themselves. No list is needed to know whose an address
//! is, so a server cannot take over another one's addresses by listing them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use toolfleet_core::ids::ServerId;

use super::prefixes::Prefixes;
use crate::server::Server;

/// Behind the prefix in an address. It is allowed in a host name, and no host name ends so.
const MARK: &str = "~/";

/// The servers whose resources are published.
///
/// **Invariant:** an address leads to one server, and the published address of what a server names leads back to it, or is fetched by clients
/// themselves.
#[derive(Debug, Clone, Default)]
pub struct PublishedResources {
    pub(super) servers: Prefixes,
    /// The servers whose updates clients are told.
    pub(super) subscribable: HashSet<ServerId>,
}

impl PublishedResources {
    /// Whether none are published.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Whether clients are told of updates of any resource.
    pub fn has_subscriptions(&self) -> bool {
        !self.subscribable.is_empty()
    }

    /// Whether clients are told of updates of the server's resources.
    pub fn is_subscribable(&self, server: &Server) -> bool {
        self.subscribable.contains(&server.id)
    }

    /// The servers.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.servers.servers()
    }

    /// The published address of what a server names so, or the published template of its template; none where the server publishes no
    /// resources, or the address leads to another server.
    pub fn uri_of<'a>(&self, server: &Server, uri: &'a str) -> Option<Cow<'a, str>> {
        let prefix = self.servers.of(server)?;
        if prefix.is_empty() {
            return self
                .find(uri)
                .is_some_and(|(found, _)| found.id == server.id)
                .then_some(Cow::Borrowed(uri));
        }
        if is_fetched(uri) {
            return Some(Cow::Borrowed(uri));
        }
        let (head, rest) = split(uri);
        Some(Cow::Owned(format!("{head}{prefix}{MARK}{rest}")))
    }

    /// The server of a published address, and the address there.
    pub fn find<'a>(&self, uri: &'a str) -> Option<(&Arc<Server>, Cow<'a, str>)> {
        let (head, rest) = split(uri);
        let prefixed = rest.split_once(MARK).and_then(|(prefix, rest)| {
            let server = self.servers.server(prefix).filter(|_| !prefix.is_empty())?;
            Some((server, Cow::Owned(format!("{head}{rest}"))))
        });
        prefixed.or_else(|| self.servers.plain().map(|server| (server, Cow::Borrowed(uri))))
    }
}

/// Whether clients fetch such an address by themselves.
fn is_fetched(uri: &str) -> bool {
    let (head, _) = split(uri);
    head.eq_ignore_ascii_case("http://") || head.eq_ignore_ascii_case("https://")
}

/// The scheme with what ends it, and the rest. What begins with no scheme, such as `{+uri}`, is rest.
fn split(uri: &str) -> (&str, &str) {
    let mut chars = uri.char_indices();
    let begins = chars.next().is_some_and(|(_, first)| first.is_ascii_alphabetic());
    let end = chars.find(|(_, c)| !(c.is_ascii_alphanumeric() || "+.-".contains(*c)));
    let Some((at, ':')) = end.filter(|_| begins) else { return ("", uri) };
    let rest = uri.get(at + 1..).unwrap_or_default();
    let slashes = if rest.starts_with("//") { 2 } else { 0 };
    uri.split_at(at + 1 + slashes)
}
