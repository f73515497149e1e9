//! Counts of calls by outcome.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::outcome::OutcomeKind;

const KINDS: [OutcomeKind; 9] = [
    OutcomeKind::Succeeded,
    OutcomeKind::ToolError,
    OutcomeKind::Failed,
    OutcomeKind::Refused,
    OutcomeKind::Expired,
    OutcomeKind::TimedOut,
    OutcomeKind::Cancelled,
    OutcomeKind::InputRequired,
    OutcomeKind::OutcomeUnknown,
];

/// How many calls ended with each outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutcomeCounts([u64; KINDS.len()]);

impl OutcomeCounts {
    /// Counts one call.
    pub fn add(&mut self, kind: OutcomeKind) {
        self.add_many(kind, 1);
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }

    /// The calls with that outcome.
    pub fn of(&self, kind: OutcomeKind) -> u64 {
        self.iter().filter(|(one, _)| *one == kind).map(|(_, count)| count).sum()
    }

    /// All calls.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The calls whose outcome is a failure ([`OutcomeKind::is_failure`]).
    pub fn failures(&self) -> u64 {
        self.iter().filter(|(kind, _)| kind.is_failure()).map(|(_, count)| count).sum()
    }

    /// Whether no call is counted.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// Each outcome with its count, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (OutcomeKind, u64)> {
        KINDS.into_iter().zip(self.0)
    }

    fn add_many(&mut self, kind: OutcomeKind, count: u64) {
        for (_, sum) in KINDS.iter().zip(&mut self.0).filter(|(one, _)| **one == kind) {
            *sum = sum.saturating_add(count);
        }
    }
}

impl Serialize for OutcomeCounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.iter().filter(|(_, count)| *count > 0).map(|(kind, count)| (kind.as_str(), count)),
        )
    }
}

impl<'de> Deserialize<'de> for OutcomeCounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = BTreeMap::<String, u64>::deserialize(deserializer)?;
        let mut counts = Self::default();
        for kind in KINDS {
            counts.add_many(kind, words.get(kind.as_str()).copied().unwrap_or(0));
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_counted_and_read_back() {
        let mut counts = OutcomeCounts::default();
        for (times, kind) in KINDS.into_iter().enumerate() {
            (0..=times).for_each(|_| counts.add(kind));
        }
        assert_eq!(counts.total(), (1..=9).sum::<u64>());
        assert_eq!(counts.of(OutcomeKind::Failed), 3);
        assert_eq!(counts.failures(), counts.total() - 1 - 8);
        let text = serde_json::to_string(&counts).unwrap();
        assert_eq!(serde_json::from_str::<OutcomeCounts>(&text).unwrap(), counts);
        let mut twice = counts;
        twice.merge(&counts);
        assert_eq!(twice.total(), 2 * counts.total());
    }

    #[test]
    fn an_outcome_of_a_later_version_is_left_out() {
        let counts: OutcomeCounts = serde_json::from_str(r#"{"succeeded":2,"vanished":1}"#).unwrap();
        assert_eq!(counts.total(), 2);
        assert_eq!(serde_json::to_string(&counts).unwrap(), r#"{"succeeded":2}"#);
    }
}
