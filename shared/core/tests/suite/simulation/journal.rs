//! What happened in a schedule, and the first rule that it broke.
//!
//! Lines are written only when a broken schedule is run again: a seed gives the same steps each time.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;

/// A line of what happened.
struct Line {
    at_ms: u64,
    call: Option<usize>,
    text: String,
}

/// A rule that a schedule broke.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) at_ms: u64,
    /// The call concerned.
    pub(crate) call: Option<usize>,
    /// The rule, as a sentence.
    pub(crate) rule: &'static str,
    pub(crate) detail: String,
}

/// The record of one schedule.
#[derive(Default)]
pub(crate) struct Journal {
    writes: bool,
    lines: RefCell<Vec<Line>>,
    violation: RefCell<Option<Violation>>,
    broken: Cell<bool>,
}

impl Journal {
    /// A journal that writes lines, or only notes the first violation.
    pub(crate) fn new(writes: bool) -> Self {
        Self { writes, ..Self::default() }
    }

    pub(crate) fn note(&self, at_ms: u64, call: Option<usize>, text: impl FnOnce() -> String) {
        if self.writes {
            self.lines.borrow_mut().push(Line { at_ms, call, text: text() });
        }
    }

    /// Notes the first violation; the schedule ends with it.
    pub(crate) fn broken(&self, violation: Violation) {
        self.broken.set(true);
        self.violation.borrow_mut().get_or_insert(violation);
    }

    pub(crate) const fn is_broken(&self) -> bool {
        self.broken.get()
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        self.violation.borrow().clone()
    }

    /// The lines of that call and those that concern no single call.
    pub(crate) fn trace(&self, call: Option<usize>) -> String {
        let mut trace = String::new();
        for line in &*self.lines.borrow() {
            if line.call.is_none() || call.is_none() || line.call == call {
                writeln!(trace, "{:>10} ms  {}", line.at_ms, line.text).unwrap();
            }
        }
        trace
    }
}
