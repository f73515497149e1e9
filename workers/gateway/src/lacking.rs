//! What a list lacks that its servers have, and how long it stays as it is.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// What a list lacks, by server.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    pub(crate) unlisted: BTreeSet<String>,
    pub(crate) cut: BTreeSet<String>,
    /// Names that clients cannot write, or that lead to another server.
    pub(crate) left_out: BTreeMap<String, BTreeSet<String>>,
    /// Until when the servers' lists are used that it is made of.
    pub(crate) until: Option<Instant>,
}
