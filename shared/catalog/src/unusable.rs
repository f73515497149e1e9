//! What a catalog names but cannot have called, and what it leaves out: each with its place and the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::CatalogError;
use toolfleet_core::credential::Sensitive;
use toolfleet_core::ids::{ServerId, ToolId};

/// A tool or server that is registered but cannot be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotExecutable {
    /// Its place in the catalog.
    pub entry: String,
    /// What is in the way, and the remedy. It holds no value of the entry.
    pub reason: String,
}

/// How the reason of an entry begins that its author has switched off.
pub(crate) const SWITCHED_OFF: &str = "is switched off in the catalog";

impl NotExecutable {
    /// Whether the catalog wants it so.
    pub fn is_switched_off(&self) -> bool {
        self.reason.starts_with(SWITCHED_OFF)
    }
}

/// What a catalog says that has no effect here, or another one than its author may expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Its place in the catalog.
    pub entry: String,
    /// What becomes of it. It holds no value of the entry.
    pub text: String,
}

/// A secret that a catalog writes out and `toolfleet dev` keeps in its own Secrets Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenSecret {
    /// Its name there.
    pub name: String,
    /// Its text.
    pub value: Sensitive,
}

/// All that cannot be called, by id.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unusable {
    pub(crate) servers: BTreeMap<ServerId, Arc<NotExecutable>>,
    pub(crate) tools: BTreeMap<ToolId, Arc<NotExecutable>>,
}

impl Unusable {
    pub(crate) fn add(
        &mut self,
        server: Option<ServerId>,
        tool: Option<ToolId>,
        entry: &str,
        reason: String,
    ) {
        let found = Arc::new(NotExecutable { entry: entry.to_owned(), reason });
        if let Some(id) = server {
            self.servers.entry(id).or_insert_with(|| Arc::clone(&found));
        }
        if let Some(id) = tool {
            self.tools.entry(id).or_insert(found);
        }
    }
}

impl CatalogError {
    /// The sentence for a reason: the field below `entry`, and what is wrong with it.
    pub(crate) fn reason_below(&self, entry: &str) -> String {
        let field = self.entry.strip_prefix(entry).unwrap_or(&self.entry).trim_start_matches('.');
        if field.is_empty() { self.problem.clone() } else { format!("`{field}` {}", self.problem) }
    }
}
