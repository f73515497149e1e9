//! What a list lacks that its servers have.

use std::collections::{BTreeMap, BTreeSet};

/// What a list lacks, by server.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    pub(crate) unlisted: BTreeSet<String>,
    pub(crate) cut: BTreeSet<String>,
    /// Names that clients cannot write, or that lead to another server.
    pub(crate) left_out: BTreeMap<String, BTreeSet<String>>,
}
