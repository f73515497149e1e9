//! The policy of a group: when it is decided, and whether it succeeded.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// The most members that may fail: all of the largest group.
const MOST: u32 = 1_000;
/// What is accepted, for error texts.
const ACCEPTED: &str = "accepted are \"all\", \"any\", \"first_success\", {\"tolerate\": N} and {\"tolerate\": \"N%\"} with N from 0 to 1000, or 0 to 100 for %";

/// When a group is decided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// When every member has ended. It succeeded if every member succeeded.
    #[default]
    All,
    /// When the first member has ended, as that member.
    Any,
    /// When the first member has succeeded. It failed if every member failed.
    FirstSuccess,
    /// When every member has ended and no more than these failed; it failed as soon as one more has failed.
    Tolerate(Tolerance),
}

/// How many members may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded down.
    Percent(u32),
}

impl Tolerance {
    /// How many members of `size` may fail.
    pub fn of(self, size: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => size.saturating_mul(percent) / 100,
        }
    }

    fn count(count: u64) -> Option<Self> {
        let count = u32::try_from(count).ok()?;
        (count <= MOST).then_some(Self::Count(count))
    }

    fn parse(text: &str) -> Option<Self> {
        let whole =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = u32::try_from(whole(percent)?).ok()?;
                (percent <= 100).then_some(Self::Percent(percent))
            }
            None => Self::count(whole(text)?),
        }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Any => f.write_str("any"),
            Self::FirstSuccess => f.write_str("first_success"),
            Self::Tolerate(tolerance) => write!(f, "tolerate:{tolerance}"),
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    /// The policy as rows and the command line write it: `all`, `any`, `first_success`, `tolerate:2`, `tolerate:10%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let tolerate = |text: &str| Tolerance::parse(text.strip_prefix("tolerate:")?).map(Self::Tolerate);
        match text {
            "all" => Ok(Self::All),
            "any" => Ok(Self::Any),
            "first_success" => Ok(Self::FirstSuccess),
            other => tolerate(other).ok_or_else(|| {
                "accepted are all, any, first_success, tolerate:N and tolerate:N%, for example tolerate:2 or tolerate:10%".to_owned()
            }),
        }
    }
}

impl Serialize for Policy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self::Tolerate(tolerance) = self else {
            return serializer.collect_str(self);
        };
        let mut map = serializer.serialize_map(Some(1))?;
        match tolerance {
            Tolerance::Count(count) => map.serialize_entry("tolerate", count)?,
            Tolerance::Percent(_) => map.serialize_entry("tolerate", &tolerance.to_string())?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Policy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PolicyVisitor)
    }
}

struct PolicyVisitor;

impl<'de> Visitor<'de> for PolicyVisitor {
    type Value = Policy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy: ")?;
        f.write_str(ACCEPTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Policy, E> {
        match text {
            "all" => Ok(Policy::All),
            "any" => Ok(Policy::Any),
            "first_success" => Ok(Policy::FirstSuccess),
            _ => Err(E::custom(format!("is no policy; {ACCEPTED}"))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Policy, A::Error> {
        let wrong = || A::Error::custom(format!("is no policy; {ACCEPTED}"));
        let mut found = None;
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value::<serde_json::Value>()?;
            let tolerance = match &value {
                serde_json::Value::Number(number) => number.as_u64().and_then(Tolerance::count),
                // A count stands there without quotes.
                serde_json::Value::String(text) if text.ends_with('%') => Tolerance::parse(text),
                serde_json::Value::String(_)
                | serde_json::Value::Null
                | serde_json::Value::Bool(_)
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_) => None,
            };
            if name != "tolerate" || found.is_some() {
                return Err(wrong());
            }
            found = Some(tolerance.ok_or_else(wrong)?);
        }
        found.map(Policy::Tolerate).ok_or_else(wrong)
    }
}

impl JsonSchema for Policy {
    fn schema_name() -> Cow<'static, str> {
        "Policy".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "When the group is decided: `all` when every member has ended, `any` when the first has ended, `first_success` when the first has succeeded, `tolerate` when every member has ended or more than so many have failed.",
            "oneOf": [
                {"enum": ["all", "any", "first_success"]},
                {
                    "type": "object",
                    "properties": {"tolerate": {"oneOf": [
                        {"type": "integer", "minimum": 0, "maximum": 1000},
                        {"type": "string", "pattern": "^(100|[0-9]{1,2})%$"},
                    ]}},
                    "required": ["tolerate"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_is_read_as_it_is_written() {
        for (json, text) in [
            (r#""all""#, "all"),
            (r#""any""#, "any"),
            (r#""first_success""#, "first_success"),
            (r#"{"tolerate":2}"#, "tolerate:2"),
            (r#"{"tolerate":"10%"}"#, "tolerate:10%"),
        ] {
            let policy: Policy = serde_json::from_str(json).unwrap();
            assert_eq!(policy.to_string(), text);
            assert_eq!(text.parse(), Ok(policy));
            assert_eq!(serde_json::to_string(&policy).unwrap(), json);
        }
    }

    #[test]
    fn what_is_no_policy_is_refused_with_what_is_accepted() {
        for json in [
            r#""most""#,
            r#""tolerate""#,
            r#"{"tolerate":-1}"#,
            r#"{"tolerate":1001}"#,
            r#"{"tolerate":"101%"}"#,
            r#"{"tolerate":"2"}"#,
            r#"{"tolerate":1,"tolerate":2}"#,
            r#"{"accept":1}"#,
            "{}",
            "[]",
            "1",
        ] {
            let error = serde_json::from_str::<Policy>(json).unwrap_err().to_string();
            assert!(error.contains("accepted are \"all\""), "{json}: {error}");
        }
        for text in ["", "some", "tolerate:", "tolerate:+1", "tolerate:101%", "tolerate:1001"] {
            assert!(text.parse::<Policy>().unwrap_err().contains("tolerate:10%"), "{text}");
        }
    }

    #[test]
    fn a_share_is_rounded_down() {
        let of = |percent, size| Tolerance::Percent(percent).of(size);
        assert_eq!([of(10, 9), of(10, 10), of(34, 3), of(100, 7), of(0, 7)], [0, 1, 1, 7, 0]);
    }
}
