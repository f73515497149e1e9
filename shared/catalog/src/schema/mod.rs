//! Checks arguments against a tool's JSON Schema, within a budget: schema and arguments are both written by others.
//!
//! **Invariant:** nothing is fetched while a schema compiles, no error repeats a value of an argument, and neither compiling nor
//! checking does more work than its budget allows.

mod cost;
mod pattern;
mod reference;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::error::CatalogError;
use crate::error::invalid;
use cost::Plan;
use toolfleet_core::error_text::of_arguments;
use toolfleet_core::surrogate::replace_lone_surrogates;

/// A schema that needs backtracking is checked with at most this many steps for one match.
const BACKTRACK_STEPS: usize = 10_000;

/// Where arguments of so many bytes spend the whole budget, it is the schema that costs too much.
const SMALL_ARGUMENTS: usize = 4 * 1024;

/// How many units of work one judgement may take. A unit is the visit of one keyword at one value, about 100 ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget(u64);

impl Budget {
    /// What may be done in the middle of other work: a few milliseconds.
    pub const INLINE: Self = Self(50_000);
    /// What may be done beside it, on a thread of its own: about a tenth of a second.
    pub const MOST: Self = Self(1_000_000);
}

/// A compiled JSON Schema of a tool's arguments. Remote references are not fetched; a schema with one does not compile.
#[derive(Debug, Clone)]
pub struct InputSchema(Arc<Compiled>);

struct Compiled {
    /// `None` where compiling it would take more than its budget.
    judge: Option<(Validator, Plan)>,
    /// Whether small arguments were enough to spend the whole budget: it is not tried again.
    given_up: AtomicBool,
    /// Whether it was said already that its server alone judges what the budget does not allow.
    said: AtomicBool,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("too_large", &self.judge.is_none()).finish_non_exhaustive()
    }
}

/// What a schema says of arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They fit.
    Fits,
    /// They do not: sentences that name the place.
    Problems(Vec<String>),
    /// To say it would take more work than the budget allows.
    OverBudget,
}

impl InputSchema {
    /// Compiles a schema (JSON Schema 2020-12 unless it names another draft).
    ///
    /// One that is over the budget of compiling is not an error: it judges nothing ([`Verdict::OverBudget`]).
    pub fn compile(schema: &Value) -> Result<Self, String> {
        let judge = match Plan::of(schema) {
            Some(plan) => {
                let patterns = PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_STEPS);
                // An argument that is a regular expression itself would be compiled at each call.
                let options =
                    jsonschema::options().with_pattern_options(patterns).with_format("regex", |_| true);
                Some((options.build(schema).map_err(|error| error.to_string())?, plan))
            }
            None => None,
        };
        Ok(Self(Arc::new(Compiled { judge, given_up: AtomicBool::new(false), said: AtomicBool::new(false) })))
    }

    /// Whether it is over the budget of compiling, so that it judges nothing.
    pub fn is_too_large(&self) -> bool {
        self.0.judge.is_none()
    }

    /// Whether it judges anything: not if it is over the budget of compiling, or was too costly with small arguments before.
    pub fn is_judging(&self) -> bool {
        !self.is_too_large() && !self.0.given_up.load(Ordering::Relaxed)
    }

    /// True the first time, so that a schema that is left to its server is logged once.
    pub fn says_first(&self) -> bool {
        !self.0.said.swap(true, Ordering::Relaxed)
    }

    /// What it says of the text of `arguments`.
    ///
    /// A duplicate key does not fit: which of the two values its reader takes is not known.
    pub fn judge(&self, arguments: &str, budget: Budget) -> Verdict {
        let Some((validator, plan)) = &self.0.judge else {
            return Verdict::OverBudget;
        };
        if self.0.given_up.load(Ordering::Relaxed) {
            return Verdict::OverBudget;
        }
        let parsed = match crate::json::single(&replace_lone_surrogates(arguments)) {
            Ok(parsed) => parsed,
            Err(error) => return Verdict::Problems(vec![format!("arguments: {error}")]),
        };
        if !plan.allows(&parsed, arguments.len(), budget.0) {
            if budget == Budget::MOST && arguments.len() <= SMALL_ARGUMENTS {
                self.0.given_up.store(true, Ordering::Relaxed);
            }
            return Verdict::OverBudget;
        }
        let mut problems = Vec::new();
        for error in validator.iter_errors(&parsed).take(5) {
            // Neither yes nor no: the match was given up.
            if matches!(
                error.kind(),
                ValidationErrorKind::BacktrackLimitExceeded { .. }
                    | ValidationErrorKind::RegexEngineFailure { .. }
            ) {
                continue;
            }
            problems.push(of_arguments(&error));
        }
        if problems.is_empty() { Verdict::Fits } else { Verdict::Problems(problems) }
    }
}

/// Compiles the schema that stands at `entry`, if there is one.
pub(crate) fn compile(entry: &str, schema: Option<&Value>) -> Result<Option<InputSchema>, CatalogError> {
    let compiled = schema.map(InputSchema::compile).transpose();
    compiled.map_err(|e| invalid(entry, format!("is not a usable JSON Schema: {e}")))
}

#[cfg(test)]
mod tests;
