//! The field `cache` of a registered tool or server: whose calls may share an answer, and for how long.

use serde::Serialize;
use serde_json::Value;

/// No answer is kept longer: a day.
pub const MAX_TTL_MS: u64 = 86_400_000;

/// Whose calls may share a stored answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheScope {
    /// The calls of one user of a tenant.
    User,
    /// The calls of one tenant.
    #[default]
    Tenant,
    /// The calls of all tenants, for answers that their server marks with `cacheScope: public`; else those of one tenant.
    Public,
}

/// That the answers of a tool or server may be stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CacheRule {
    /// Whose calls may share an answer.
    pub scope: CacheScope,
    /// How long an answer is kept if the server does not say so, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// A field `cache` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cache{place}: {problem}")]
pub struct CacheRuleError {
    /// The member of it, with a dot before it; empty for the field itself.
    pub place: String,
    /// What is wrong, and what is accepted.
    pub problem: String,
}

impl CacheRule {
    /// The rule that a field `cache` writes; nothing for `false`.
    ///
    /// # Errors
    /// It is neither `true`, `false` nor an object of `scope` and `ttl_ms`, or one of these is wrong.
    pub fn parse(written: &Value) -> Result<Option<Self>, CacheRuleError> {
        let fields = match written {
            Value::Null | Value::Bool(false) => return Ok(None),
            Value::Bool(true) => return Ok(Some(Self::default())),
            Value::Object(fields) => fields,
            Value::Number(_) | Value::String(_) | Value::Array(_) => {
                let text = "is neither true, false nor an object; accepted is for example {\"ttl_ms\": 60000, \"scope\": \"tenant\"}";
                return Err(wrong("", text));
            }
        };
        let mut rule = Self::default();
        for (name, value) in fields {
            match name.as_str() {
                "scope" => rule.scope = scope(value)?,
                "ttl_ms" => rule.ttl_ms = Some(ttl_ms(value)?),
                other => {
                    return Err(wrong(&format!(".{other}"), "is not a field; known are scope and ttl_ms"));
                }
            }
        }
        Ok(Some(rule))
    }
}

fn wrong(place: &str, problem: &str) -> CacheRuleError {
    CacheRuleError { place: place.to_owned(), problem: problem.to_owned() }
}

fn scope(value: &Value) -> Result<CacheScope, CacheRuleError> {
    match value.as_str() {
        Some("user") => Ok(CacheScope::User),
        Some("tenant") => Ok(CacheScope::Tenant),
        Some("public") => Ok(CacheScope::Public),
        Some(_) | None => Err(wrong(".scope", "is no scope; accepted are user, tenant and public")),
    }
}

fn ttl_ms(value: &Value) -> Result<u64, CacheRuleError> {
    value.as_u64().filter(|ms| (1..=MAX_TTL_MS).contains(ms)).ok_or_else(|| {
        let text =
            format!("is no time to live; accepted is a whole number of milliseconds from 1 to {MAX_TTL_MS}");
        wrong(".ttl_ms", &text)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_a_switch_or_an_object() {
        let parse = |value: Value| CacheRule::parse(&value).unwrap();
        assert_eq!(parse(json!(false)), None);
        assert_eq!(parse(json!(true)), Some(CacheRule { scope: CacheScope::Tenant, ttl_ms: None }));
        assert_eq!(parse(json!({})), Some(CacheRule::default()));
        let rule = CacheRule { scope: CacheScope::Public, ttl_ms: Some(60_000) };
        assert_eq!(parse(json!({"ttl_ms": 60_000, "scope": "public"})), Some(rule));
        assert_eq!(parse(serde_json::to_value(rule).unwrap()), Some(rule), "as a snapshot writes it");
    }

    #[test]
    fn a_wrong_rule_names_its_member_and_what_is_accepted() {
        for (value, begins) in [
            (json!("yes"), "cache: is neither"),
            (json!({"ttl_ms": 0}), "cache.ttl_ms: is no time to live; accepted is"),
            (json!({"ttl_ms": "1m"}), "cache.ttl_ms: "),
            (json!({"ttl_ms": 86_400_001}), "cache.ttl_ms: "),
            (json!({"scope": "all"}), "cache.scope: is no scope; accepted are user"),
            (json!({"ttl": 5}), "cache.ttl: is not a field; known are"),
        ] {
            let text = CacheRule::parse(&value).unwrap_err().to_string();
            assert!(text.starts_with(begins), "{text}");
        }
    }
}
