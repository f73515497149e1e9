//! The limits of one server, tool or tenant, as the catalog and the control table write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::holders::MOST_ENTRIES;

/// The most calls of a rate, and the most open requests.
const MOST: u32 = 1_000_000;
/// The most open requests of a limit that counts tasks: it cannot be given out in blocks.
const MOST_COUNTED: Positive = Positive(MOST_ENTRIES);
/// The longest period of a rate, in seconds.
const LONGEST_S: u32 = 86_400;

/// At most `count` calls in any `seconds` seconds. Its text is `20/s`, `100/m`, `500/h` or `3/10s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RateLimit {
    count: u32,
    seconds: u32,
}

/// A text that is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no rate: accepted is a whole number from 1 to {MOST}, a slash and a period of 1 to {LONGEST_S} seconds, for example 20/s, 100/m, 500/h or 3/10s; \
     a rate below one call a second needs a longer period"
)]
pub struct RateLimitError;

impl RateLimit {
    /// At most `count` calls in `seconds` seconds.
    ///
    /// # Errors
    /// One of the numbers is 0 or too large.
    pub const fn new(count: u32, seconds: u32) -> Result<Self, RateLimitError> {
        if count == 0 || count > MOST || seconds == 0 || seconds > LONGEST_S {
            return Err(RateLimitError);
        }
        Ok(Self { count, seconds })
    }

    /// The most calls in the period.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The period, in seconds.
    pub const fn seconds(self) -> u32 {
        self.seconds
    }

    /// The distance of two turns in microseconds. So many turns as the limit allows take a twentieth longer than the period, so that
    /// neither the difference of two clocks nor the delay of a request puts one call too many into a period.
    pub const fn spacing_us(self) -> i64 {
        let period_us = self.seconds as i64 * 1_000_000;
        (period_us + period_us / 20) / self.count as i64 + 1
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            1 => write!(f, "{}/s", self.count),
            60 => write!(f, "{}/m", self.count),
            3_600 => write!(f, "{}/h", self.count),
            seconds => write!(f, "{}/{seconds}s", self.count),
        }
    }
}

impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<Self, RateLimitError> {
        let (count, period) = text.split_once('/').ok_or(RateLimitError)?;
        let whole = |text: &str| text.parse::<u32>().map_err(|_| RateLimitError);
        let digits = period.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = period.split_at_checked(digits).ok_or(RateLimitError)?;
        let unit_s = match unit {
            "s" | "sec" => 1,
            "m" | "min" => 60,
            "h" => 3_600,
            "d" => LONGEST_S,
            _ => return Err(RateLimitError),
        };
        let number = if number.is_empty() { 1 } else { whole(number)? };
        let seconds = number.checked_mul(unit_s).ok_or(RateLimitError)?;
        Self::new(whole(count)?, seconds)
    }
}

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rate;
        impl serde::de::Visitor<'_> for Rate {
            type Value = RateLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate as a text, for example \"20/s\", \"100/m\" or \"3/10s\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RateLimit, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Rate)
    }
}

/// What happens to the permit of a request whose worker is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLoss {
    /// It is held until the attempt's own time-out: the server may still work on the request.
    #[default]
    Hold,
    /// It is free after the worker's lease: the server ends a request whose connection is gone.
    Free,
}

/// At most `limit` open requests at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct ConcurrencyLimit {
    /// The most open requests.
    pub limit: Positive,
    /// What happens to the permit of a request whose worker is lost.
    pub on_loss: OnLoss,
    /// Whether a call that has become a task of its server keeps its permit until the task has ended.
    pub count_tasks: bool,
}

/// A whole number from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Positive(u32);

impl Positive {
    /// The number, unless it is 0 or too large.
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 || number > MOST { None } else { Some(Self(number)) }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// A number or a text that is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no limit: accepted is a whole number from 1 to {MOST}")]
pub struct PositiveError;

impl fmt::Display for Positive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Positive {
    type Err = PositiveError;

    fn from_str(text: &str) -> Result<Self, PositiveError> {
        text.parse().ok().and_then(Self::new).ok_or(PositiveError)
    }
}

impl<'de> Deserialize<'de> for Positive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        Self::new(number).ok_or_else(wrong_limit)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WholeConcurrency {
    limit: Positive,
    #[serde(default)]
    on_loss: OnLoss,
    #[serde(default)]
    count_tasks: bool,
}

impl<'de> Deserialize<'de> for ConcurrencyLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrObject;
        impl<'de> serde::de::Visitor<'de> for NumberOrObject {
            type Value = ConcurrencyLimit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 1, or an object {\"limit\", \"on_loss\", \"count_tasks\"}")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ConcurrencyLimit, E> {
                let limit = u32::try_from(number).ok().and_then(Positive::new).ok_or_else(wrong_limit)?;
                Ok(ConcurrencyLimit::of(limit))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ConcurrencyLimit, A::Error> {
                let whole = WholeConcurrency::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let WholeConcurrency { limit, on_loss, count_tasks } = whole;
                if count_tasks && limit > MOST_COUNTED {
                    return Err(serde::de::Error::custom(CountedError));
                }
                Ok(ConcurrencyLimit { limit, on_loss, count_tasks })
            }
        }
        deserializer.deserialize_any(NumberOrObject)
    }
}

fn wrong_limit<E: serde::de::Error>() -> E {
    E::custom(PositiveError)
}

/// A limit that counts tasks is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "has a limit above {MOST_COUNTED}, the most where count_tasks is true: each open request and task is an entry of one row, whose size is \
     paid with each write; lower the limit, leave out count_tasks, or limit the server's tools or its tenants instead"
)]
struct CountedError;

impl ConcurrencyLimit {
    /// The same with another limit, as operators set it live. One that counts tasks stays within what its row can hold.
    pub fn with_limit(self, limit: Positive) -> Self {
        let limit = if self.count_tasks { limit.min(MOST_COUNTED) } else { limit };
        Self { limit, ..self }
    }

    /// A limit of that many open requests, with the defaults of the rest.
    pub const fn of(limit: Positive) -> Self {
        Self { limit, on_loss: OnLoss::Hold, count_tasks: false }
    }
}

/// All limits of one server, tool or tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRules {
    /// How many calls in a period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
    /// How many open requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<ConcurrencyLimit>,
    /// Whether each worker adapts its open requests to the answers of the server. Of tools and servers only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adaptive: bool,
}

impl LimitRules {
    /// No limits.
    pub const fn none() -> Self {
        Self { rate: None, concurrency: None, adaptive: false }
    }

    /// Whether nothing is limited.
    pub const fn is_empty(&self) -> bool {
        self.rate.is_none() && self.concurrency.is_none() && !self.adaptive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_written_as_people_say_it() {
        for (text, count, seconds, written) in [
            ("20/s", 20, 1, "20/s"),
            ("100/min", 100, 60, "100/m"),
            ("100/60s", 100, 60, "100/m"),
            ("5/2m", 5, 120, "5/120s"),
            ("500/h", 500, 3_600, "500/h"),
            ("3/10s", 3, 10, "3/10s"),
            ("1000/d", 1_000, 86_400, "1000/86400s"),
        ] {
            let rate: RateLimit = text.parse().expect(text);
            assert_eq!((rate.count(), rate.seconds()), (count, seconds), "{text}");
            assert_eq!(rate.to_string(), written);
            assert_eq!(written.parse(), Ok(rate));
        }
        for wrong in ["20", "0/s", "20/0s", "-1/s", "20/week", "1.5/s", "2000000/s", "1/86401s", ""] {
            assert!(wrong.parse::<RateLimit>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_turns_of_a_limit_take_longer_than_its_period() {
        for (count, seconds) in [(1, 1), (20, 1), (1_000, 1), (100, 60), (7, 3)] {
            let rate = RateLimit::new(count, seconds).unwrap();
            let span_us = rate.spacing_us() * i64::from(count);
            let period_us = i64::from(seconds) * 1_000_000;
            assert!(span_us > period_us * 21 / 20 - 1, "{rate}");
            assert!(span_us < period_us * 106 / 100, "{rate} is used by 94 % at least");
        }
    }

    #[test]
    fn limits_are_read_in_their_short_and_their_long_form() {
        let read = |text: &str| serde_json::from_str::<LimitRules>(text);
        let short = read(r#"{"rate": "20/s", "concurrency": 5}"#).unwrap();
        assert_eq!(short.rate, RateLimit::new(20, 1).ok());
        assert_eq!(short.concurrency, Positive::new(5).map(ConcurrencyLimit::of));
        let long = read(
            r#"{"concurrency": {"limit": 5, "on_loss": "free", "count_tasks": true}, "adaptive": true}"#,
        )
        .unwrap();
        let concurrency = long.concurrency.unwrap();
        assert_eq!((concurrency.on_loss, concurrency.count_tasks, long.adaptive), (OnLoss::Free, true, true));
        assert_eq!(read(&serde_json::to_string(&long).unwrap()).unwrap(), long);
        assert!(read(r#"{"concurrency": {"limit": 4000, "count_tasks": true}}"#).is_ok());
        assert!(read(r#"{"concurrency": {"limit": 4001}}"#).is_ok(), "it is given out in blocks");
        let live = Positive::new(9_000).unwrap();
        assert_eq!(concurrency.with_limit(live).limit.get(), 4_000);
        assert_eq!(ConcurrencyLimit { count_tasks: false, ..concurrency }.with_limit(live).limit, live);
        for (wrong, why) in [
            (r#"{"rate": 20}"#, "a rate as a text"),
            (r#"{"rate": "20"}"#, "is no rate"),
            (r#"{"rates": "20/s"}"#, "unknown field"),
            (r#"{"concurrency": 0}"#, "a whole number from 1 to"),
            (r#"{"concurrency": "5"}"#, "or an object"),
            (r#"{"concurrency": {"limit": 5, "onloss": "free"}}"#, "unknown field"),
            (
                r#"{"concurrency": {"limit": 4001, "count_tasks": true}}"#,
                "above 4000, the most where count_tasks",
            ),
        ] {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
    }
}
