//! The resources that the gateway offers, and their addresses there.
//!
//! Where several servers publish resources, the prefix of its server stands in each address, behind the scheme: `ui://app/view` of the
//! server `crm` is `ui://crm~/app/view`, `note:1` is `note:crm~/1`, and `file:///x` is `file://crm~/~/x`. The scheme stays, because clients choose
//! by it what they do with a resource. Links with `http` and `https` stay as they are: clients fetch them by themselves. No list is needed to know whose an address
//! is, so a server cannot take over another one's addresses by listing them.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use toolfleet_core::ids::ServerId;

use super::prefixes::Prefixes;
use crate::server::Server;

/// Behind the prefix in an address. It is allowed in a host name, and no host name ends so.
const MARK: &str = "~/";
/// Stands before what begins with no letter and no digit, such as an empty authority.
const KEPT: &str = "~";
/// Stands before what follows its scheme without slashes, where parsers would write some.
const NO_SLASHES: &str = ":";
/// The scheme of what has none at the server, such as the template `{+uri}`.
const NO_SCHEME: &str = "toolfleet:";

/// The servers whose resources are published.
///
/// **Invariant:** an address leads to one server, and the published address of what a server names leads back to it. A link leads there too, or is
/// fetched by clients themselves.
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

    /// The published address of what a server names so, or the published template of its template: it leads back to it. None where the server
    /// publishes no resources, or the address leads to another server.
    pub fn uri_of<'a>(&self, server: &Server, uri: &'a str) -> Option<Cow<'a, str>> {
        let prefix = self.servers.of(server)?;
        if prefix.is_empty() {
            return self
                .find(uri)
                .is_some_and(|(found, _)| found.id == server.id)
                .then_some(Cow::Borrowed(uri));
        }
        Some(Cow::Owned(published(prefix, uri)))
    }

    /// Where a link leads in an answer of the server: to its published address, or, where clients fetch it by themselves, as it is. None where
    /// it cannot be read, or would lead to another server. Without a server, which stands for one whose resources the caller may not read, only
    /// the latter remain.
    pub fn link_of<'a>(&self, server: Option<&Server>, uri: &'a str) -> Option<Cow<'a, str>> {
        if !is_fetched(uri) {
            return self.uri_of(server?, uri);
        }
        let is_own = |found: &Arc<Server>| server.is_some_and(|server| server.id == found.id);
        let leads_elsewhere = self.prefixed(uri).is_some_and(|(found, _)| !is_own(found));
        (!leads_elsewhere).then_some(Cow::Borrowed(uri))
    }

    /// An address in place of one that would lead to another server than that which named it: it leads to none.
    pub fn nowhere(uri: &str) -> String {
        format!("{NO_SCHEME}{MARK}{uri}")
    }

    /// The server of a published address, and the address there.
    pub fn find<'a>(&self, uri: &'a str) -> Option<(&Arc<Server>, Cow<'a, str>)> {
        let plain = || self.servers.plain().map(|server| (server, Cow::Borrowed(uri)));
        self.prefixed(uri).or_else(|| plain().filter(|_| !is_nowhere(uri)))
    }

    /// The same by the prefix in the address alone.
    fn prefixed<'a>(&self, uri: &'a str) -> Option<(&Arc<Server>, Cow<'a, str>)> {
        let (head, rest) = split(uri);
        let (prefix, rest) = rest.split_once(MARK)?;
        let server = self.servers.server(prefix).filter(|_| !prefix.is_empty())?;
        Some((server, Cow::Owned(own(head, rest))))
    }
}

/// Whether it is an address that leads nowhere.
fn is_nowhere(uri: &str) -> bool {
    let (head, rest) = split(uri);
    head.eq_ignore_ascii_case(NO_SCHEME) && rest.starts_with(MARK)
}

/// The address with the prefix of its server. URL parsers, through which clients send addresses, leave it as it is.
fn published(prefix: &str, uri: &str) -> String {
    let (head, rest) = split(uri);
    if head.is_empty() || is_of(head, NO_SCHEME) {
        return format!("{NO_SCHEME}{prefix}{MARK}{uri}");
    }
    if head.ends_with("//") {
        // Parsers drop an empty segment of a path, and one of dots.
        let kept = if rest.starts_with(|first: char| first.is_ascii_alphanumeric()) { "" } else { KEPT };
        return format!("{head}{prefix}{MARK}{kept}{rest}");
    }
    if has_authority(head) {
        return format!("{head}//{prefix}{MARK}{NO_SLASHES}{rest}");
    }
    format!("{head}{prefix}{MARK}{rest}")
}

/// The address at the server: of the scheme of a published one, and what stands behind the prefix.
fn own(head: &str, rest: &str) -> String {
    if head.eq_ignore_ascii_case(NO_SCHEME) {
        return rest.to_owned();
    }
    let Some(scheme) = head.strip_suffix("//") else { return format!("{head}{rest}") };
    match (rest.strip_prefix(KEPT), rest.strip_prefix(NO_SLASHES)) {
        (Some(rest), _) => format!("{head}{rest}"),
        (None, Some(rest)) if has_authority(scheme) => format!("{scheme}{rest}"),
        (None, _) => format!("{head}{rest}"),
    }
}

/// Whether the head is of that scheme, with or without slashes.
fn is_of(head: &str, scheme: &str) -> bool {
    head.trim_end_matches('/').eq_ignore_ascii_case(scheme)
}

/// Whether URL parsers write `//` behind the scheme.
fn has_authority(head: &str) -> bool {
    ["file:", "http:", "https:", "ws:", "wss:", "ftp:"].into_iter().any(|scheme| is_of(head, scheme))
}

/// Whether clients fetch such an address by themselves.
fn is_fetched(uri: &str) -> bool {
    let (head, _) = split(uri);
    head.ends_with("//") && (is_of(head, "http:") || is_of(head, "https:"))
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
