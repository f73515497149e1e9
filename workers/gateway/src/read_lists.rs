//! `prompts/list`, `resources/list` and `resources/templates/list`: what the published servers list, by name or address, a page at a time.
//!
//! **Invariant:** a caller is listed what its own reading is allowed, and nothing under a name that leads elsewhere.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::time::Instant;
use toolfleet_catalog::{Catalog, Published, Server};

use crate::caller::Caller;
use crate::gateway::Gateway;
use crate::lacking::Lacking;
use crate::message::{Answer, Members, Request, raw, shown};
use crate::pages::{after, page};
use crate::server_lists::{LISTS_WITHIN, ListKind, Use};

/// What a caller may read, by published name or address.
#[derive(Default)]
pub(crate) struct Readable {
    pub(crate) entries: BTreeMap<String, Box<RawValue>>,
    lacking: Lacking,
}

impl Gateway {
    /// Answers such a listing.
    pub(crate) async fn list_readable(&self, request: &Request, kind: ListKind) -> Answer {
        let after = after(request)?;
        let catalog = self.catalog();
        let until = request.at + LISTS_WITHIN;
        let Readable { entries, lacking } = self.readable(&catalog, &request.caller, kind, until).await;
        let begin = after.as_deref().map_or(Unbounded, Excluded);
        let rest = entries.range::<str, _>((begin, Unbounded));
        let rest = rest.map(|(name, entry)| (name.as_str(), entry.clone()));
        let (page, mut members) = page(request, rest, self.limits.page);
        members.insert(kind.member().to_owned(), raw(&page));
        Ok(self.finish_list(members, request, &lacking))
    }

    /// All that the caller may read of that kind; a server's list is waited for until then.
    pub(crate) async fn readable(
        &self,
        catalog: &Catalog,
        caller: &Caller,
        kind: ListKind,
        until: Instant,
    ) -> Readable {
        let published = catalog.published();
        let reader = &self.reader(catalog, caller, until);
        let reading = servers(published, kind).into_iter().filter(|server| reader.may_list(server));
        let reading = reading.map(|server| async move {
            (server, reader.lists.of(reader.caller, server, (kind, Use::Shown), reader.until).await)
        });
        let mut found = Readable::default();
        for (server, listed) in futures::future::join_all(reading).await {
            let Ok(listed) = listed else {
                found.lacking.unlisted.insert(server.id.to_string());
                continue;
            };
            let until = &mut found.lacking.until;
            *until = [*until, listed.until].into_iter().flatten().min();
            if listed.is_cut {
                found.lacking.cut.insert(server.id.to_string());
            }
            for (own, entry) in listed.by_name.iter() {
                match renamed(published, kind, server, own, entry) {
                    // Published addresses of several servers differ.
                    Some((name, entry)) => {
                        found.entries.entry(name).or_insert(entry);
                    }
                    None => {
                        let left_out = found.lacking.left_out.entry(server.id.to_string()).or_default();
                        left_out.insert(shown(own));
                    }
                }
            }
        }
        found
    }
}

/// The servers of which that is published.
fn servers(published: &Published, kind: ListKind) -> Vec<&Arc<Server>> {
    match kind {
        ListKind::Tools => published.servers().map(|(_, server)| server).collect(),
        ListKind::Prompts => published.prompts().servers().collect(),
        ListKind::Resources | ListKind::ResourceTemplates => published.resources().servers().collect(),
    }
}

/// An entry under its published name or address; none if that leads elsewhere.
fn renamed(
    published: &Published,
    kind: ListKind,
    server: &Server,
    own: &str,
    entry: &RawValue,
) -> Option<(String, Box<RawValue>)> {
    let name = match kind {
        ListKind::Tools => return None,
        ListKind::Prompts => published.prompts().name_of(server, own)?,
        ListKind::Resources | ListKind::ResourceTemplates => {
            published.resources().uri_of(server, own)?.into_owned()
        }
    };
    if name == own {
        return Some((name, entry.to_owned()));
    }
    let mut members: Members = serde_json::from_str(entry.get()).ok()?;
    members.insert(kind.key().to_owned(), raw(&name));
    Some((name, raw(&members)))
}
