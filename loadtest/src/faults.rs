//! Faults of a load: the plan of which process fails how and when, the anomalies that they allow, and the cost of each fault.
//!
//! **Invariant:** a fault allows the outcome `outcome_unknown` of an unsafe call, a repeated execution of a safe call, and a late answer
//! with its audit record. It never allows a lost call, a second result, or a repeated execution of an unsafe call.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use toolfleet_core::time::Timestamp;

use crate::timeline::Timeline;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// A worker gets SIGKILL, and another is started.
    Kill,
    /// A worker gets SIGTERM and must exit with code 0; another is started.
    Term,
    /// A worker gets SIGSTOP until its leases have expired, then SIGCONT.
    Stop,
    /// Queues and tables get SIGKILL and are started again on the same ports with their data on disk.
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

/// The faults of a load, in order, each with the number of ended calls after which it is injected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan(Vec<(FaultKind, Option<u32>)>);

/// Anomalies that the verification allows after faults.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AllowedAnomalies {
    /// `outcome_unknown` of a call that is not safe to repeat, and a second execution of one that is.
    pub unknown_outcomes: bool,
    /// A late answer that has its audit record.
    pub late_answers: bool,
}

impl FaultPlan {
    /// Each fault with the number of ended calls after which it is injected. Faults without a number are spread over the load.
    pub fn schedule(&self, calls: u32) -> Vec<(FaultKind, u32)> {
        let parts = u32::try_from(self.0.len()).unwrap_or(u32::MAX).saturating_add(1);
        let spread = |n: u32| (calls / parts.max(1)).saturating_mul(n.saturating_add(1));
        let mut schedule: Vec<_> =
            (0..).zip(&self.0).map(|(n, (kind, at))| (*kind, at.unwrap_or_else(|| spread(n)))).collect();
        schedule.sort_by_key(|(_, at)| *at);
        schedule
    }

    /// Whether there is a fault of that kind.
    pub fn contains(&self, kind: FaultKind) -> bool {
        self.0.iter().any(|(of, _)| *of == kind)
    }

    /// The anomalies that they allow. A worker that gets SIGTERM allows none.
    pub fn allowed_anomalies(&self) -> AllowedAnomalies {
        let late_answers = self.contains(FaultKind::Stop) || self.contains(FaultKind::Endpoints);
        AllowedAnomalies { unknown_outcomes: late_answers || self.contains(FaultKind::Kill), late_answers }
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
            let kind = FaultKind::ALL.into_iter().find(|kind| kind.name() == name.trim());
            let kind = kind.ok_or_else(|| format!("no fault `{name}`; there are {}", names()))?;
            let at = at.map(|at| at.trim().parse().ok().filter(|at| *at > 0).ok_or(at)).transpose();
            let at = at.map_err(|at| {
                format!(
                    "`{at}` is not a number of calls; accepted is a list such as kill@50,term or kill,stop"
                )
            })?;
            Ok((kind, at))
        };
        text.split(',').filter(|part| !part.is_empty()).map(parse).collect::<Result<_, String>>().map(Self)
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |(kind, at): &(FaultKind, Option<u32>)| match at {
            Some(at) => format!("{}@{at}", kind.name()),
            None => kind.name().to_owned(),
        };
        f.write_str(&self.0.iter().map(one).collect::<Vec<_>>().join(","))
    }
}

/// A fault that was injected.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InjectedFault {
    pub(crate) kind: FaultKind,
    pub(crate) at: Timestamp,
    /// The worker, if it is a fault of a worker.
    pub(crate) worker: Option<String>,
    /// When the worker exited, the stopped worker was continued, or the endpoints were back.
    pub(crate) over_at: Option<Timestamp>,
}

/// The cost of a fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultCost {
    /// The kind.
    pub kind: FaultKind,
    /// When it was injected, in seconds after the start of the load.
    pub at_s: f64,
    /// How long the worker took to exit or was stopped, or the endpoints were away, in seconds.
    pub lasted_s: f64,
    /// Calls it interrupted: claimed before it, ended after it. Killed and frozen: by another claim or in doubt. Told to leave:
    /// by the worker itself. Endpoints: all that were under kind.
    pub interrupted: u32,
    /// From the fault to the end of the last of them, in seconds; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_s: Option<f64>,
    /// Calls that were sent before it and first claimed half a lease after it or later: messages that the worker had received and not
    /// claimed. Only for an open loop; in a drain all calls wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<u32>,
    /// From the fault to the end of the last of those, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_s: Option<f64>,
}

impl InjectedFault {
    /// The cost, computed from the timelines of all calls. `open_loop`: calls arrive at a rate, whether or not workers keep up.
    pub(crate) fn cost(
        &self,
        started_at: Timestamp,
        lease_ms: u64,
        timelines: &[Timeline],
        open_loop: bool,
    ) -> FaultCost {
        let seconds = |until: Timestamp| until.ms_since(self.at) as f64 / 1_000.0;
        let last = |calls: &[&Timeline]| calls.iter().map(|call| call.ended_at).max().map(seconds);
        let count = |calls: &[&Timeline]| u32::try_from(calls.len()).unwrap_or(u32::MAX);
        let claimed = |call: &Timeline| call.claimed_at.is_some_and(|claimed| claimed <= self.at);
        let interrupted = |call: &&Timeline| {
            let own = match self.kind {
                FaultKind::Kill | FaultKind::Stop => call.fence > 1 || call.outcome_unknown,
                FaultKind::Term => call.worker.is_some() && call.worker == self.worker,
                FaultKind::Endpoints => true,
            };
            own && claimed(call) && call.ended_at > self.at
        };
        let late = self.at.plus_ms(lease_ms / 2);
        let hidden =
            |call: &&Timeline| call.sent_at <= self.at && call.claimed_at.is_some_and(|at| at >= late);
        let interrupted: Vec<_> = timelines.iter().filter(interrupted).collect();
        let hidden: Option<Vec<_>> = open_loop.then(|| timelines.iter().filter(hidden).collect());
        FaultCost {
            kind: self.kind,
            at_s: self.at.ms_since(started_at) as f64 / 1_000.0,
            lasted_s: self.over_at.map_or(0.0, seconds),
            interrupted: count(&interrupted),
            recovery_s: last(&interrupted),
            hidden: hidden.as_deref().map(count),
            hidden_s: hidden.as_deref().and_then(last),
        }
    }
}

impl fmt::Display for FaultCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasted = match self.kind {
            FaultKind::Kill => String::new(),
            FaultKind::Term => format!(", exited after {:.1} s", self.lasted_s),
            FaultKind::Stop => format!(", stopped for {:.1} s", self.lasted_s),
            FaultKind::Endpoints => format!(", away for {:.1} s", self.lasted_s),
        };
        write!(f, "{} at {:.1} s{lasted}; {} interrupted", self.kind.name(), self.at_s, self.interrupted)?;
        if let Some(recovery_s) = self.recovery_s {
            write!(f, ", the last ended {recovery_s:.1} s after it")?;
        }
        match (self.hidden, self.hidden_s) {
            (Some(hidden), Some(hidden_s)) => {
                write!(f, "; {hidden} stayed hidden, the last of them ended {hidden_s:.1} s after it")
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

    fn timeline(claimed_s: i64, ended_s: i64, fence: u64) -> Timeline {
        Timeline {
            sent_at: at(0),
            claimed_at: Some(at(claimed_s)),
            ended_at: at(ended_s),
            fence,
            worker: Some("w".into()),
            outcome_unknown: false,
        }
    }

    fn injected(kind: FaultKind) -> InjectedFault {
        InjectedFault { kind, at: at(10), worker: Some("w".into()), over_at: Some(at(12)) }
    }

    #[test]
    fn a_kill_interrupts_the_calls_that_another_claim_ends() {
        let timelines = [
            timeline(9, 15, 2),
            // Ended before it, started_at after it, ended by its first claim, retried long before.
            timeline(9, 9, 2),
            timeline(11, 18, 2),
            timeline(9, 11, 1),
            timeline(1, 3, 3),
            Timeline { outcome_unknown: true, ..timeline(9, 16, 1) },
        ];
        let cost = injected(FaultKind::Kill).cost(at(0), 4_000, &timelines, false);
        assert_eq!((cost.interrupted, cost.recovery_s, cost.hidden), (2, Some(6.0), None));
    }

    #[test]
    fn a_drained_worker_interrupts_the_calls_that_it_ends_itself() {
        let other = Timeline { worker: Some("x".into()), ..timeline(9, 19, 1) };
        let cost = injected(FaultKind::Term).cost(at(0), 4_000, &[timeline(9, 13, 1), other], false);
        assert_eq!((cost.interrupted, cost.recovery_s, cost.lasted_s), (1, Some(3.0), 2.0));
    }

    #[test]
    fn an_open_loop_counts_messages_hidden_by_a_killed_worker() {
        let timelines =
            [timeline(14, 15, 1), timeline(11, 11, 1), Timeline { sent_at: at(11), ..timeline(16, 17, 1) }];
        let cost = injected(FaultKind::Kill).cost(at(0), 4_000, &timelines, true);
        assert_eq!((cost.interrupted, cost.hidden, cost.hidden_s), (0, Some(1), Some(5.0)));
    }
}
