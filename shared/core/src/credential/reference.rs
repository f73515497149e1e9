//! References to secrets: `secret://name`, and texts that end in one.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error_text::{place, without_values};
use crate::literal_secret::{is_placeholder, unfilled};

/// How references to secrets begin.
pub(super) const SCHEME: &str = "secret://";

/// Where a secret is kept: `secret://name`, or `secret://name#key` for a member of a JSON object.
///
/// A key that begins with `/` is a JSON pointer: `secret://agents#/0/password`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretRef {
    name: String,
    key: Option<String>,
}

/// A header's value: a text, a reference, or a text that ends in a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// What comes first.
    pub before: String,
    /// What comes after it.
    pub secret: Option<SecretRef>,
}

impl SecretRef {
    /// Reads `secret://name` or `secret://name#key`. The error says what is accepted and does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if is_placeholder(text) {
            return Err(unfilled());
        }
        let Some(rest) = text.strip_prefix(SCHEME) else {
            return Err(
                "is not a reference; store the value in Secrets Manager and write `secret://name` or `secret://name#key`"
                    .to_owned(),
            );
        };
        let (name, key) = rest.split_once('#').map_or((rest, None), |(name, key)| (name, Some(key)));
        if name.is_empty() || key == Some("") || rest.chars().any(char::is_whitespace) {
            return Err(
                "is no whole reference; write `secret://name` or `secret://name#key` without blanks".into()
            );
        }
        Ok(Self { name: name.to_owned(), key: key.map(str::to_owned) })
    }

    /// The secret's name or ARN.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text that is meant within the secret's text. The error names the place, never a value.
    pub fn pick(&self, secret: &str) -> Result<String, String> {
        let Some(key) = &self.key else {
            return Ok(secret.to_owned());
        };
        let value: Value = serde_json::from_str(secret)
            .map_err(|_| format!("secret `{}` is not JSON, so it has no member `{key}`", self.name))?;
        let member = if key.starts_with('/') { value.pointer(key) } else { value.get(key) };
        let member = member.and_then(Value::as_str);
        member.map(str::to_owned).ok_or_else(|| format!("secret `{}` has no text member `{key}`", self.name))
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}", self.name)?;
        self.key.as_ref().map_or(Ok(()), |key| write!(f, "#{key}"))
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Template {
    /// Reads a header's value.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.find(SCHEME) {
            None => Ok(Self { before: text.to_owned(), secret: None }),
            Some(at) => {
                let (before, reference) = text.split_at(at);
                Ok(Self { before: before.to_owned(), secret: Some(SecretRef::parse(reference)?) })
            }
        }
    }
}

/// The fields of one kind; an error names the field and never repeats its value.
pub(super) fn read<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| {
        let (place, text) = (place("", error.path()), without_values(&error.inner().to_string()));
        if place.is_empty() { text } else { format!("field `{place}` {text}") }
    })
}

/// A text of the catalog, read without ever repeating it in an error.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(D::Error::custom("is not a text"))
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&text(deserializer)?).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&text(deserializer)?).map_err(D::Error::custom)
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.secret {
            None => serializer.serialize_str(&self.before),
            Some(reference) => serializer.collect_str(&format_args!("{}{reference}", self.before)),
        }
    }
}
