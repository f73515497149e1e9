//! The tools of a load, and how often and how their calls end.

use toolfleet_core::outcome::OutcomeKind;

/// The tools of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// Returns its text.
    Echo,
    /// The same, and not safe to repeat.
    Counter,
    /// Answers after a while.
    Slow,
    /// Answers that it failed.
    Failing,
    /// Returns some KiB.
    Large,
    /// Returns nearly as much as a worker accepts. It compresses well enough to be stored.
    Huge,
    /// Answers after a while, and is not safe to repeat.
    Payment,
    /// Is executed and breaks (HTTP 500), the first time it is called; answers the second time.
    Flaky,
    /// Asks for a pause of a second (HTTP 429) the first time it is called; answers the second time.
    Busy,
}

impl Tool {
    /// Every tool.
    pub const ALL: [Self; 9] = [
        Self::Echo,
        Self::Counter,
        Self::Slow,
        Self::Failing,
        Self::Large,
        Self::Huge,
        Self::Payment,
        Self::Flaky,
        Self::Busy,
    ];

    /// Its name in the catalog and in a mix.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Counter => "counter",
            Self::Slow => "slow",
            Self::Failing => "failing",
            Self::Large => "large",
            Self::Huge => "huge",
            Self::Payment => "payment",
            Self::Flaky => "flaky",
            Self::Busy => "busy",
        }
    }

    /// The tool of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// Whether it is safe to repeat.
    pub const fn is_safe(self) -> bool {
        !matches!(self, Self::Counter | Self::Payment)
    }

    /// Whether it takes as long as the load's distribution says.
    pub const fn is_slow(self) -> bool {
        matches!(self, Self::Slow | Self::Payment)
    }

    /// How often a call of it is executed without faults.
    pub const fn executions(self) -> u32 {
        if matches!(self, Self::Flaky) { 2 } else { 1 }
    }

    /// How a call of it ends without faults.
    pub const fn ending(self) -> OutcomeKind {
        match self {
            Self::Failing => OutcomeKind::ToolError,
            Self::Echo
            | Self::Counter
            | Self::Slow
            | Self::Large
            | Self::Huge
            | Self::Payment
            | Self::Flaky
            | Self::Busy => OutcomeKind::Succeeded,
        }
    }
}
