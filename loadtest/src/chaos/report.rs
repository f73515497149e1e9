//! The report of a chaos run: how often each fault came, how calls ended, both sets of the rule about unknown outcomes, and the violations.
//!
//! **Invariant:** a run that did not settle, or has a violation, is not clean.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::account::{Account, Violation};
use super::args::ChaosArgs;
use super::evidence::Evidence;

/// How many ids of a set, and how many violations, are printed; the JSON has them all.
const PRINTED: usize = 40;

/// The report.
#[derive(Debug, Serialize)]
pub(crate) struct ChaosReport {
    seed: u64,
    load: String,
    debug_build: bool,
    /// What the queues held when the run was given up; none if they were empty in time.
    left: Option<String>,
    lasted_s: f64,
    calls: usize,
    requests: u64,
    executions: u64,
    safe_repeats: u64,
    stored: u64,
    groups: BTreeMap<&'static str, u32>,
    late_successes: u64,
    late_answers: u64,
    unread_tasks: u64,
    answers_elsewhere: u64,
    answers_after_loss: u64,
    under_lowered: u64,
    late_starts: u64,
    after_freeze: u64,
    notices: usize,
    lost_leases: u64,
    own_ends: usize,
    /// How long after its deadline the latest call ended, and the latest group was decided.
    latest_end_ms: u64,
    latest_decision_ms: u64,
    injected: BTreeMap<String, u64>,
    used: BTreeMap<String, u64>,
    /// What the run lacks because too few requests reached the servers.
    unproved: Vec<String>,
    outcomes: BTreeMap<&'static str, BTreeMap<&'static str, u32>>,
    /// The calls that ended as `outcome_unknown`.
    unknown: Vec<String>,
    /// The calls that are not safe to repeat and were cut.
    cut: Vec<String>,
    violations: Vec<String>,
}

impl ChaosReport {
    pub(crate) fn new(
        args: &ChaosArgs,
        evidence: &Evidence,
        account: Account,
        left: Option<String>,
        lasted: Duration,
    ) -> Self {
        let load = format!(
            "{} calls in {} s, {} workers with {} slots, leases of {} ms",
            args.calls, args.seconds, args.workers, args.slots, args.lease_ms
        );
        let sum = |of: fn(&super::evidence::CallSeen) -> u32| {
            evidence.calls.iter().map(|call| u64::from(of(call))).sum()
        };
        Self {
            seed: args.seed,
            load,
            debug_build: cfg!(debug_assertions),
            left,
            lasted_s: lasted.as_secs_f64(),
            calls: evidence.calls.len(),
            requests: sum(|call| call.requests),
            executions: sum(|call| call.executions),
            safe_repeats: account.safe_repeats,
            stored: account.stored,
            groups: account.groups,
            late_successes: account.late_successes,
            late_answers: account.late_answers,
            unread_tasks: account.unread_tasks,
            answers_elsewhere: super::used::elsewhere(evidence),
            answers_after_loss: evidence.answers_after_loss,
            under_lowered: account.under_lowered,
            late_starts: account.late_starts,
            after_freeze: account.after_freeze,
            notices: evidence.calls.iter().map(|call| call.notices.len()).sum(),
            lost_leases: evidence.lost_leases,
            own_ends: evidence.own_ends.len(),
            latest_end_ms: account.latest_end_us / 1_000,
            latest_decision_ms: account.latest_decision_us / 1_000,
            injected: evidence.injected.clone(),
            used: evidence.used.clone(),
            unproved: account.unproved,
            outcomes: account.outcomes,
            unknown: account.unknown,
            cut: account.cut,
            violations: account.violations.iter().map(Violation::to_string).collect(),
        }
    }

    /// Whether no rule was broken and all calls ended in time.
    pub(crate) const fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.left.is_none()
    }

    /// Prints it, writes the JSON; true if it is clean.
    pub(crate) fn publish(&self, json: Option<&Path>) -> anyhow::Result<bool> {
        print!("{self}");
        if let Some(file) = json {
            let text = serde_json::to_string_pretty(self)?;
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(self.is_clean())
    }
}

impl fmt::Display for ChaosReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = if self.debug_build { " (debug build)" } else { "" };
        writeln!(f, "chaos, seed {}: {}{build}", self.seed, self.load)?;
        writeln!(f, "  lasted {:.1} s until all queues were empty", self.lasted_s)?;
        writeln!(f, "  faults")?;
        for (fault, times) in self.injected.iter().chain(&self.used) {
            writeln!(f, "    {fault:<58}{times:>8}")?;
        }
        writeln!(f, "  how calls ended, by server")?;
        for (server, outcomes) in &self.outcomes {
            let list: Vec<_> = outcomes.iter().map(|(outcome, times)| format!("{outcome} {times}")).collect();
            writeln!(f, "    {server:<12}{}", list.join(", "))?;
        }
        writeln!(f, "  counts")?;
        let counts = [
            ("calls", self.calls as u64),
            ("requests that reached a server", self.requests),
            ("executions", self.executions),
            ("of them repeats of calls that are safe to repeat", self.safe_repeats),
            ("calls given a stored answer", self.stored),
            ("groups", self.groups.values().copied().map(u64::from).sum()),
            ("members that succeeded after the decision of their group", self.late_successes),
            ("late answers in the audit", self.late_answers),
            ("tasks that go on, unread when their call ended", self.unread_tasks),
            ("notices", self.notices as u64),
            ("answers given by another worker than the one that was asked", self.answers_elsewhere),
            ("answers given after the worker that was asked was lost", self.answers_after_loss),
            ("starts under a lowered rate", self.under_lowered),
            ("starts over the rate that delays after turns explain", self.late_starts),
            ("open requests over the limit right after a freeze", self.after_freeze),
            ("leases that ran out in living workers", self.lost_leases),
            ("workers that ended by themselves", self.own_ends as u64),
            ("ms after its deadline that the latest call ended", self.latest_end_ms),
            ("ms after its deadline that the latest group was decided", self.latest_decision_ms),
        ];
        for (name, count) in counts {
            writeln!(f, "    {name:<58}{count:>8}")?;
        }
        self.sets(f)?;
        self.verdict(f)
    }
}

impl ChaosReport {
    /// Both sets: unknown must lie within cut, unless the call is safe to repeat.
    fn sets(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, set) in [
            ("calls whose outcome is unknown", &self.unknown),
            ("calls not safe to repeat that were sent or claimed, and their answer was cut", &self.cut),
        ] {
            writeln!(f, "  {}: {name}", set.len())?;
            let ids = set.iter().take(PRINTED).map(String::as_str).collect::<Vec<_>>().join(" ");
            let more = set.len().saturating_sub(PRINTED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            writeln!(f, "    {ids}{more}")?;
        }
        Ok(())
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in &self.unproved {
            writeln!(f, "  not proved: {what}: none, since too few requests reached the servers")?;
        }
        if let Some(left) = &self.left {
            writeln!(f, "  VIOLATION [not-in-time] messages were left when the run was given up: {left}")?;
        }
        for violation in self.violations.iter().take(PRINTED) {
            writeln!(f, "  VIOLATION {violation}")?;
        }
        match self.violations.len() {
            0 if self.left.is_none() => writeln!(f, "  every call is accounted for"),
            n if n > PRINTED => writeln!(f, "  and {} violations more; seed {}", n - PRINTED, self.seed),
            _ => writeln!(f, "  seed {}", self.seed),
        }
    }
}
