//! Owns the state of a run over time: how many calls ended in each span, and how long they had taken.
//!
//! **Invariant:** pure; a span in which nothing ended stands there with zeros.

use serde::{Deserialize, Serialize};
use toolfleet_core::time::Timestamp;

/// At most about so many spans.
const SPANS: u64 = 120;
/// No span is shorter.
const SHORTEST_MS: u64 = 100;

/// One span of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the usual ones")]
pub struct Span {
    /// Its end, in seconds after the begin.
    pub until_s: f64,
    /// Calls that ended in it, by its length.
    pub calls_per_s: f64,
    pub p50_ms: u64,
    pub p95_ms: u64,
    pub p99_ms: u64,
}

/// The spans of a run, from each call's end and the time it took in milliseconds.
pub fn of(begun: Timestamp, ends: &[(Timestamp, u64)]) -> Vec<Span> {
    let Some(last) = ends.iter().map(|(at, _)| at.ms_since(begun)).max() else { return Vec::new() };
    let long_ms = last.div_ceil(SPANS).max(1).next_multiple_of(SHORTEST_MS);
    let count = usize::try_from(last / long_ms).unwrap_or(0) + 1;
    let mut spans = vec![Vec::new(); count];
    for (at, took_ms) in ends {
        let span = usize::try_from(at.ms_since(begun) / long_ms).ok().and_then(|n| spans.get_mut(n));
        if let Some(span) = span {
            span.push(*took_ms);
        }
    }
    let seconds = long_ms as f64 / 1_000.0;
    let one = |(n, mut took): (u32, Vec<u64>)| {
        took.sort_unstable();
        let quantile = |percent: usize| {
            let rank = (took.len() * percent).div_ceil(100).saturating_sub(1);
            took.get(rank).copied().unwrap_or(0)
        };
        Span {
            until_s: f64::from(n + 1) * long_ms as f64 / 1_000.0,
            calls_per_s: took.len() as f64 / seconds,
            p50_ms: quantile(50),
            p95_ms: quantile(95),
            p99_ms: quantile(99),
        }
    };
    (0_u32..).zip(spans).map(one).collect()
}
