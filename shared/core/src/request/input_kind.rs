//! [`InputKind`]: what a caller can answer when a server asks for input.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A kind of question that servers are told a caller can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InputKind {
    /// A form for the user (MCP's `elicitation`).
    Form,
    /// An address that the user opens (the same).
    Url,
    /// A text of the caller's model (`sampling`).
    Sampling,
    /// The same with tools.
    SamplingTools,
    /// The folders that the caller works in (`roots`).
    Roots,
}

impl InputKind {
    /// What servers are told of a caller that does not say it.
    pub const BY_DEFAULT: [Self; 3] = [Self::Form, Self::Url, Self::Sampling];
}
