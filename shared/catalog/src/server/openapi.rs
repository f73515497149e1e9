//! A server that is an HTTP interface which an OpenAPI document describes.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use toolfleet_core::credential::Sensitive;
use toolfleet_core::digest::Digest;

use super::http::HttpTransport;
use crate::import::openapi::{Document, Operation, Selection};

/// An HTTP interface that an OpenAPI document describes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpenApiTransport {
    /// The address of the interface, and its credentials.
    #[serde(flatten)]
    pub http: HttpTransport,
    /// Which operations are taken.
    #[serde(skip_serializing_if = "Selection::is_empty")]
    pub include: Selection,
    /// Which of them are left out again.
    #[serde(skip_serializing_if = "Selection::is_empty")]
    pub exclude: Selection,
    /// The header that carries the call's key, where the interface does nothing twice that has one key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Parameters that every request has in its query. A value may end in `secret://name` or `secret://name#key`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, Sensitive>,
    /// Its operations. It is written as the place of the document.
    #[serde(rename = "openapi", serialize_with = "place")]
    pub interface: Arc<Interface>,
}

/// The operations of a document. They are compared by what they were read of.
pub struct Interface {
    /// The place of the document, as the catalog names it; `inline` where the catalog holds it.
    pub place: String,
    /// The document.
    pub document: Document,
    by_name: HashMap<String, usize>,
    digest: Digest,
    /// The digest of what the catalog says of it: all it was read of, without the text of the document.
    entry: Digest,
    /// What it lists, once that was asked for.
    listed: OnceLock<Arc<HashMap<String, Box<RawValue>>>>,
}

impl Interface {
    /// The operations of the document that stands at `place`; `digest` is that of all it was read of, and `entry` of all but the document.
    pub(super) fn new(place: String, document: Document, digest: Digest, entry: Digest) -> Self {
        let names = document.operations.iter().enumerate();
        let by_name = names.map(|(i, operation)| (operation.name.clone(), i)).collect();
        Self { place, document, by_name, digest, entry, listed: OnceLock::new() }
    }

    /// Whether the catalog said the same of it.
    pub(super) fn is_of(&self, entry: &Digest) -> bool {
        self.entry == *entry
    }

    /// The digest of what it was read of: the document, and what the catalog says of it.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether what it lists was written.
    #[cfg(test)]
    pub(crate) fn has_listed(&self) -> bool {
        self.listed.get().is_some()
    }

    /// The operation of that name.
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.document.operations.get(*self.by_name.get(name)?)
    }

    /// Each operation by its name, as an MCP server lists its tools. They are written once: a large document has many.
    pub fn listed(&self) -> &Arc<HashMap<String, Box<RawValue>>> {
        self.listed.get_or_init(|| {
            let entry = |one: &Operation| {
                let entry = serde_json::value::to_raw_value(&one.listed()).unwrap_or_default();
                (one.name.clone(), entry)
            };
            Arc::new(self.document.operations.iter().map(entry).collect())
        })
    }

    /// The names of its operations, in the document's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.document.operations.iter().map(|operation| operation.name.as_str())
    }
}

impl fmt::Debug for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interface({}, {} operations)", self.place, self.document.operations.len())
    }
}

impl PartialEq for Interface {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

/// An interface is written as the place of its document.
fn place<S: Serializer>(interface: &Arc<Interface>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&interface.place)
}
