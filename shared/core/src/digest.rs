//! SHA-256 digests of JSON: of a call's question, of a catalog, of a definition. Equal values have equal digests.
//!
//! A digest is taken of the canonical form (`canonical_json`): white space, the order of keys and the way a
//! number is written do not change it.

use std::fmt;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::canonical_json::{Node, Spelling, compare_keys, number};

/// A SHA-256 in lower-case hex; of a request that resumes, a dot and a second one follow.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Digest(String);

/// The SHA-256 of bytes, in lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Digest {
    /// The digest of a text, byte for byte.
    pub fn of_text(text: &str) -> Self {
        Self(sha256(text.as_bytes()))
    }

    /// The digest of a JSON value in canonical form (RFC 8785).
    pub fn of_json(value: &Value) -> Self {
        let mut canonical = String::new();
        write_canonical(value, &mut canonical);
        Self::of_text(&canonical)
    }

    /// The part that a call shares with the one it resumes: the digest of the question alone.
    pub fn question(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// A digest as a table holds it.
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

/// The digest of a request: of its question (operation, target, arguments), and of what it resumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestDigest {
    /// The digest.
    pub(crate) digest: Digest,
    /// The digest that workers of earlier versions gave the same request, where that differs: their rows may still exist. Two requests
    /// can share it, so it counts for such rows only.
    pub(crate) earlier: Option<Digest>,
}

impl RequestDigest {
    pub(crate) fn of(operation: &str, target: &str, arguments: &Node<'_>, resume: Option<&Node<'_>>) -> Self {
        let digest = |spelling: Spelling| {
            let [operation, target] = [operation, target].map(|text| Value::from(text).to_string());
            let mut question = format!("[{operation},{target},");
            arguments.write(spelling, &mut question);
            question.push_str(",null]");
            let question = Digest::of_text(&question);
            let Some(resume) = resume else {
                return question;
            };
            let mut resumed = String::new();
            resume.write(spelling, &mut resumed);
            Digest(format!("{question}.{}", Digest::of_text(&resumed)))
        };
        let differs = |node: &Node<'_>| node.differs_by_double();
        let earlier = differs(arguments) || resume.is_some_and(differs);
        Self { digest: digest(Spelling::Exact), earlier: earlier.then(|| digest(Spelling::ByDouble)) }
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
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|(a, _), (b, _)| compare_keys(a, b));
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
        Value::Number(written) => out.push_str(&number(&written.to_string())),
        Value::Null | Value::Bool(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_and_white_space_do_not_change_a_digest() {
        let of = |text: &str| Digest::of_json(&serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"a":1,"b":{"x":[1,2],"y":null}}"#), of(r#"{ "b": {"y":null, "x":[1, 2]}, "a":1}"#));
        assert_ne!(of(r#"{"a":[1,2]}"#), of(r#"{"a":[2,1]}"#));
        assert_ne!(of(r#"{"a":"1"}"#), of(r#"{"a":1}"#));
    }

    #[test]
    fn a_value_has_the_digest_of_its_rfc_8785_form() {
        let of = |text: &str| Digest::of_json(&serde_json::from_str(text).unwrap());
        assert_eq!(of(r#"{"n":1.0,"x":1e21,"y":5e-7}"#), Digest::of_text(r#"{"n":1,"x":1e+21,"y":5e-7}"#));
        // RFC 8785 section 3.2.3: keys are sorted by UTF-16 code units, in which U+1F600 stands before U+FB33.
        let sorted = "{\"\u{20ac}\":1,\"\u{1f600}\":3,\"\u{fb33}\":2}";
        assert_eq!(of("{\"\u{fb33}\":2,\"\u{1f600}\":3,\"\u{20ac}\":1}"), Digest::of_text(sorted));
    }

    fn of(arguments: &str, resume: Option<&str>) -> RequestDigest {
        let (arguments, resume) =
            (Node::parse(arguments).unwrap(), resume.map(|resume| Node::parse(resume).unwrap()));
        RequestDigest::of("tools/call", "t", &arguments, resume.as_ref())
    }

    #[test]
    fn a_request_that_resumes_shares_its_question_and_nothing_else() {
        let of = |resume| of("{}", resume).digest;
        let (first, then, other) = (of(None), of(Some("1")), of(Some("2")));
        assert_eq!((first.question(), then.question()), (first.as_str(), first.as_str()));
        assert!(first != then && then != other);
    }

    #[test]
    fn arguments_without_fractions_keep_their_earlier_digest() {
        let text = r#"{"b":[1,-2,"x\u00e9\n"],"a":{"n":0.5,"z":null}}"#;
        let before = Digest::of_json(&serde_json::json!([
            "tools/call",
            "t",
            serde_json::from_str::<Value>(text).unwrap(),
            null
        ]));
        assert_eq!(of(text, None), RequestDigest { digest: before, earlier: None });
    }

    #[test]
    fn a_whole_number_with_a_fraction_has_an_earlier_digest() {
        let before = Digest::of_text(r#"["tools/call","t",{"n":1.0},null]"#);
        let now = of(r#"{"n":1.0}"#, None);
        assert_eq!(now.digest, of(r#"{"n":1}"#, None).digest);
        assert_eq!(now.earlier, Some(before));
    }

    #[test]
    fn a_number_that_a_double_rounds_has_an_earlier_digest() {
        let before = Digest::of_json(&serde_json::json!(["tools/call", "t", {"n": 0.1}, null]));
        let now = of(r#"{"n":0.10000000000000000001}"#, None);
        assert_ne!(now.digest, of(r#"{"n":0.1}"#, None).digest);
        assert_eq!(now.earlier, Some(before));
    }
}
