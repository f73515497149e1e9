//! Reads the text of a document.

use serde_json::Value;

use super::document::{Document, Raw, ReadOptions};
use super::operations;
use super::reason::Reason;
use super::work::Work;
use crate::json::{self, MOST_NODES};
use crate::yaml;

/// The largest text of a document, in bytes. GitHub's, the largest known, has 12 MB.
pub const MOST_BYTES: usize = 64 * 1024 * 1024;

/// Reads the text of a document, which is JSON or YAML.
///
/// # Errors
/// It is no OpenAPI document, it names no address and none is given, or a filter names what it does not have.
pub fn read(text: &str, options: &ReadOptions) -> Result<Document, Reason> {
    let value = value_of(text)?;
    let work = Work::of(&value);
    operations::read(&Raw::of(&value, options, &work)?, options)
}

/// The value of such a text.
pub(crate) fn value_of(text: &str) -> Result<Value, Reason> {
    if text.len() > MOST_BYTES {
        let text = format!("is larger than {} MiB", MOST_BYTES / 1024 / 1024);
        return Err(Reason::new("too_large", text));
    }
    let value = if text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).starts_with('{') {
        if json::most_nodes(text) > MOST_NODES {
            return Err(Reason::new("too_large", format!("has more than {MOST_NODES} values and keys")));
        }
        json::value("the document", text)
    } else {
        yaml::document("the document", text)
    };
    value.map_err(|error| Reason::invalid(error.problem))
}
