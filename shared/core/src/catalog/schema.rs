//! Owns the check of arguments against a tool's JSON Schema.
//!
//! **Invariant:** nothing is fetched while a schema compiles, and no value of an argument stands in a complaint.

use std::sync::Arc;

use serde_json::Value;

use super::{CatalogError, problem};
use crate::complaint::of_arguments;

/// A compiled JSON Schema of a tool's arguments. Remote references are not fetched; a schema with one does not compile.
#[derive(Debug, Clone)]
pub struct InputSchema(Arc<jsonschema::Validator>);

impl InputSchema {
    /// Compiles a schema (JSON Schema 2020-12 unless it names another draft).
    pub fn compile(schema: &Value) -> Result<Self, String> {
        jsonschema::validator_for(schema).map(|v| Self(Arc::new(v))).map_err(|e| e.to_string())
    }

    /// What is wrong with the text of `arguments`, as sentences that name the place; empty if they fit.
    ///
    /// A key that stands twice does not fit: which of the two values its reader takes cannot be known.
    pub fn problems_in(&self, arguments: &str) -> Vec<String> {
        match super::json::single(arguments) {
            Ok(arguments) => self.problems(&arguments),
            Err(error) => vec![format!("arguments: {error}")],
        }
    }

    /// What is wrong with `arguments`, as sentences that name the place; empty if they fit.
    pub fn problems(&self, arguments: &Value) -> Vec<String> {
        self.0.iter_errors(arguments).take(5).map(|error| of_arguments(&error)).collect()
    }
}

/// Compiles the schema that stands at `entry`, if there is one.
pub(super) fn compile(entry: &str, schema: Option<&Value>) -> Result<Option<InputSchema>, CatalogError> {
    let compiled = schema.map(InputSchema::compile).transpose();
    compiled.map_err(|e| problem(entry, format!("is not a usable JSON Schema: {e}")))
}
