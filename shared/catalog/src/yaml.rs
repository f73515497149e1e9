//! Reads a YAML text into a value; an error names line and column, and no value.

use serde_json::Value;

use crate::error::{CatalogError, invalid};
use crate::json::MOST_NODES;

/// The value of a YAML text, by the rules of YAML 1.2: `no` and `on` are texts. Duplicate keys, references that multiply, and several
/// documents are refused.
pub(crate) fn value(entry: &str, text: &str) -> Result<Value, CatalogError> {
    read(entry, text, serde_saphyr::options! { strict_booleans: true })
}

/// The same for a document of another program, which may be as large as the largest OpenAPI documents (GitHub's has 700,000 nodes).
pub(crate) fn document(entry: &str, text: &str) -> Result<Value, CatalogError> {
    let budget = serde_saphyr::budget! { max_nodes: MOST_NODES, max_events: 20_000_000, max_depth: 120 };
    read(entry, text, serde_saphyr::options! { strict_booleans: true, budget: budget })
}

fn read(entry: &str, text: &str, options: serde_saphyr::Options) -> Result<Value, CatalogError> {
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error
            .location()
            .map_or_else(String::new, |at| format!(" at line {} column {}", at.line(), at.column()));
        invalid(entry, format!("is not usable YAML: {}{place}", what(error.without_snippet())))
    })
}

/// What is wrong, without what stands there.
fn what(error: &serde_saphyr::Error) -> String {
    let sentence = error.to_string();
    let sentence = sentence.lines().next().unwrap_or_default();
    let sentence = sentence.split(" at line ").next().unwrap_or_default();
    if sentence.starts_with("duplicate mapping key") {
        return "a key is given twice".to_owned();
    }
    let named = sentence.split(['`', '"', '\'']).next().unwrap_or_default().trim_end_matches([':', ' ']);
    if named.is_empty() { "a mistake in the syntax".to_owned() } else { named.to_owned() }
}
