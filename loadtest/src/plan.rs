//! Owns the plan of a run: which call asks which tool with what, and how it must end. The same seed gives the same plan.
//!
//! **Invariant:** pure; no two calls of a plan share an id.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use toolfleet_core::outcome::OutcomeKind;

use crate::payload::{Chance, Shape, arguments};

/// The tools of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tool {
    /// Gives its text back.
    Echo,
    /// The same, and not safe to repeat.
    Counter,
    /// Answers after a while.
    Slow,
    /// Says that it failed.
    Failing,
    /// Gives some KiB.
    Large,
    /// Gives nearly as much as a worker takes, which compresses so well that it can be stored.
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

    /// Whether running it twice does no harm.
    pub const fn is_safe(self) -> bool {
        !matches!(self, Self::Counter | Self::Payment)
    }

    /// Whether it takes as long as the load's distribution says.
    pub const fn is_slow(self) -> bool {
        matches!(self, Self::Slow | Self::Payment)
    }

    /// How often a call of it is executed when nobody dies.
    pub const fn executions(self) -> u32 {
        if matches!(self, Self::Flaky) { 2 } else { 1 }
    }

    /// How a call of it ends when nobody dies.
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

/// The share of each tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix(Vec<(Tool, u32)>);

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Tool::ALL.map(Tool::name).join(", ");
        let mut shares: Vec<(Tool, u32)> = Vec::new();
        for part in text.split(',') {
            let (name, share) = part.split_once('=').ok_or_else(|| {
                format!("`{part}` is not NAME=SHARE; accepted is a list such as echo=80,slow=20")
            })?;
            let (name, share) = (name.trim(), share.trim());
            let tool = Tool::named(name).ok_or_else(|| format!("no tool `{name}`; there are {}", names()))?;
            if shares.iter().any(|(known, _)| *known == tool) {
                return Err(format!("`{name}` stands twice; accepted is one share for each tool"));
            }
            let share = share.parse().map_err(|_| {
                format!(
                    "`{share}` of `{name}` is no share; accepted is a whole number from 0 to {}",
                    u32::MAX
                )
            })?;
            shares.push((tool, share));
        }
        if shares.iter().all(|(_, share)| *share == 0) {
            return Err("all shares are 0; accepted is a mix with one share above 0".into());
        }
        Ok(Self(shares))
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<_> = self.0.iter().map(|(tool, share)| format!("{}={share}", tool.name())).collect();
        f.write_str(&shares.join(","))
    }
}

/// One call to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Its id.
    pub id: String,
    /// The tool it asks.
    pub tool: Tool,
    /// What it says to the tool.
    pub arguments: Value,
}

/// The calls of a run.
pub fn plan(calls: u32, mix: &Mix, seed: u64, shape: &Shape) -> Vec<Planned> {
    let mut chance = Chance::new(seed);
    let total: u64 = mix.0.iter().map(|(_, share)| u64::from(*share)).sum();
    let pick = |chance: &mut Chance| {
        let mut left = chance.below(total.max(1));
        for (tool, share) in &mix.0 {
            match left.checked_sub(u64::from(*share)) {
                Some(rest) => left = rest,
                None => return *tool,
            }
        }
        Tool::Echo
    };
    (0..calls)
        .map(|n| {
            let tool = pick(&mut chance);
            let id = format!("load-{seed}-{n}");
            let arguments = arguments(tool, &id, &mut chance, shape);
            Planned { id, tool, arguments }
        })
        .collect()
}
