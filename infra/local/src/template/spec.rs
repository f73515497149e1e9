//! What a template asks to create.

use std::collections::BTreeMap;

use serde_json::Value;

/// A bucket to create.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketSpec {
    /// The physical name.
    pub name: String,
    /// After how many days its objects end, by a rule of its life cycle.
    pub expires_after_days: Option<u64>,
}

/// A queue to create.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSpec {
    /// The physical name.
    pub name: String,
    /// Attributes as `CreateQueue` takes them.
    pub attributes: BTreeMap<String, String>,
}

/// A table to create.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableSpec {
    /// The physical name.
    pub name: String,
    /// The body of a `CreateTable` request.
    pub create: Value,
    /// The attribute that holds the time to live, in seconds since 1970.
    pub ttl_attribute: Option<String>,
}
