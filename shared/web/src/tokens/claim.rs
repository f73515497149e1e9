//! Claims of a token by their names.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

/// The name of a claim, or a JSON pointer to one within another, such as `/realm_access/roles`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimName(String);

impl FromStr for ClaimName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim();
        if name.is_empty() {
            return Err(
                "is empty; give the name of a claim, or a pointer such as /realm_access/roles".to_owned()
            );
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for ClaimName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl ClaimName {
    /// The claim; none for the word that says that there is none.
    pub fn unless_none(&self) -> Option<Self> {
        (self.0 != "none").then(|| self.clone())
    }

    /// Whether it is the claim of that name, however it is written.
    pub fn is(&self, name: &str) -> bool {
        self.0.trim_matches('/') == name
    }

    /// Its value among these claims.
    pub fn of<'a>(&self, claims: &'a Map<String, Value>) -> Option<&'a Value> {
        // A name such as `https://example.com/roles` is a claim of its own.
        let Some(path) = self.0.strip_prefix('/') else { return claims.get(&self.0) };
        let (first, rest) = path.split_once('/').map_or((path, ""), |(first, rest)| (first, rest));
        let value = claims.get(first)?;
        if rest.is_empty() { Some(value) } else { value.pointer(&format!("/{rest}")) }
    }
}

/// The words of a claim: a list of texts, or a text with spaces.
pub fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split_whitespace().collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

/// The values of a claim: a list of texts, or one text, which may have spaces.
pub fn values(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text.trim()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}
