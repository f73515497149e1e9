//! The turns that workers used, read from their log, and how long after its turn each request came to the server.
//!
//! **Invariant:** pure. Times are microseconds since the start of the servers' clock.

use std::collections::HashMap;

use serde::Deserialize;

use super::server::Execution;

/// The log filter of workers whose turns are read.
pub(crate) const LOG_FILTER: &str = "warn,toolfleet_worker::pipeline::passes=debug";
/// A request may come so much before its turn by two clocks, in microseconds: one counts whole milliseconds.
const BEFORE_US: u64 = 5_000;

/// A turn that a worker used for a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsedTurn {
    pub(crate) call: String,
    pub(crate) at_us: u64,
}

/// The turns in a log in JSON, sorted. `start_us` is the start of the servers' clock in microseconds since 1970.
pub(crate) fn in_log(log: &str, start_us: u64) -> Vec<UsedTurn> {
    #[derive(Deserialize)]
    struct Line {
        call: String,
        turn_us: u64,
    }
    let turn = |line: &str| {
        let Line { call, turn_us } = serde_json::from_str(line).ok()?;
        Some(UsedTurn { call, at_us: turn_us.saturating_sub(start_us) })
    };
    let mut turns: Vec<_> = log.lines().filter_map(turn).collect();
    turns.sort_by_key(|turn| turn.at_us);
    turns
}

/// How long after its turn each request came, in the order of the requests; none for a request without a turn.
pub(crate) fn delays<'a>(
    turns: &[UsedTurn],
    executions: impl Iterator<Item = &'a Execution>,
) -> Vec<Option<u64>> {
    let mut of_call: HashMap<&str, Vec<u64>> = HashMap::new();
    for turn in turns {
        of_call.entry(&turn.call).or_default().push(turn.at_us);
    }
    let delay = |execution: &Execution| {
        let turns = of_call.get(execution.call.as_str())?;
        let before = |at: &&u64| **at <= execution.at_us + BEFORE_US;
        turns.iter().rev().find(before).map(|at| execution.at_us.saturating_sub(*at))
    };
    executions.map(delay).collect()
}

/// How far the delays of requests differ; none if one of them had no turn.
pub(crate) fn variation(delays: &[Option<u64>]) -> Option<u64> {
    let known: Vec<u64> = delays.iter().copied().collect::<Option<_>>()?;
    Some(known.iter().max()?.saturating_sub(*known.iter().min()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_belongs_to_the_last_turn_before_it() {
        let log = concat!(
            r#"{"level":"WARN","message":"other"}"#,
            "\nnot JSON\n",
            r#"{"call":"a","limit":"server:rated","turn_us":1000900000}"#,
            "\n",
            r#"{"call":"a","limit":"server:rated","turn_us":1000100000}"#,
        );
        let turns = in_log(log, 1_000_000_000);
        assert_eq!(turns.iter().map(|turn| turn.at_us).collect::<Vec<_>>(), [100_000, 900_000]);
        let execution = |call: &str, at_us| Execution {
            call: call.into(),
            server: "rated".into(),
            at_us,
            end_us: None,
            abandoned: false,
        };
        let executions = [execution("a", 103_000), execution("a", 898_000), execution("b", 1)];
        assert_eq!(delays(&turns, executions.iter()), [Some(3_000), Some(0), None]);
    }

    #[test]
    fn the_variation_is_unknown_where_a_request_had_no_turn() {
        assert_eq!(variation(&[Some(3), Some(50), Some(10)]), Some(47));
        assert_eq!((variation(&[Some(3), None]), variation(&[])), (None, None));
    }
}
