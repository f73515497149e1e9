//! The cache of servers' lists of tools: each list is read once and looked up by every call.
//!
//! A tool's definition is the digest of its whole entry, so that every change of it is seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use toolfleet_catalog::{InputSchema, Pin};
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_mcp::{Fault, Freshness, RemoteTool, ToolList};

use crate::blocking::{LARGE_BYTES, run_blocking};

/// The cache TTL of a list whose server gives none.
const LIST_CACHE_TTL: Duration = Duration::from_mins(5);
/// The shortest one: a server that wants to be asked at every call (`ttlMs` 0, the default of some) would double its own load.
const SHORTEST_TTL: Duration = Duration::from_secs(10);
/// The longest one: a longer time, which is the server's own choice, would hide for too long that a pinned tool has changed.
const LONGEST_TTL: Duration = LIST_CACHE_TTL;

/// How long a list is cached.
pub(super) fn time_to_live(freshness: Freshness) -> Duration {
    freshness.for_ms.map_or(LIST_CACHE_TTL, |ms| Duration::from_millis(ms).clamp(SHORTEST_TTL, LONGEST_TTL))
}

/// The most lists, and the most bytes of their texts together.
const MOST_LISTS: usize = 1_000;
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// How long reading a list may take.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Whose list it is: of a server for one tenant, or for all.
pub(super) type ListKey = (ServerId, Option<Tenant>);

/// The lists that a worker has cached.
#[derive(Debug, Default)]
pub(super) struct Listings {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    lists: HashMap<ListKey, (Instant, Arc<Listing>)>,
    bytes: usize,
}

impl Kept {
    fn remove(&mut self, key: &ListKey) {
        if let Some((_, list)) = self.lists.remove(key) {
            self.bytes = self.bytes.saturating_sub(list.bytes);
        }
    }
}

impl Listings {
    /// The list of that key, unless its time is over.
    pub(super) fn get(&self, key: &ListKey) -> Option<Arc<Listing>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.lists.get(key).filter(|(until, _)| *until > Instant::now()).map(|(_, list)| Arc::clone(list))
    }

    /// Keeps a list for that long. Those that end first make room for it.
    pub(super) fn keep(&self, key: ListKey, list: Arc<Listing>, good_for: Duration) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.remove(&key);
        while kept.lists.len() >= MOST_LISTS || kept.bytes.saturating_add(list.bytes) > MOST_BYTES {
            let first = kept.lists.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| key.clone());
            let Some(first) = first else { break };
            kept.remove(&first);
        }
        kept.bytes = kept.bytes.saturating_add(list.bytes);
        kept.lists.insert(key, (Instant::now() + good_for, list));
    }

    /// Forgets all that is kept.
    pub(super) fn clear(&self) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }

    /// Reads a server's answer, off the runtime where it is large. No schema is compiled.
    pub(super) async fn read(list: ToolList) -> Result<Listing, Fault> {
        let ToolList { tools, whole, .. } = list;
        let bytes: usize = tools.iter().map(|tool| tool.raw.get().len()).sum();
        let read = if bytes < LARGE_BYTES {
            Some(Listing::of(&tools, whole))
        } else {
            run_blocking(READ_WITHIN, move || Listing::of(&tools, whole)).await
        };
        read.ok_or_else(|| Fault::InvalidAnswer {
            detail: format!("the list of tools takes more than {} s to read", READ_WITHIN.as_secs()),
        })
    }
}

/// A server's tools.
#[derive(Debug, Default)]
pub(super) struct Listing {
    names: Vec<String>,
    tools: HashMap<String, ListedTool>,
    /// How long the entries were.
    bytes: usize,
    /// Whether the server may have others.
    cut: bool,
}

/// One of them.
#[derive(Debug)]
pub(super) struct ListedTool {
    /// The digest of its entry.
    pub(super) definition: Pin,
    /// Whether its server says that running it twice does no harm.
    pub(super) repeatable: bool,
    /// What its arguments must fit. A schema that does not compile is left to the server, which checks them itself.
    pub(super) schema: Option<InputSchema>,
}

impl Listing {
    /// What matters of a server's answer. Of two tools with one name the first counts.
    fn of(remote: &[RemoteTool], whole: bool) -> Self {
        let mut listing = Self { cut: !whole, ..Self::default() };
        for tool in remote {
            listing.bytes = listing.bytes.saturating_add(tool.raw.get().len());
            if listing.tools.contains_key(&tool.name) {
                continue;
            }
            // An entry that is nested too deeply to be a value is known by its text.
            let entry = serde_json::from_str(tool.raw.get()).unwrap_or_else(|_| Value::from(tool.raw.get()));
            let listed = ListedTool {
                definition: Pin::of_listed(&entry),
                repeatable: tool.read_only || tool.idempotent,
                schema: (!tool.input_schema.is_null()).then(|| InputSchema::unchecked(&tool.input_schema)),
            };
            listing.names.push(tool.name.clone());
            listing.tools.insert(tool.name.clone(), listed);
        }
        listing
    }

    /// How many tools were read.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether the server may have tools that were not read, because its list is too long or does not end.
    pub(super) const fn is_cut(&self) -> bool {
        self.cut
    }

    /// The tool of that name.
    pub(super) fn tool(&self, name: &str) -> Option<&ListedTool> {
        self.tools.get(name)
    }

    /// The first `most` names, in the server's order.
    pub(super) fn names(&self, most: usize) -> Vec<&str> {
        self.names.iter().take(most).map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(bytes: usize) -> Arc<Listing> {
        Arc::new(Listing { bytes, ..Listing::default() })
    }

    fn key(n: usize) -> ListKey {
        (ServerId::parse(format!("s{n}")).unwrap(), None)
    }

    #[tokio::test(start_paused = true)]
    async fn kept_lists_are_bounded_in_bytes_and_in_time() {
        let listings = Listings::default();
        for n in 0..100 {
            listings.keep(key(n), list(MOST_BYTES / 10), Duration::from_secs(60 + n as u64));
        }
        let kept = (0..100).filter(|n| listings.get(&key(*n)).is_some()).count();
        assert_eq!(kept, 10);
        assert!(listings.get(&key(99)).is_some(), "the newest stays");
        listings.keep(key(99), list(1), Duration::from_secs(60));
        assert!(listings.kept.lock().unwrap().bytes < MOST_BYTES);
        tokio::time::advance(Duration::from_secs(1_000)).await;
        assert!(listings.get(&key(99)).is_none());
    }
}
