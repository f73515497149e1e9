//! The JSON Schema of a tool's arguments: read and checked with its catalog, compiled when a call first needs it.
//!
//! A compiled schema takes about ten times the memory of its text, so a schema is kept as a text. Whoever compiles it keeps the
//! [`Judge`] in a bounded cache.
//!
//! **Invariant:** nothing is fetched while a schema compiles, no error repeats a value of an argument, and neither compiling nor
//! checking does more work than its budget allows.

mod check;
mod cost;
mod judge;
mod options;
mod pattern;
mod reference;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::error::CatalogError;
use crate::error::invalid;
use toolfleet_core::digest::Digest;

pub use judge::{Budget, Judge, NotCompiled, Verdict};

/// The JSON Schema of a tool's arguments (2020-12 unless it names another draft), not compiled. Remote references are not fetched; a
/// schema with one does not compile.
#[derive(Clone)]
pub struct InputSchema(Arc<Text>);

struct Text {
    text: Box<str>,
    digest: Digest,
}

/// The schemas of a catalog, by the digest of their texts. The next version of the catalog does not check them again.
#[derive(Debug, Clone, Default)]
pub struct KnownSchemas(Arc<HashMap<Digest, InputSchema>>);

impl fmt::Debug for InputSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InputSchema").field(&self.0.digest.short(12)).finish()
    }
}

impl InputSchema {
    /// The schema as it is written, whether it compiles or not.
    pub fn unchecked(schema: &Value) -> Self {
        let text = schema.to_string().into_boxed_str();
        let digest = Digest::of_text(&text);
        Self(Arc::new(Text { text, digest }))
    }

    /// The schema, checked: everything but its regular expressions is compiled and dropped, and those are parsed.
    ///
    /// One that is over the budget of compiling is not an error: it judges nothing ([`NotCompiled::TooLarge`]).
    ///
    /// # Errors
    /// Why it does not compile.
    pub fn checked(schema: &Value) -> Result<Self, String> {
        check::check(schema)?;
        Ok(Self::unchecked(schema))
    }

    /// The digest of its text. Two schemas with one digest are the same.
    pub fn digest(&self) -> &Digest {
        &self.0.digest
    }

    /// The schema as a value.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0.text).unwrap_or_default()
    }

    /// Compiles it. This takes up to a second: it belongs on a blocking thread.
    ///
    /// # Errors
    /// It is too large, or it is invalid.
    pub fn compile(&self) -> Result<Judge, NotCompiled> {
        let invalid = |error: serde_json::Error| NotCompiled::Invalid(error.to_string().into());
        let schema: Value = serde_json::from_str(&self.0.text).map_err(invalid)?;
        Judge::of(&schema, self.0.text.len())
    }
}

impl KnownSchemas {
    /// Those schemas.
    pub(crate) fn of<'a>(schemas: impl Iterator<Item = &'a InputSchema>) -> Self {
        Self(Arc::new(schemas.map(|schema| (schema.digest().clone(), schema.clone())).collect()))
    }

    /// The schema that stands at `entry`, checked, if there is one.
    pub(crate) fn read(
        &self,
        entry: &str,
        schema: Option<&Value>,
    ) -> Result<Option<InputSchema>, CatalogError> {
        let Some(schema) = schema else {
            return Ok(None);
        };
        if !self.0.is_empty()
            && let Some(known) = self.0.get(InputSchema::unchecked(schema).digest())
        {
            return Ok(Some(known.clone()));
        }
        let checked = InputSchema::checked(schema).map(Some);
        checked.map_err(|error| invalid(entry, format!("is not a usable JSON Schema: {error}")))
    }
}

#[cfg(test)]
mod tests;
