//! What workers saw of the limits that made calls wait in the last minutes.
//!
//! A limit has parts: a rate, a concurrency, one that adapts, a retry budget. Each part is counted by itself, so that a reader knows which
//! one to raise. Its name is the limit's text and the part: `server:crm rate`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::omit::is_zero;
use super::top::busiest;
use crate::ids::Tenant;
use crate::time::Timestamp;

/// Under this name the waits of all limits that are not listed are summed up.
pub const OTHER_LIMITS: &str = "*";
/// The most tenants of a limit in a row and in a summary.
pub const MOST_TENANTS_AT_LIMIT: usize = 3;

/// The part of a limit that made calls wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitPart {
    /// So many calls in a period.
    Rate,
    /// So many open requests.
    Concurrency,
    /// The open requests that adapt to a tool's answers, in each worker alone.
    Adaptive,
    /// The retries at a server.
    RetryBudget,
}

impl LimitPart {
    const ALL: [Self; 4] = [Self::Rate, Self::Concurrency, Self::Adaptive, Self::RetryBudget];

    /// The word in names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Concurrency => "concurrency",
            Self::Adaptive => "adaptive",
            Self::RetryBudget => "retry_budget",
        }
    }

    /// The name of this part of the limit `key`.
    pub fn of(self, key: &str) -> String {
        format!("{key} {}", self.as_str())
    }

    /// The limit and its part in a name; none in [`OTHER_LIMITS`], and in one of a later version.
    pub fn split(name: &str) -> Option<(&str, Self)> {
        let (key, word) = name.rsplit_once(' ')?;
        Some((key, Self::ALL.into_iter().find(|part| part.as_str() == word)?))
    }
}

/// What was seen of one part of a limit in the last minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitSeen {
    /// Its value: `20/s`, or the most open requests. None where each worker finds its own.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How often a call waited for it in a worker, without a slot.
    #[serde(rename = "w", default, skip_serializing_if = "is_zero")]
    pub waited: u64,
    /// How often a call went back to its queue for it.
    #[serde(rename = "r", default, skip_serializing_if = "is_zero")]
    pub requeued: u64,
    /// How many requests may have been written more than 20 ms after their turns: their worker was frozen or too slow.
    #[serde(rename = "l", default, skip_serializing_if = "is_zero")]
    pub late: u64,
    /// When a call met it last.
    #[serde(rename = "at", default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// Whose calls waited and went back most, with how many they were.
    #[serde(rename = "t", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<Tenant, u64>,
}

impl LimitSeen {
    /// A limit of that value that made no call wait.
    pub fn idle(value: Option<String>) -> Self {
        Self { value, ..Self::default() }
    }

    /// How often it made a call wait.
    pub const fn times(&self) -> u64 {
        self.waited.saturating_add(self.requeued)
    }

    /// Adds what another worker saw. The value is that of the worker whose call met the limit last.
    pub fn merge(&mut self, other: &Self) {
        self.waited = self.waited.saturating_add(other.waited);
        self.requeued = self.requeued.saturating_add(other.requeued);
        self.late = self.late.saturating_add(other.late);
        if (self.last, &self.value) < (other.last, &other.value) {
            (self.last, self.value) = (other.last, other.value.clone());
        }
        for (tenant, times) in &other.tenants {
            let sum = self.tenants.entry(tenant.clone()).or_default();
            *sum = sum.saturating_add(*times);
        }
    }
}

/// Keeps the `most` limits that made calls wait most often; the others are summed up under [`OTHER_LIMITS`]. Gives how many these are.
pub fn keep_busiest_limits(limits: &mut BTreeMap<String, LimitSeen>, most: usize) -> u64 {
    let mut others = limits.remove(OTHER_LIMITS).unwrap_or_default();
    let rest = busiest(limits, most, LimitSeen::times);
    rest.values().for_each(|seen| others.merge(seen));
    for seen in limits.values_mut() {
        busiest(&mut seen.tenants, MOST_TENANTS_AT_LIMIT, |times| *times);
    }
    if others.times() > 0 || others.late > 0 {
        let LimitSeen { waited, requeued, late, last, .. } = others;
        limits
            .insert(OTHER_LIMITS.into(), LimitSeen { waited, requeued, late, last, ..LimitSeen::default() });
    }
    u64::try_from(rest.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(waited: u64, requeued: u64, at_ms: i64, value: &str) -> LimitSeen {
        let tenants = BTreeMap::from([(Tenant::parse("acme").unwrap(), waited + requeued)]);
        LimitSeen {
            value: Some(value.into()),
            waited,
            requeued,
            late: 0,
            last: Some(Timestamp::from_ms(at_ms)),
            tenants,
        }
    }

    #[test]
    fn a_name_is_split_into_the_limit_and_its_part() {
        for part in LimitPart::ALL {
            let name = part.of("tenant:acme/tool:crm/any name");
            assert_eq!(LimitPart::split(&name), Some(("tenant:acme/tool:crm/any name", part)));
        }
        assert_eq!((LimitPart::split(OTHER_LIMITS), LimitPart::split("server:crm later")), (None, None));
    }

    #[test]
    fn counts_are_added_and_the_value_is_the_latest() {
        let mut sum = seen(1, 2, 10, "20/s");
        sum.merge(&seen(3, 4, 20, "5/s"));
        sum.merge(&LimitSeen { late: 2, ..seen(0, 1, 15, "9/s") });
        assert_eq!(sum.late, 2);
        assert_eq!((sum.waited, sum.requeued, sum.value.as_deref()), (4, 7, Some("5/s")));
        assert_eq!(sum.tenants.values().sum::<u64>(), 11);
    }

    #[test]
    fn limits_beyond_the_busiest_are_summed_up() {
        let mut limits: BTreeMap<_, _> =
            (0..5).map(|n| (format!("server:s{n} rate"), seen(n, 0, 10, "1/s"))).collect();
        limits.insert(OTHER_LIMITS.into(), seen(100, 0, 5, "1/s"));
        assert_eq!(keep_busiest_limits(&mut limits, 2), 3);
        let names: Vec<_> = limits.keys().map(String::as_str).collect();
        assert_eq!(names, [OTHER_LIMITS, "server:s3 rate", "server:s4 rate"]);
        let others = &limits[OTHER_LIMITS];
        assert_eq!((others.waited, others.value.as_ref(), others.tenants.len()), (103, None, 0));
    }
}
