//! Owns the plan of a run: which call asks which tool with what, and how it must end. The same seed gives the same plan.
//!
//! **Invariant:** pure; no two calls of a plan share an id.

use std::str::FromStr;

use serde_json::{Value, json};
use toolfleet_core::outcome::OutcomeKind;

/// The tools of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Tool {
    Echo,
    Counter,
    Slow,
    Failing,
    Large,
}

impl Tool {
    pub(crate) const ALL: [Self; 5] = [Self::Echo, Self::Counter, Self::Slow, Self::Failing, Self::Large];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Counter => "counter",
            Self::Slow => "slow",
            Self::Failing => "failing",
            Self::Large => "large",
        }
    }

    /// Whether running it twice does no harm.
    pub(crate) const fn is_safe(self) -> bool {
        !matches!(self, Self::Counter)
    }

    /// How a call of it ends when nobody dies.
    pub(crate) const fn ending(self) -> OutcomeKind {
        match self {
            Self::Failing => OutcomeKind::ToolError,
            Self::Echo | Self::Counter | Self::Slow | Self::Large => OutcomeKind::Succeeded,
        }
    }
}

/// The share of each tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mix(Vec<(Tool, u32)>);

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Tool::ALL.map(Tool::name).join(", ");
        let share = |part: &str| {
            let (name, share) = part.split_once('=').ok_or_else(|| format!("`{part}` is not NAME=SHARE"))?;
            let tool = Tool::ALL.into_iter().find(|t| t.name() == name.trim());
            let tool = tool.ok_or_else(|| format!("no tool `{name}`; there are {}", names()))?;
            let share = share.trim().parse().map_err(|_| format!("`{share}` is not a whole number"))?;
            Ok::<_, String>((tool, share))
        };
        let shares = text.split(',').map(share).collect::<Result<Vec<_>, _>>()?;
        if shares.iter().all(|(_, share)| *share == 0) {
            return Err("all shares are 0".into());
        }
        Ok(Self(shares))
    }
}

/// One call to make.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    pub(crate) id: String,
    pub(crate) tool: Tool,
    pub(crate) arguments: Value,
}

/// The calls of a run.
pub(crate) fn plan(calls: u32, mix: &Mix, seed: u64) -> Vec<Planned> {
    let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
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
            let arguments = match tool {
                // 5 ms to about 100 ms, most of them short.
                Tool::Slow => json!({"call": id, "ms": 5 + chance.below(10) * chance.below(10)}),
                Tool::Large => json!({"call": id, "bytes": 1_000 + chance.below(20_000)}),
                Tool::Echo | Tool::Counter | Tool::Failing => {
                    json!({"call": id, "text": "lorem ipsum ".repeat(1 + usize::try_from(chance.below(20)).unwrap_or(0))})
                }
            };
            Planned { id, tool, arguments }
        })
        .collect()
}

/// xorshift64*: enough for payloads, the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound.max(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
        let mix: Mix = "echo=50,slow=50".parse().unwrap();
        assert_eq!(plan(500, &mix, 7), plan(500, &mix, 7));
        assert_ne!(plan(500, &mix, 7), plan(500, &mix, 8));
    }

    #[test]
    fn every_tool_of_the_mix_gets_about_its_share_and_no_id_comes_twice() {
        let mix: Mix = "echo=80,counter=20,large=0".parse().unwrap();
        let calls = plan(10_000, &mix, 1);
        let counters = calls.iter().filter(|c| c.tool == Tool::Counter).count();
        assert!((1_700..2_300).contains(&counters), "{counters}");
        assert!(calls.iter().all(|c| c.tool != Tool::Large));
        assert_eq!(calls.iter().map(|c| &c.id).collect::<HashSet<_>>().len(), 10_000);
    }

    #[test]
    fn a_wrong_mix_says_what_is_accepted() {
        assert!("ecko=1".parse::<Mix>().unwrap_err().contains("echo, counter"));
        assert!("echo".parse::<Mix>().unwrap_err().contains("NAME=SHARE"));
        assert!("echo=0".parse::<Mix>().is_err());
    }
}
