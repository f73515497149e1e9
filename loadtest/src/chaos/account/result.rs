//! What the accounting gives.

use std::collections::BTreeMap;

use super::kind::{Kind, Violation};

/// The result of the accounting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The broken rules.
    pub violations: Vec<Violation>,
    /// The calls that ended as `outcome_unknown`.
    pub unknown: Vec<String>,
    /// The calls that are not safe to repeat and were cut.
    pub cut: Vec<String>,
    /// How many calls of each server ended how.
    pub outcomes: BTreeMap<&'static str, BTreeMap<&'static str, u32>>,
    /// Executions beyond the first of calls that are safe to repeat.
    pub safe_repeats: u64,
    /// Calls that were given a stored answer.
    pub stored: u64,
    /// How many groups were decided how.
    pub groups: BTreeMap<&'static str, u32>,
    /// Members that succeeded after their group was decided.
    pub late_successes: u64,
    /// Tasks that go on, and of which the worker had not read when their call ended.
    pub unread_tasks: u64,
    /// Late answers that were recorded.
    pub late_answers: u64,
    /// Requests over a limit that a worker sent right after it had been frozen.
    pub after_freeze: u64,
    /// Starts while every worker knew of a rate below that of the catalog.
    pub under_lowered: u64,
    /// How long after its deadline the latest call ended, in microseconds, and how long after its deadline the latest group was decided.
    pub latest_end_us: u64,
    /// See `latest_end_us`.
    pub latest_decision_us: u64,
    /// What the run lacks because too few requests reached the servers.
    pub unproved: Vec<String>,
    /// Starts over the rate at the server that the delays after their turns explain.
    pub late_starts: u64,
}

impl Account {
    pub(super) fn violation(&mut self, kind: Kind, detail: impl Into<String>) {
        self.violations.push(Violation { kind, detail: detail.into() });
    }
}
