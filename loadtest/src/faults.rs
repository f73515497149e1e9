//! Owns the deaths of a load: which process dies in which way, and when; what they excuse, and what each of them cost.
//!
//! **Invariant:** a death allowed a doubt that is said, a second run of a call that is safe to repeat, a late answer that is
//! audited as one; never a lost call, a second result, or a second run of a call that is not safe to repeat.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toolfleet_core::time::Timestamp;

use crate::timeline::CallTimeline;

/// How a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A worker gets SIGKILL, and another is started.
    Kill,
    /// A worker gets SIGTERM and must leave with code 0; another is started.
    Term,
    /// A worker gets SIGSTOP until its leases are over, then SIGCONT.
    Stop,
    /// Queues and tables get SIGKILL and come back on the same ports with what they had on disk.
    Endpoints,
}

impl FaultKind {
    const ALL: [Self; 4] = [Self::Kill, Self::Term, Self::Stop, Self::Endpoints];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Term => "term",
            Self::Stop => "stop",
            Self::Endpoints => "endpoints",
        }
    }
}

/// The deaths of a load, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan(Vec<(FaultKind, Option<u32>)>);

/// What may be seen after deaths, and not without them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllowedAnomalies {
    /// `outcome_unknown` for a call that is not safe to repeat, and a second run of one that is.
    pub doubts: bool,
    /// A late answer, audited as one.
    pub late_answers: bool,
}

impl FaultPlan {
    /// Each death with the number of calls that have ended by then; those without a number are spread over the load.
    pub fn schedule(&self, calls: u32) -> Vec<(FaultKind, u32)> {
        let parts = u32::try_from(self.0.len()).unwrap_or(u32::MAX).saturating_add(1);
        let spread = |n: u32| (calls / parts.max(1)).saturating_mul(n.saturating_add(1));
        let mut schedule: Vec<_> =
            (0..).zip(&self.0).map(|(n, (way, at))| (*way, at.unwrap_or_else(|| spread(n)))).collect();
        schedule.sort_by_key(|(_, at)| *at);
        schedule
    }

    /// Whether one of them is of that kind.
    pub fn have(&self, way: FaultKind) -> bool {
        self.0.iter().any(|(of, _)| *of == way)
    }

    /// What they excuse. A worker that leaves when told to allowed nothing.
    pub fn allowed(&self) -> AllowedAnomalies {
        let late_answers = self.have(FaultKind::Stop) || self.have(FaultKind::Endpoints);
        AllowedAnomalies { doubts: late_answers || self.have(FaultKind::Kill), late_answers }
    }
}

impl FromStr for FaultPlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || FaultKind::ALL.map(FaultKind::name).join(", ");
        let parse = |part: &str| {
            let (name, at) = match part.split_once('@') {
                Some((name, at)) => (name, Some(at)),
                None => (part, None),
            };
            let way = FaultKind::ALL.into_iter().find(|way| way.name() == name.trim());
            let way = way.ok_or_else(|| format!("no fault `{name}`; there are {}", names()))?;
            let at = at.map(|at| at.trim().parse().ok().filter(|at| *at > 0).ok_or(at)).transpose();
            let at = at.map_err(|at| {
                format!("`{at}` is no number of calls; accepted is a list such as kill@50,term or kill,stop")
            })?;
            Ok((way, at))
        };
        text.split(',').filter(|part| !part.is_empty()).map(parse).collect::<Result<_, String>>().map(Self)
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |(way, at): &(FaultKind, Option<u32>)| match at {
            Some(at) => format!("{}@{at}", way.name()),
            None => way.name().to_owned(),
        };
        f.write_str(&self.0.iter().map(one).collect::<Vec<_>>().join(","))
    }
}

/// A death as it happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InjectedFault {
    pub(crate) way: FaultKind,
    pub(crate) at: Timestamp,
    /// The name of the worker that died; none of the endpoints.
    pub(crate) worker: Option<String>,
    /// When the worker left, the frozen one went on, the endpoints were back.
    pub(crate) over_at: Option<Timestamp>,
}

/// What a death cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// How.
    pub way: FaultKind,
    /// When, in seconds after the begin of the load.
    pub at_s: f64,
    /// How long the worker took to leave or stood still, or the endpoints were away, in seconds.
    pub lasted_s: f64,
    /// Calls it interrupted: claimed before it, ended after it. Killed and frozen: by another claim or in doubt. Told to leave:
    /// by the worker itself. Endpoints: all that were under way.
    pub interrupted: u32,
    /// From the death to the end of the last of them, in seconds; not there if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_s: Option<f64>,
    /// Calls that were sent before it and first claimed half a lease after it or later: messages in the hands of the worker, which
    /// nobody had claimed. Told only of an open loop; in a drain all calls wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<u32>,
    /// From the death to the end of the last of those, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_s: Option<f64>,
}

impl InjectedFault {
    /// What it cost, told from the accounts of all calls; `open_loop` if calls did not wait for workers by themselves.
    pub(crate) fn cost(
        &self,
        begun: Timestamp,
        lease_ms: u64,
        accounts: &[CallTimeline],
        open_loop: bool,
    ) -> Cost {
        let seconds = |until: Timestamp| until.ms_since(self.at) as f64 / 1_000.0;
        let last = |calls: &[&CallTimeline]| calls.iter().map(|call| call.ended_at).max().map(seconds);
        let count = |calls: &[&CallTimeline]| u32::try_from(calls.len()).unwrap_or(u32::MAX);
        let claimed = |call: &CallTimeline| call.claimed_at.is_some_and(|claimed| claimed <= self.at);
        let interrupted = |call: &&CallTimeline| {
            let own = match self.way {
                FaultKind::Kill | FaultKind::Stop => call.fence > 1 || call.in_doubt,
                FaultKind::Term => call.worker.is_some() && call.worker == self.worker,
                FaultKind::Endpoints => true,
            };
            own && claimed(call) && call.ended_at > self.at
        };
        let late = self.at.plus_ms(lease_ms / 2);
        let hidden =
            |call: &&CallTimeline| call.sent_at <= self.at && call.claimed_at.is_some_and(|at| at >= late);
        let interrupted: Vec<_> = accounts.iter().filter(interrupted).collect();
        let hidden: Option<Vec<_>> = open_loop.then(|| accounts.iter().filter(hidden).collect());
        Cost {
            way: self.way,
            at_s: self.at.ms_since(begun) as f64 / 1_000.0,
            lasted_s: self.over_at.map_or(0.0, seconds),
            interrupted: count(&interrupted),
            recovery_s: last(&interrupted),
            hidden: hidden.as_deref().map(count),
            hidden_s: hidden.as_deref().and_then(last),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasted = match self.way {
            FaultKind::Kill => String::new(),
            FaultKind::Term => format!(", left after {:.1} s", self.lasted_s),
            FaultKind::Stop => format!(", stood still for {:.1} s", self.lasted_s),
            FaultKind::Endpoints => format!(", away for {:.1} s", self.lasted_s),
        };
        write!(f, "{} at {:.1} s{lasted}; {} interrupted", self.way.name(), self.at_s, self.interrupted)?;
        if let Some(recovery_s) = self.recovery_s {
            write!(f, ", the last ended {recovery_s:.1} s after it")?;
        }
        match (self.hidden, self.hidden_s) {
            (Some(hidden), Some(hidden_s)) => {
                write!(f, "; {hidden} stayed hidden, the last ended {hidden_s:.1} s after it")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_ms(s * 1_000)
    }

    fn account(claimed_s: i64, ended_s: i64, fence: u64) -> CallTimeline {
        CallTimeline {
            sent_at: at(0),
            claimed_at: Some(at(claimed_s)),
            ended_at: at(ended_s),
            fence,
            worker: Some("w".into()),
            in_doubt: false,
        }
    }

    fn injected(way: FaultKind) -> InjectedFault {
        InjectedFault { way, at: at(10), worker: Some("w".into()), over_at: Some(at(12)) }
    }

    #[test]
    fn a_kill_interrupted_what_another_claim_ended_and_nothing_else() {
        let accounts = [
            account(9, 15, 2),
            // Ended before it, begun after it, ended by its first claim, retried long before.
            account(9, 9, 2),
            account(11, 18, 2),
            account(9, 11, 1),
            account(1, 3, 3),
            CallTimeline { in_doubt: true, ..account(9, 16, 1) },
        ];
        let cost = injected(FaultKind::Kill).cost(at(0), 4_000, &accounts, false);
        assert_eq!((cost.interrupted, cost.recovery_s, cost.hidden), (2, Some(6.0), None));
    }

    #[test]
    fn a_worker_told_to_leave_is_judged_by_what_it_ended_itself() {
        let other = CallTimeline { worker: Some("x".into()), ..account(9, 19, 1) };
        let cost = injected(FaultKind::Term).cost(at(0), 4_000, &[account(9, 13, 1), other], false);
        assert_eq!((cost.interrupted, cost.recovery_s, cost.lasted_s), (1, Some(3.0), 2.0));
    }

    #[test]
    fn a_message_in_a_dead_workers_hands_is_seen_by_its_late_claim_in_an_open_loop() {
        let accounts =
            [account(14, 15, 1), account(11, 11, 1), CallTimeline { sent_at: at(11), ..account(16, 17, 1) }];
        let cost = injected(FaultKind::Kill).cost(at(0), 4_000, &accounts, true);
        assert_eq!((cost.interrupted, cost.hidden, cost.hidden_s), (0, Some(1), Some(5.0)));
    }
}
