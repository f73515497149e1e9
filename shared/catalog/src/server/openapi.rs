//! A server that is an HTTP interface which an OpenAPI document describes.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};
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
}

impl Interface {
    /// The operations of the document that stands at `place`; `digest` is that of all it was read of.
    pub(super) fn new(place: String, document: Document, digest: Digest) -> Self {
        let names = document.operations.iter().enumerate();
        let by_name = names.map(|(i, operation)| (operation.name.clone(), i)).collect();
        Self { place, document, by_name, digest }
    }

    /// The operation of that name.
    pub fn operation(&self, name: &str) -> Option<&Operation> {
        self.document.operations.get(*self.by_name.get(name)?)
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
