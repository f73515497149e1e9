//! A compiled schema, and what it says of arguments.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::check::check;
use super::cost::Plan;
use super::options::{options, patterns};
use toolfleet_core::error_text::of_arguments;
use toolfleet_core::surrogate::replace_lone_surrogates;

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

/// Why a schema has no [`Judge`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotCompiled {
    /// Compiling it, or one of its regular expressions, is over the budget. It judges nothing.
    TooLarge,
    /// It is invalid.
    Invalid(Arc<str>),
}

/// A compiled schema.
pub struct Judge {
    validator: Validator,
    plan: Plan,
    /// About how many bytes it takes.
    bytes: usize,
    /// Whether small arguments were enough to spend the whole budget: it is not tried again.
    given_up: AtomicBool,
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").field("bytes", &self.bytes).finish_non_exhaustive()
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

impl Judge {
    /// The compiled form of a schema whose text has so many bytes.
    pub(super) fn of(schema: &Value, text_bytes: usize) -> Result<Self, NotCompiled> {
        let plan = Plan::of(schema).ok_or(NotCompiled::TooLarge)?;
        // What the check does not refuse is a regular expression over the limit of bytes.
        let refused = |_| match check(schema) {
            Ok(()) => NotCompiled::TooLarge,
            Err(error) => NotCompiled::Invalid(error.into()),
        };
        let validator = options().with_pattern_options(patterns()).build(schema).map_err(refused)?;
        let bytes = plan.bytes(text_bytes);
        Ok(Self { validator, plan, bytes, given_up: AtomicBool::new(false) })
    }

    /// About how many bytes it takes, with what matching keeps.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it judges anything: not if it was too costly with small arguments before.
    pub fn is_judging(&self) -> bool {
        !self.given_up.load(Ordering::Relaxed)
    }

    /// What it says of the text of `arguments`.
    ///
    /// A duplicate key does not fit: which of the two values its reader takes is not known.
    pub fn judge(&self, arguments: &str, budget: Budget) -> Verdict {
        if !self.is_judging() {
            return Verdict::OverBudget;
        }
        let parsed = match crate::json::single(&replace_lone_surrogates(arguments)) {
            Ok(parsed) => parsed,
            Err(error) => return Verdict::Problems(vec![format!("arguments: {error}")]),
        };
        if !self.plan.allows(&parsed, arguments.len(), budget.0) {
            if budget == Budget::MOST && arguments.len() <= SMALL_ARGUMENTS {
                self.given_up.store(true, Ordering::Relaxed);
            }
            return Verdict::OverBudget;
        }
        let mut problems = Vec::new();
        for error in self.validator.iter_errors(&parsed).take(5) {
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
