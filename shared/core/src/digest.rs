//! Owns the digest of what a call asks for: equal questions have equal digests, whatever the order of their keys.
//!
//! **Invariant:** a digest depends on values alone, never on white space or key order.

use std::fmt;

use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

/// A SHA-256 in lower-case hex; of a request that resumes, a dot and a second one follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Digest(String);

impl Digest {
    /// The digest of a text as it stands.
    pub fn of_text(text: &str) -> Self {
        Self(hex::encode(Sha256::digest(text.as_bytes())))
    }

    /// The digest of a JSON value in canonical form.
    pub fn of_json(value: &Value) -> Self {
        let mut canonical = String::new();
        write_canonical(value, &mut canonical);
        Self::of_text(&canonical)
    }

    /// The digest of a request: of its question (operation, target, arguments), and of what it resumes.
    pub fn of_request(operation: &str, target: &str, arguments: &RawValue, resume: Option<&Value>) -> Self {
        let arguments: Value = serde_json::from_str(arguments.get()).unwrap_or(Value::Null);
        let question = Self::of_json(&serde_json::json!([operation, target, arguments, null]));
        match resume {
            None => question,
            Some(resume) => Self(format!("{question}.{}", Self::of_json(resume))),
        }
    }

    /// The part that a call shares with the one it resumes: the digest of the question alone.
    pub fn question(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// A digest as it stands in a table.
    pub fn from_stored(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The whole digest.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first `n` characters.
    pub fn short(&self, n: usize) -> &str {
        self.0.get(..n).unwrap_or(&self.0)
    }

    /// A number below `buckets`, spread evenly, for choosing a shard.
    pub fn bucket(&self, buckets: u32) -> u32 {
        u32::from_str_radix(self.short(8), 16).unwrap_or(0) % buckets.max(1)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            // Sorted here: whether serde_json keeps the sender's order depends on the features of the whole build.
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(item, out);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            out.push_str(&value.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_and_white_space_do_not_change_a_digest_but_a_value_does() {
        let of = |text: &str| Digest::of_json(&serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"a":1,"b":{"x":[1,2],"y":null}}"#), of(r#"{ "b": {"y":null, "x":[1, 2]}, "a":1}"#));
        assert_ne!(of(r#"{"a":[1,2]}"#), of(r#"{"a":[2,1]}"#));
        assert_ne!(of(r#"{"a":"1"}"#), of(r#"{"a":1}"#));
    }

    #[test]
    fn a_request_that_resumes_shares_its_question_and_nothing_else() {
        let arguments = RawValue::from_string("{}".to_owned()).unwrap();
        let of = |resume: Option<Value>| Digest::of_request("tools/call", "t", &arguments, resume.as_ref());
        let (first, then, other) = (of(None), of(Some(1.into())), of(Some(2.into())));
        assert_eq!((first.question(), then.question()), (first.as_str(), first.as_str()));
        assert!(first != then && then != other);
    }
}
