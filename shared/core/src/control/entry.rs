//! The entries of the control table: one row for each switch, strike, drain, live limit, weight and cancel rule.

use serde::{Deserialize, Serialize};

use super::cancel_rule::CancelRule;
use super::subject::Subject;
use super::target::SwitchTarget;
use crate::digest::Digest;
use crate::ids::{Tenant, WorkerId};
use crate::limits::{Positive, RateLimit};
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

/// What replaces a limit of the catalog. A part that is absent stays as the catalog, or another entry, says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitChange {
    /// The rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<RateLimit>,
    /// The most calls at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Positive>,
}

impl LimitChange {
    /// Each part alone: an entry for each is set, replaced and ended for itself.
    pub fn parts(self) -> impl Iterator<Item = Self> {
        let rate = Self { concurrency: None, ..self };
        let concurrency = Self { rate: None, ..self };
        [rate, concurrency].into_iter().filter(|part| part.rate.is_some() || part.concurrency.is_some())
    }
}

/// A limit as operators have changed it, each part with its own end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LiveLimit {
    rate: Option<(RateLimit, Option<Timestamp>)>,
    concurrency: Option<(Positive, Option<Timestamp>)>,
}

impl LiveLimit {
    /// Sets a part of it until then.
    pub fn set(&mut self, change: LimitChange, until: Option<Timestamp>) {
        self.rate = change.rate.map(|rate| (rate, until)).or(self.rate);
        self.concurrency = change.concurrency.map(|most| (most, until)).or(self.concurrency);
    }

    /// The change that holds now. What has ended is none, also where its entry cannot be read again.
    pub fn at(self, now: Timestamp) -> LimitChange {
        let holds = |until: Option<Timestamp>| until.is_none_or(|until| now < until);
        LimitChange {
            rate: self.rate.filter(|(_, until)| holds(*until)).map(|(rate, _)| rate),
            concurrency: self.concurrency.filter(|(_, until)| holds(*until)).map(|(most, _)| most),
        }
    }

    /// When its parts end by themselves.
    pub fn ends(self) -> impl Iterator<Item = Timestamp> {
        let rate = self.rate.and_then(|(_, until)| until);
        rate.into_iter().chain(self.concurrency.and_then(|(_, until)| until))
    }
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
            Self::Limit { limit, change, .. } => match (change.rate, change.concurrency) {
                (Some(_), None) => format!("limit#{limit}#rate"),
                (None, Some(_)) => format!("limit#{limit}#concurrency"),
                (Some(_), Some(_)) | (None, None) => format!("limit#{limit}"),
            },
            Self::Weight { tenant, .. } => format!("weight#{tenant}"),
            Self::Cancel(rule) => format!("cancel#{}", rule.id),
        }
    }

    /// Since when it is set.
    pub const fn since(&self) -> Timestamp {
        match self {
            Self::Pause(switch) => switch.since,
            Self::Strike(strike) => strike.since,
            Self::Drain { since, .. } | Self::Limit { since, .. } | Self::Weight { since, .. } => *since,
            Self::Cancel(rule) => rule.since,
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
        let change = LimitChange { rate: RateLimit::new(20, 1).ok(), concurrency: Positive::new(5) };
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
