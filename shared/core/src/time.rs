//! Owns the instant: milliseconds since 1970 in UTC, as tables, messages and records carry it.
//!
//! **Invariant:** nothing here asks what time it is; every `now` is an argument.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An instant in milliseconds since the Unix epoch, UTC. Written as RFC 3339 in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that is not an RFC 3339 instant.
#[derive(Debug, thiserror::Error)]
#[error("is not an instant: accepted is RFC 3339 with an offset, for example 2026-11-21T09:30:00Z")]
pub struct TimestampError;

impl Timestamp {
    /// The instant that is `ms` milliseconds after the Unix epoch.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, as a DynamoDB TTL attribute wants them.
    pub const fn as_s(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant without its fraction of a second: what a TTL attribute keeps of it.
    #[must_use]
    pub const fn whole_s(self) -> Self {
        Self(self.as_s().saturating_mul(1000))
    }

    /// This instant moved on by `ms` milliseconds.
    pub const fn plus_ms(self, ms: u64) -> Self {
        let step = if ms > i64::MAX as u64 { i64::MAX } else { ms as i64 };
        Self(self.0.saturating_add(step))
    }

    /// Milliseconds from `earlier` to this instant, 0 if it lies before.
    pub const fn ms_since(self, earlier: Self) -> u64 {
        let gap = self.0.saturating_sub(earlier.0);
        if gap < 0 { 0 } else { gap.unsigned_abs() }
    }

    /// The hour of this instant as `2026-11-21T09`, a part of the history table's key.
    pub fn hour(self) -> String {
        self.to_string().chars().take(13).collect()
    }

    /// Reads RFC 3339 text.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        text.parse::<jiff::Timestamp>().map(|t| Self(t.as_millisecond())).map_err(|_| TimestampError)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_and_read_back_to_the_millisecond() {
        let t = Timestamp::from_ms(1_795_253_400_123);
        assert_eq!(t.to_string(), "2026-11-21T09:30:00.123Z");
        assert_eq!(Timestamp::parse(&t.to_string()).unwrap(), t);
        assert_eq!(t.hour(), "2026-11-21T09");
    }

    #[test]
    fn a_local_time_without_an_offset_is_refused() {
        assert!(Timestamp::parse("2026-11-21T09:30:00").is_err());
    }
}
