//! The digests of a tool's definition: the whole one, which pins and approvals compare, and the short one, which rows and records keep.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;

/// How many hexadecimal digits of a digest rows and records keep.
const SHORT_DIGITS: usize = 16;

/// The SHA-256 of a tool's definition in canonical JSON: 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DefinitionDigest(Digest);

/// The first 16 digits of a [`DefinitionDigest`], as rows and audit records keep them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShortDefinitionDigest(String);

impl DefinitionDigest {
    /// The digest of a definition, whatever the order of its keys.
    pub fn of(definition: &Value) -> Self {
        Self(Digest::of_json(definition))
    }

    /// The digest that these 64 lower-case hexadecimal digits are.
    pub fn parse(hex: &str) -> Option<Self> {
        let fits = hex.len() == 64 && hex.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
        fits.then(|| Self(Digest::from_stored(hex)))
    }

    /// Its first digits.
    pub fn short(&self) -> ShortDefinitionDigest {
        ShortDefinitionDigest(self.0.short(SHORT_DIGITS).to_owned())
    }
}

impl fmt::Display for DefinitionDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ShortDefinitionDigest {
    /// A digest as a table holds it.
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ShortDefinitionDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
