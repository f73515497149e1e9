//! The field `batch` of a registered tool: which argument becomes a list, how many calls one request has, and how long calls wait for others.

use serde_json::{Map, Value};

/// How many calls a request has at most, unless the rule says so.
pub const DEFAULT_MAX: usize = 10;
/// The largest accepted `max`.
pub const MOST: usize = 100;
/// How long a call waits for others, unless the rule says so, in milliseconds.
pub const DEFAULT_WAIT_MS: u64 = 100;
/// The largest accepted `wait_ms`: well within the lease of a claim.
pub const MOST_WAIT_MS: u64 = 5_000;

/// That the calls of a tool are sent together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BatchRule {
    /// The argument that a call gives once, and that the server takes as a list.
    pub argument: String,
    /// How many calls a request has at most.
    pub max: usize,
    /// How long a call waits for others, in milliseconds.
    pub wait_ms: u64,
}

/// A field `batch` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("batch{place}: {problem}")]
pub struct BatchRuleError {
    /// The member of it, with a dot before it; empty for the field itself.
    pub place: String,
    /// What is wrong, and what is accepted.
    pub problem: String,
}

impl BatchRule {
    /// The rule that a field `batch` writes; nothing for `false`.
    ///
    /// # Errors
    /// It is neither `false` nor an object of `argument`, `max` and `wait_ms`, or one of these is wrong.
    pub fn parse(written: &Value) -> Result<Option<Self>, BatchRuleError> {
        match written {
            Value::Null | Value::Bool(false) => Ok(None),
            Value::Object(fields) => Self::of(fields).map(Some),
            Value::Bool(true) | Value::Number(_) | Value::String(_) | Value::Array(_) => Err(wrong(
                "",
                "is neither false nor an object; accepted is for example {\"argument\": \"city\", \"max\": 10, \"wait_ms\": 100}",
            )),
        }
    }

    fn of(fields: &Map<String, Value>) -> Result<Self, BatchRuleError> {
        let mut rule = Self { argument: String::new(), max: DEFAULT_MAX, wait_ms: DEFAULT_WAIT_MS };
        for (name, value) in fields {
            match name.as_str() {
                "argument" => rule.argument = argument(value)?,
                "max" => rule.max = max(value)?,
                "wait_ms" => rule.wait_ms = wait_ms(value)?,
                other => {
                    let place = format!(".{other}");
                    return Err(wrong(&place, "is not a field; known are argument, max and wait_ms"));
                }
            }
        }
        if rule.argument.is_empty() {
            return Err(wrong(
                ".argument",
                "is missing; give the name of the argument that the server takes as a list",
            ));
        }
        Ok(rule)
    }
}

fn wrong(place: &str, problem: impl Into<String>) -> BatchRuleError {
    BatchRuleError { place: place.to_owned(), problem: problem.into() }
}

fn argument(value: &Value) -> Result<String, BatchRuleError> {
    let name = value.as_str().filter(|name| !name.is_empty());
    name.map(str::to_owned).ok_or_else(|| wrong(".argument", "is no name of an argument; accepted is a text"))
}

fn max(value: &Value) -> Result<usize, BatchRuleError> {
    let number = value.as_u64().and_then(|number| usize::try_from(number).ok());
    number.filter(|number| (2..=MOST).contains(number)).ok_or_else(|| {
        wrong(".max", format!("is no number of calls; accepted is a whole number from 2 to {MOST}"))
    })
}

fn wait_ms(value: &Value) -> Result<u64, BatchRuleError> {
    value.as_u64().filter(|ms| (1..=MOST_WAIT_MS).contains(ms)).ok_or_else(|| {
        let text = format!("is no wait; accepted is a whole number of milliseconds from 1 to {MOST_WAIT_MS}");
        wrong(".wait_ms", text)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_names_an_argument_and_has_defaults() {
        let parse = |value: Value| BatchRule::parse(&value).unwrap();
        assert_eq!(parse(json!(false)), None);
        assert_eq!(parse(json!(null)), None);
        let rule = BatchRule { argument: "city".into(), max: 10, wait_ms: 100 };
        assert_eq!(parse(json!({"argument": "city"})), Some(rule.clone()));
        let rule = BatchRule { max: 2, wait_ms: 5_000, ..rule };
        assert_eq!(parse(json!({"argument": "city", "max": 2, "wait_ms": 5_000})), Some(rule));
    }

    #[test]
    fn a_wrong_rule_names_its_member_and_what_is_accepted() {
        for (value, begins) in [
            (json!(true), "batch: is neither false nor an object; accepted is"),
            (json!({}), "batch.argument: is missing; give"),
            (json!({"argument": ""}), "batch.argument: is no name"),
            (json!({"argument": 7}), "batch.argument: is no name"),
            (json!({"argument": "a", "max": 1}), "batch.max: is no number of calls; accepted is"),
            (json!({"argument": "a", "max": 101}), "batch.max: "),
            (json!({"argument": "a", "wait_ms": 0}), "batch.wait_ms: is no wait; accepted is"),
            (json!({"argument": "a", "wait_ms": 5_001}), "batch.wait_ms: "),
            (json!({"argument": "a", "size": 5}), "batch.size: is not a field; known are"),
        ] {
            let text = BatchRule::parse(&value).unwrap_err().to_string();
            assert!(text.starts_with(begins), "{text}");
        }
    }
}
