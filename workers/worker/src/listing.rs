//! Owns what a worker remembers of a server's list of tools: made once per listing, looked up by every call.
//!
//! **Invariant:** a tool's definition is the digest of its whole entry, so nothing of it changes unseen.

use std::collections::HashMap;

use std::time::Duration;

use serde_json::Value;
use toolfleet_core::catalog::{InputSchema, Pin};
use toolfleet_mcp::{Freshness, RemoteTool};

/// How long a list is believed whose server says nothing of that.
pub(crate) const BELIEVED_FOR: Duration = Duration::from_mins(5);
/// A server that wants to be asked at every call (`ttlMs` 0, which some say by default) would double its own load.
const AT_LEAST: Duration = Duration::from_secs(10);
/// A longer time would hide for too long that a pinned tool has changed: it is a server's own word how long it is believed.
const AT_MOST: Duration = BELIEVED_FOR;

/// How long a list is believed.
pub(crate) fn believed_for(freshness: Freshness) -> Duration {
    freshness.for_ms.map_or(BELIEVED_FOR, |ms| Duration::from_millis(ms).clamp(AT_LEAST, AT_MOST))
}

/// A server's tools.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    names: Vec<String>,
    tools: HashMap<String, ListedTool>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct ListedTool {
    /// The digest of its entry.
    pub(crate) definition: Pin,
    /// Whether its server says that running it twice does no harm.
    pub(crate) repeatable: bool,
    /// What its arguments must fit. A schema that does not compile is the server's own affair: it will judge them itself.
    pub(crate) schema: Option<InputSchema>,
}

impl Listing {
    /// What matters of a server's answer. Of two tools with one name the first counts.
    pub(crate) fn of(remote: &[RemoteTool]) -> Self {
        let mut listing = Self::default();
        for tool in remote {
            if listing.tools.contains_key(&tool.name) {
                continue;
            }
            let entry = serde_json::from_str(tool.raw.get()).unwrap_or(Value::Null);
            let listed = ListedTool {
                definition: Pin::of_listed(&entry),
                repeatable: tool.read_only || tool.idempotent,
                schema: InputSchema::compile(&tool.input_schema).ok(),
            };
            listing.names.push(tool.name.clone());
            listing.tools.insert(tool.name.clone(), listed);
        }
        listing
    }

    /// The tool of that name.
    pub(crate) fn tool(&self, name: &str) -> Option<&ListedTool> {
        self.tools.get(name)
    }

    /// The first `most` names, in the server's order.
    pub(crate) fn names(&self, most: usize) -> Vec<&str> {
        self.names.iter().take(most).map(String::as_str).collect()
    }
}
