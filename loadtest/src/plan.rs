//! The plan of a run: the calls, their tools and arguments. The same seed gives the same plan.
//!
//! **Invariant:** pure; no two calls of a plan have the same id.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;
use serde_json::Value;

use crate::payload::{Shape, arguments};
use crate::tool::Tool;

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
                return Err(format!("`{name}` is there twice; accepted is one share for each tool"));
            }
            let share = share.parse().map_err(|_| {
                format!(
                    "`{share}` of `{name}` is not a share; accepted is a whole number from 0 to {}",
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
    /// The tool it calls.
    pub tool: Tool,
    /// Its arguments.
    pub arguments: Value,
}

/// The calls of a run.
pub fn plan(calls: u32, mix: &Mix, seed: u64, shape: &Shape) -> Vec<Planned> {
    let mut rng = Rng::with_seed(seed);
    let total: u64 = mix.0.iter().map(|(_, share)| u64::from(*share)).sum();
    let pick = |rng: &mut Rng| {
        let mut left = rng.u64(..total.max(1));
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
            let tool = pick(&mut rng);
            let id = format!("load-{seed}-{n}");
            let arguments = arguments(tool, &id, &mut rng, shape);
            Planned { id, tool, arguments }
        })
        .collect()
}
