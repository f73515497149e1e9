//! Reads the text of a catalog into values; an error names the place.

use serde::de::DeserializeOwned;
use serde_json::Value;
use toolfleet_core::error_text::{place, without_values};
pub(crate) use toolfleet_core::json::{kind, single};

use crate::error::{CatalogError, invalid};
use crate::text::plain;

/// The value of `text`, which may have comments and trailing commas. An error names line and column.
pub(crate) fn value(entry: &str, text: &str) -> Result<Value, CatalogError> {
    single(&plain(text)).map_err(|e| invalid(entry, format!("is not usable JSON: {e}")))
}

/// The most nodes of a document of another program: values and keys.
pub(crate) const MOST_NODES: usize = 5_000_000;

/// How many values and keys a JSON text has at most: each but the first stands behind one of these characters outside of a text. A value takes
/// many times the memory of its text.
pub(crate) fn most_nodes(text: &str) -> usize {
    let (mut count, mut in_text, mut is_escaped) = (1_usize, false, false);
    for byte in plain(text).bytes() {
        match (in_text, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b',' | b':' | b'[' | b'{') => count += 1,
            (true | false, _) => {}
        }
    }
    count
}

/// The value as a `T`. An error names the field below `entry`.
pub(crate) fn typed<T: DeserializeOwned>(entry: &str, value: Value) -> Result<T, CatalogError> {
    serde_path_to_error::deserialize(value)
        .map_err(|e| invalid(&place(entry, e.path()), without_values(&e.inner().to_string())))
}

/// The place of `field` below `entry`.
pub(crate) fn below(entry: &str, field: &str) -> String {
    if field.is_empty() {
        return entry.to_owned();
    }
    match (entry.is_empty(), field.starts_with('[')) {
        (true, _) => field.to_owned(),
        (false, true) => format!("{entry}{field}"),
        (false, false) => format!("{entry}.{field}"),
    }
}
