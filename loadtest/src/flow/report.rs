//! The report of a flow scenario: figures with units and goals, the bill, and violations; as a table and as JSON.
//!
//! A figure may have a rule, which must hold on every machine (no lost call, no start too many), or a goal, which depends on the machine (a
//! ratio, a share). A broken rule is always a violation, a missed goal only in a strict report.
//!
//! **Invariant:** a figure that breaks its rule is a violation.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::prices::Bill;
use crate::traffic::Traffic;

/// How many violations are listed, the last ones: those of goals come after those of calls.
const LISTED: usize = 20;

/// What a figure must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// This value or less.
    AtMost(f64),
    /// This value or more.
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {}", digits(*most)),
            Self::AtLeast(least) => write!(f, "at least {}", digits(*least)),
        }
    }
}

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it should be, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
    /// Whether it is not what it should be.
    pub missed: bool,
}

/// The figures of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlowReport {
    /// The scenario's name.
    pub scenario: &'static str,
    /// A description of the load.
    pub load: String,
    /// The figures, in order.
    pub figures: Vec<Figure>,
    /// The workers' requests to AWS, if they were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// The bill of one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bill: Option<Bill>,
    /// What was wrong.
    pub violations: Vec<String>,
    /// Whether this program and its workers were built without optimisation.
    pub debug_build: bool,
    /// Whether a missed goal is a violation.
    pub strict: bool,
}

impl FlowReport {
    /// A report without figures.
    pub const fn new(scenario: &'static str, load: String, strict: bool) -> Self {
        Self {
            scenario,
            load,
            figures: Vec::new(),
            traffic: None,
            bill: None,
            violations: Vec::new(),
            debug_build: cfg!(debug_assertions),
            strict,
        }
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { name: name.into(), value, unit, goal: None, missed: false });
    }

    /// Adds a figure with a goal. A missed goal is a violation in a strict report only.
    pub fn goal(&mut self, name: impl Into<String>, value: f64, unit: &'static str, goal: Goal) {
        self.judged(name.into(), value, unit, goal, self.strict);
    }

    /// Adds a figure with a rule that must hold on every machine.
    pub fn rule(&mut self, name: impl Into<String>, value: f64, unit: &'static str, rule: Goal) {
        self.judged(name.into(), value, unit, rule, true);
    }

    fn judged(&mut self, name: String, value: f64, unit: &'static str, goal: Goal, must_hold: bool) {
        let missed = !goal.is_met(value);
        if missed && must_hold {
            self.violations.push(format!("{name}: {} {unit}, and it must be {goal}", digits(value)));
        }
        self.figures.push(Figure { name, value, unit, goal: Some(goal), missed });
    }

    /// Adds what the workers' requests to AWS cost, for that many calls.
    pub fn bill(&mut self, traffic: Option<Traffic>, calls: u32) {
        if let Some(traffic) = traffic {
            self.bill = Some(Bill::of(&traffic, calls));
            self.traffic = Some(traffic);
        }
    }

    /// Prints the table, writes the JSON; true if nothing was wrong.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn publish(&self, json: Option<&Path>) -> anyhow::Result<bool> {
        print!("{self}");
        if let Some(file) = json {
            let text = serde_json::to_string_pretty(self)?;
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(self.violations.is_empty())
    }
}

impl fmt::Display for FlowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = if self.debug_build { " (debug build)" } else { "" };
        writeln!(f, "{}: {}{build}", self.scenario, self.load)?;
        for Figure { name, value, unit, goal, missed } in &self.figures {
            let missed = if *missed { "  MISSED" } else { "" };
            let goal = goal.map_or_else(String::new, |goal| format!("  ({goal}){missed}"));
            writeln!(f, "  {name:<58}{:>10} {unit}{goal}", digits(*value))?;
        }
        if let Some(bill) = &self.bill {
            writeln!(
                f,
                "  {:<58}{:>10.2} USD: {:.3} write units, {:.3} read units, {:.3} SQS requests a call",
                "a million calls",
                bill.usd_per_million(),
                bill.write_units,
                bill.read_units,
                bill.sqs_requests
            )?;
        }
        for violation in self.violations.iter().rev().take(LISTED) {
            writeln!(f, "  VIOLATION {violation}")?;
        }
        match self.violations.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => writeln!(f, "  and {more} VIOLATIONS more"),
        }
    }
}

/// A value with as many places as say something.
fn digits(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1_000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(strict: bool) -> FlowReport {
        FlowReport::new("limit", "20/s".into(), strict)
    }

    #[test]
    fn a_broken_rule_is_always_a_violation() {
        let mut report = report(false);
        report.rule("over", 0.0, "calls", Goal::AtMost(0.0));
        report.figure("wait", 7.0, "ms");
        assert!(report.violations.is_empty());
        report.rule("over", 1.0, "calls", Goal::AtMost(0.0));
        assert_eq!(report.violations, ["over: 1 calls, and it must be at most 0"]);
        assert!(report.to_string().contains("(at most 0)  MISSED"), "{report}");
    }

    #[test]
    fn a_missed_goal_is_a_violation_in_a_strict_report_only() {
        for strict in [false, true] {
            let mut report = report(strict);
            report.goal("used", 0.9, "of it", Goal::AtLeast(0.9));
            assert!(report.violations.is_empty());
            report.goal("used", 0.899, "of it", Goal::AtLeast(0.9));
            assert_eq!(report.violations.len(), usize::from(strict), "{:?}", report.violations);
            assert!(report.to_string().contains("(at least 0.900)  MISSED"), "{report}");
        }
    }

    #[test]
    fn the_json_holds_figures_units_and_goals() {
        let mut report = report(false);
        report.goal("over", 0.0, "calls", Goal::AtMost(0.0));
        let json = serde_json::to_value(&report).unwrap();
        let figure = serde_json::json!({"name": "over", "value": 0.0, "unit": "calls", "goal": {"at_most": 0.0}, "missed": false});
        assert_eq!(json["figures"], serde_json::json!([figure]));
    }
}
