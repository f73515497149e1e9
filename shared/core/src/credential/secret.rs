//! The texts of a credential: references into Secrets Manager, and values of definitions that are secrets as a whole.
//!
//! **Invariant:** a value is neither printed nor written back, and no error repeats it.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::reference::{SCHEME, SecretRef, text};
use crate::literal_secret::{is_placeholder, unfilled};
use crate::redact::REDACTED;

/// A text of a foreign definition: the value itself, or `secret://name` for where it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(String);

/// A secret: where it is kept, or its text where the definition that holds it is itself a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Where it is kept.
    Kept(SecretRef),
    /// Its text. A catalog of our own form never has it.
    Inline(Sensitive),
}

/// What may stand in the catalog as it is, or be kept as a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// As it is.
    Plain(String),
    /// A secret.
    Secret(Secret),
}

impl Sensitive {
    /// A text that a definition writes out.
    pub fn written(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, for the one place that sends it or reads the secret it names.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The reference or the value. The error says what a reference looks like and does not repeat the text.
    pub fn into_secret(self) -> Result<Secret, String> {
        if self.0.starts_with(SCHEME) {
            return SecretRef::parse(&self.0).map(Secret::Kept);
        }
        Ok(Secret::Inline(self))
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.starts_with(SCHEME) { &self.0 } else { REDACTED })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(reference) => fmt::Debug::fmt(reference, f),
            Self::Inline(_) => f.write_str(REDACTED),
        }
    }
}

impl<'de> Deserialize<'de> for Sensitive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `String::deserialize`, whose complaint would repeat what it found.
        match Value::deserialize(deserializer)? {
            Value::String(text) if text.is_empty() => Err(D::Error::custom("is empty")),
            Value::String(text) if is_placeholder(&text) => Err(D::Error::custom(unfilled())),
            Value::String(text) => Ok(Self(text)),
            other
            @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(D::Error::custom(format_args!("is {}; accepted is a text", crate::json::kind(&other))))
            }
        }
    }
}

impl Serialize for Sensitive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SecretRef::deserialize(deserializer).map(Self::Kept)
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer)?;
        if text.starts_with(SCHEME) {
            let kept = SecretRef::parse(&text).map_err(D::Error::custom)?;
            return Ok(Self::Secret(Secret::Kept(kept)));
        }
        if is_placeholder(&text) {
            return Err(D::Error::custom(unfilled()));
        }
        Ok(Self::Plain(text))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl Serialize for Setting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(text) => serializer.serialize_str(text),
            Self::Secret(secret) => secret.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_imported_secret_is_neither_printed_nor_serialised() {
        let value: Sensitive = serde_json::from_value(json!("hunter2")).unwrap();
        let secret = value.into_secret().unwrap();
        let setting = Setting::Secret(secret.clone());
        let told = format!("{secret:?} {setting:?} {}", serde_json::to_string(&(&secret, &setting)).unwrap());
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_reference_of_a_foreign_definition_is_one_or_is_refused() {
        let secret = |text: &str| serde_json::from_value::<Sensitive>(json!(text)).unwrap().into_secret();
        assert!(matches!(secret("secret://crm#id").unwrap(), Secret::Kept(kept) if kept.name() == "crm"));
        assert!(secret("secret://").unwrap_err().contains("no whole reference"));
    }
}
