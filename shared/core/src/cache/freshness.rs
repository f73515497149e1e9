//! How long an answer may be stored, by what its server and the catalog say.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::rule::{CacheRule, MAX_TTL_MS};

/// How long an answer is kept if neither its server nor its registration says so: five minutes.
pub const DEFAULT_TTL_MS: u64 = 300_000;

/// What a server says in an answer about storing it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Freshness {
    /// `ttlMs`: how long it holds.
    pub ttl_ms: Option<u64>,
    /// `cacheScope: public`: whether it holds for everybody.
    pub public: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(borrow, default)]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, default)]
    cache_scope: Option<&'a RawValue>,
}

impl Freshness {
    /// What a result says. A member that cannot be read counts as absent.
    pub fn of(result: &RawValue) -> Self {
        let wire: Option<Wire<'_>> = serde_json::from_str(result.get()).ok();
        let Some(Wire { ttl_ms, cache_scope }) = wire else {
            return Self::default();
        };
        Self {
            ttl_ms: ttl_ms.and_then(|ms| serde_json::from_str(ms.get()).ok()),
            public: cache_scope.is_some_and(|scope| scope.get() == "\"public\""),
        }
    }

    /// How long the answer may be kept, in milliseconds; nothing if it may not. The server's word counts before the registration's.
    pub fn kept_ms(self, rule: Option<&CacheRule>) -> Option<u64> {
        let of_catalog = rule.map(|rule| rule.ttl_ms.unwrap_or(DEFAULT_TTL_MS));
        self.ttl_ms.or(of_catalog).map(|ms| ms.min(MAX_TTL_MS)).filter(|ms| *ms > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Freshness {
        Freshness::of(&RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn the_time_to_live_is_the_servers_else_the_tools_else_five_minutes() {
        let tool = CacheRule { ttl_ms: Some(60_000), ..CacheRule::default() };
        let says = of(r#"{"content":[],"ttlMs":5000}"#);
        assert_eq!(says.kept_ms(Some(&tool)), Some(5_000));
        assert_eq!(says.kept_ms(None), Some(5_000));
        let silent = of(r#"{"content":[]}"#);
        assert_eq!(silent.kept_ms(Some(&tool)), Some(60_000));
        assert_eq!(silent.kept_ms(Some(&CacheRule::default())), Some(300_000));
        assert_eq!(silent.kept_ms(None), None, "nobody allowed it");
        assert_eq!(of(r#"{"ttlMs":0}"#).kept_ms(Some(&tool)), None, "the server forbids it");
        assert_eq!(of(r#"{"ttlMs":999999999999}"#).kept_ms(None), Some(MAX_TTL_MS));
    }

    #[test]
    fn only_the_word_public_is_public() {
        assert!(of(r#"{"cacheScope":"public"}"#).public);
        for odd in [r#"{"cacheScope":"private"}"#, r#"{"cacheScope":["public"]}"#, r#"{"ttlMs":"1"}"#, "7"] {
            assert_eq!(of(odd), Freshness::default(), "{odd}");
        }
    }
}
