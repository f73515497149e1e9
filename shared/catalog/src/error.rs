//! The error of a catalog: the place of the entry, what is wrong there, and the remedy.

use serde_json::Value;
use toolfleet_core::batch::BatchRule;
use toolfleet_core::cache::CacheRule;

/// What is wrong with a catalog: the entry, its field, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("catalog: {entry}: {problem}")]
pub struct CatalogError {
    pub(crate) entry: String,
    pub(crate) problem: String,
}

/// The error of the entry at that place.
pub(crate) fn invalid(entry: &str, text: impl Into<String>) -> CatalogError {
    CatalogError { entry: entry.to_owned(), problem: text.into() }
}

/// The rule that the field `cache` of an entry writes.
pub(crate) fn cache_rule(entry: &str, written: &Value) -> Result<Option<CacheRule>, CatalogError> {
    CacheRule::parse(written)
        .map_err(|wrong| invalid(&format!("{entry}.cache{}", wrong.place), wrong.problem))
}

/// The rule that the field `batch` of an entry writes.
pub(crate) fn batch_rule(entry: &str, written: &Value) -> Result<Option<BatchRule>, CatalogError> {
    BatchRule::parse(written)
        .map_err(|wrong| invalid(&format!("{entry}.batch{}", wrong.place), wrong.problem))
}
