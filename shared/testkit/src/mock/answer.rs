//! What a tool of the scripted server answers.

use serde_json::Value;

/// What a tool says.
#[derive(Debug, Clone)]
pub enum ToolAnswer {
    /// The `result` member.
    Result(Value),
    /// The `result` member, byte for byte.
    Raw(String),
    /// A JSON-RPC error.
    Error {
        /// Its code.
        code: i64,
        /// Its message.
        message: String,
    },
}

impl From<Value> for ToolAnswer {
    fn from(value: Value) -> Self {
        Self::Result(value)
    }
}
