//! [`Work`]: how much is done for one document at most.
//!
//! A small document can ask for much: thousands of operations that share a path item with thousands of parameters. What is done again for each
//! operation, or for each schema that takes something from another one, is counted here, and the document's own size says how much it may be.
//!
//! **Invariant:** once the bound is reached, every later count fails: what was passed over meanwhile is in no operation.

use std::cell::Cell;

use serde_json::Value;

use super::reason::Reason;

/// What each node of the document adds to the bound. Converting a schema counts as [`OF_SCHEMA`].
const FOR_NODE: u64 = 20;
/// The bound of the smallest document.
const FOR_ANY: u64 = 2_000_000;
/// What a schema that is made counts: it is an object with members.
pub(super) const OF_SCHEMA: usize = 10;
/// How many bytes of text count as one.
const BYTES: usize = 16;

/// What may still be done for a document.
#[derive(Debug)]
pub(super) struct Work(Cell<u64>);

impl Work {
    pub(super) fn of(document: &Value) -> Self {
        Self(Cell::new(FOR_ANY.saturating_add(FOR_NODE.saturating_mul(as_u64(size(document))))))
    }

    /// Counts so much.
    ///
    /// # Errors
    /// It is more than may still be done.
    pub(super) fn count(&self, units: usize) -> Result<(), Reason> {
        let left = self.0.get().checked_sub(as_u64(units));
        self.0.set(left.unwrap_or(0));
        left.filter(|left| *left > 0).map(|_| ()).ok_or_else(too_large)
    }

    /// Counts something with these texts.
    pub(super) fn count_with(&self, texts: &[&str]) -> Result<(), Reason> {
        self.count(1 + texts.iter().map(|text| text.len() / BYTES).sum::<usize>())
    }

    /// Counts a list of texts.
    pub(super) fn count_texts(&self, list: Option<&Value>) -> Result<(), Reason> {
        self.count(list.map_or(0, size))
    }

    /// Counts a value, and copies it.
    pub(super) fn copy(&self, value: &Value) -> Result<Value, Reason> {
        self.count(size(value))?;
        Ok(value.clone())
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn too_large() -> Reason {
    let text = "takes more work to read than the size of the document allows: many operations or schemas share the same large part; choose \
                operations by `include` and `exclude`";
    Reason::new("too_large", text)
}

/// How many values there are in a value, and what its texts count.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 1,
        Value::String(text) => 1 + text.len() / BYTES,
        Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Object(members) => {
            1 + members.iter().map(|(name, value)| name.len() / BYTES + size(value)).sum::<usize>()
        }
    }
}
