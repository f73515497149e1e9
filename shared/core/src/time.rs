//! An instant: milliseconds since 1970 in UTC, as tables, messages and records carry it.
//!
//! **Invariant:** nothing here reads a clock; every `now` is an argument.

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

    /// Reads RFC 3339 text, of the years to 9999.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        match text.parse::<jiff::Timestamp>() {
            Ok(t) => Ok(Self(t.as_millisecond())),
            Err(_) => late(text).ok_or(TimestampError),
        }
    }
}

/// A span of time for people.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// [`jiff::Timestamp`] ends with 9999-12-30, so that each instant has a civil time everywhere: later ones are taken so many days
/// earlier.
const LATE_DAYS: i64 = 3;
const LATE_MS: i64 = LATE_DAYS * 24 * 60 * 60 * 1000;

/// An instant in the last days of 9999.
fn late(text: &str) -> Option<Timestamp> {
    let pieces = jiff::fmt::temporal::Pieces::parse(text).ok()?;
    let offset = pieces.to_numeric_offset()?;
    let earlier = pieces.date().checked_sub(jiff::Span::new().days(LATE_DAYS)).ok()?;
    let earlier = offset.to_timestamp(earlier.to_datetime(pieces.time()?)).ok()?;
    Some(Timestamp(earlier.as_millisecond().checked_add(LATE_MS)?))
}

/// The same as a text.
fn late_text(ms: i64) -> Option<String> {
    let earlier = jiff::Timestamp::from_millisecond(ms.checked_sub(LATE_MS)?).ok()?;
    let utc = jiff::tz::Offset::UTC.to_datetime(earlier);
    let at = utc.checked_add(jiff::Span::new().days(LATE_DAYS)).ok()?;
    Some(format!("{at:.3}Z"))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => match late_text(self.0) {
                Some(text) => f.write_str(&text),
                None => write!(f, "{} ms", self.0),
            },
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
        deserializer.deserialize_any(Instant)
    }
}

struct Instant;

impl serde::de::Visitor<'_> for Instant {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an instant as a text, RFC 3339 with an offset, for example \"2026-11-21T09:30:00Z\"; seconds or milliseconds since 1970 are not taken")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
        Timestamp::parse(text).map_err(E::custom)
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
    fn an_instant_is_read_as_people_write_it_to_the_year_9999() {
        for (text, written) in [
            ("2026-11-21 09:30:00+00:00", "2026-11-21T09:30:00.000Z"),
            ("2026-11-21t09:30:00z", "2026-11-21T09:30:00.000Z"),
            ("2026-11-21T10:30:00.123456+01:00", "2026-11-21T09:30:00.123Z"),
            ("2026-11-21T09:30:00-0000", "2026-11-21T09:30:00.000Z"),
            ("9999-12-30T23:00:00Z", "9999-12-30T23:00:00.000Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59.000Z"),
            ("9999-12-31T23:59:59.999-00:00", "9999-12-31T23:59:59.999Z"),
        ] {
            let at = Timestamp::parse(text).expect(text);
            assert_eq!(at.to_string(), written, "{text}");
            assert_eq!(Timestamp::parse(&at.to_string()).unwrap(), at);
        }
        for wrong in ["10000-01-01T00:00:00Z", "9999-12-31T23:59:59", "tomorrow", "1795253400", ""] {
            assert!(Timestamp::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_number_is_no_instant_and_the_error_says_what_is() {
        for number in ["1795253400", "1795253400.5", "-1", "1795253400123", "null", "[1]"] {
            let error = serde_json::from_str::<Timestamp>(number).unwrap_err().to_string();
            assert!(error.contains("RFC 3339 with an offset"), "{number}: {error}");
        }
    }

    #[test]
    fn a_span_is_shown_in_fitting_units() {
        let shown: Vec<_> = [5, 1_250, 61_000, 3_720_000].into_iter().map(span).collect();
        assert_eq!(shown, ["5 ms", "1.2 s", "1 min 1 s", "1 h 2 min"]);
    }

    #[test]
    fn a_local_time_without_an_offset_is_refused() {
        assert!(Timestamp::parse("2026-11-21T09:30:00").is_err());
    }
}
