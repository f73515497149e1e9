//! The entries of the control table: one row for each switch, strike, drain, live limit, weight and cancel rule.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cancel_rule::CancelRule;
use super::subject::Subject;
use super::target::SwitchTarget;
use crate::digest::Digest;
use crate::ids::{Tenant, WorkerId};
use crate::time::Timestamp;

/// A pause that an operator has set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// What is paused.
    pub target: SwitchTarget,
    /// The only tenant for whom it is paused; none means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Tenant>,
    /// Who paused it.
    pub by: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Switch {
    /// Whether it has an effect now.
    pub fn is_on(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it stops such a call.
    pub fn matches(&self, subject: Subject<'_>) -> bool {
        self.tenant.as_ref().is_none_or(|tenant| tenant == subject.tenant) && self.target.matches(subject)
    }

    /// Who paused what, since when and why, as a part of a sentence for people.
    pub fn detail(&self) -> String {
        let until = self.until.map_or_else(String::new, |until| format!(", until {until}"));
        let tenant = self.tenant.as_ref().map_or_else(String::new, |tenant| format!(" for tenant {tenant}"));
        format!("{}{tenant} paused by {} since {}{until}: {}", self.target, self.by, self.since, self.why)
    }
}

/// Requests of one digest, which are held. The digest covers the tool and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strike {
    /// The digest of the request, or a beginning of it of at least eight characters.
    pub digest: String,
    /// Who struck it.
    pub by: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Strike {
    /// The fewest characters of a digest.
    pub const SHORTEST_DIGEST: usize = 8;

    /// Whether it has an effect now.
    pub fn is_on(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Who struck what, since when and why, as a part of a sentence for people.
    pub fn detail(&self) -> String {
        let Self { digest, by, why, since, until } = self;
        let until = until.map_or_else(String::new, |until| format!(", until {until}"));
        format!("digest {digest} struck by {by} since {since}{until}: {why}")
    }

    /// Whether it stops a call that asks for `digest`.
    pub fn matches(&self, digest: &Digest) -> bool {
        self.digest.len() >= Self::SHORTEST_DIGEST && digest.to_string().starts_with(&self.digest)
    }
}

/// A rate: so many calls in so many seconds. Written as `20/s`, `100/m`, `1000/h` or `5/30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how many seconds.
    pub per_s: u32,
}

/// Why a text is not a rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no rate; accepted is COUNT/PERIOD with whole numbers from 1, for example 20/s, 100/m, 1000/h or 5/30s"
)]
pub struct RateError;

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let (count, period) = text.split_once('/').ok_or(RateError)?;
        let (number, unit_s) = match period.char_indices().last().ok_or(RateError)? {
            (at, 's') => (period.get(..at), 1),
            (at, 'm') => (period.get(..at), 60),
            (at, 'h') => (period.get(..at), 3_600),
            _ => return Err(RateError),
        };
        let number = match number.ok_or(RateError)? {
            "" => 1,
            number => number.parse::<u32>().map_err(|_| RateError)?,
        };
        let count = count.trim().parse::<u32>().map_err(|_| RateError)?;
        let per_s = number.checked_mul(unit_s).ok_or(RateError)?;
        if count == 0 || per_s == 0 { Err(RateError) } else { Ok(Self { count, per_s }) }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per_s {
            1 => write!(f, "{}/s", self.count),
            60 => write!(f, "{}/m", self.count),
            3_600 => write!(f, "{}/h", self.count),
            seconds => write!(f, "{}/{seconds}s", self.count),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What replaces a limit of the catalog. A part that is absent stays as the catalog says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitChange {
    /// The rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The most calls at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
}

/// One row of the control table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ControlEntry {
    /// A pause.
    Pause(Switch),
    /// A strike.
    Strike(Strike),
    /// A worker that is to drain.
    Drain {
        /// The worker.
        worker: WorkerId,
        /// Who asked for it.
        by: String,
        /// Why.
        why: String,
        /// Since when.
        since: Timestamp,
        /// When the row has no use any more.
        until: Timestamp,
    },
    /// A limit that was changed live.
    Limit {
        /// The limit's text, such as `server:crm`.
        limit: String,
        /// What replaces it.
        change: LimitChange,
        /// Who changed it.
        by: String,
        /// Why.
        why: String,
        /// Since when.
        since: Timestamp,
        /// When it ends by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// The weight of a tenant.
    Weight {
        /// The tenant.
        tenant: Tenant,
        /// Its weight.
        weight: u32,
        /// Who set it.
        by: String,
        /// Why.
        why: String,
        /// Since when.
        since: Timestamp,
    },
    /// A rule that cancels calls.
    Cancel(CancelRule),
}

impl ControlEntry {
    /// Its key among the entries: the same thing set again replaces it.
    pub fn key(&self) -> String {
        match self {
            Self::Pause(switch) => {
                let tenant = switch.tenant.as_ref().map_or("*", Tenant::as_str);
                format!("pause#{}#{tenant}", switch.target)
            }
            Self::Strike(strike) => format!("strike#{}", strike.digest),
            Self::Drain { worker, .. } => format!("drain#{worker}"),
            Self::Limit { limit, .. } => format!("limit#{limit}"),
            Self::Weight { tenant, .. } => format!("weight#{tenant}"),
            Self::Cancel(rule) => format!("cancel#{}", rule.id),
        }
    }

    /// When it ends by itself.
    pub const fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Pause(switch) => switch.until,
            Self::Strike(strike) => strike.until,
            Self::Drain { until, .. } => Some(*until),
            Self::Limit { until, .. } => *until,
            Self::Weight { .. } => None,
            Self::Cancel(rule) => Some(rule.until),
        }
    }

    /// Whether it has ended by itself.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until().is_some_and(|until| until <= now)
    }

    /// Who set it, and why.
    pub fn by(&self) -> (&str, &str) {
        match self {
            Self::Pause(switch) => (&switch.by, &switch.why),
            Self::Strike(strike) => (&strike.by, &strike.why),
            Self::Drain { by, why, .. } | Self::Limit { by, why, .. } | Self::Weight { by, why, .. } => {
                (by, why)
            }
            Self::Cancel(rule) => (&rule.by, &rule.why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_back_from_its_text() {
        for text in ["20/s", "100/m", "1000/h", "5/30s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("5/2m".parse::<Rate>(), Ok(Rate { count: 5, per_s: 120 }));
        for text in ["20", "0/s", "20/0s", "20/", "20/d", "-1/s", "1.5/s", "20/s/s", "9/99999999999s"] {
            assert_eq!(text.parse::<Rate>(), Err(RateError), "{text}");
        }
    }

    #[test]
    fn an_entry_is_read_back_from_its_json_and_has_one_key() {
        let at = Timestamp::from_ms(1_000);
        let switch = Switch {
            target: SwitchTarget::parse("server:crm").unwrap(),
            tenant: None,
            by: "ann".into(),
            why: "down".into(),
            since: at,
            until: None,
        };
        let change = LimitChange { rate: Some(Rate { count: 20, per_s: 1 }), concurrency: None };
        let (by, why) = ("ann".to_owned(), "x".to_owned());
        let limit =
            ControlEntry::Limit { limit: "server:crm".into(), change, by, why, since: at, until: None };
        for (entry, key) in [(ControlEntry::Pause(switch), "pause#server:crm#*"), (limit, "limit#server:crm")]
        {
            assert_eq!(entry.key(), key);
            let text = serde_json::to_string(&entry).unwrap();
            assert_eq!(serde_json::from_str::<ControlEntry>(&text).unwrap(), entry, "{text}");
        }
    }

    #[test]
    fn a_strike_needs_enough_of_the_digest() {
        let digest = Digest::of_text("x");
        let start = |n| digest.to_string().chars().take(n).collect::<String>();
        let strike = |digest| Strike {
            digest,
            by: "ann".into(),
            why: "poison".into(),
            since: Timestamp::from_ms(0),
            until: None,
        };
        assert!(strike(start(8)).matches(&digest));
        assert!(!strike(start(7)).matches(&digest));
        assert!(!strike("00000000".into()).matches(&digest));
    }
}
