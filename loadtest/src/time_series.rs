//! Throughput and latency of a run over time.
//!
//! **Invariant:** pure; a span in which no call ended is in the series with zeros.

use serde::{Deserialize, Serialize};
use toolfleet_core::time::Timestamp;

/// About how many spans there are at most.
const SPANS: u64 = 120;
/// The shortest span.
const SHORTEST_MS: u64 = 100;

/// One span of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the usual ones")]
pub struct Span {
    /// Its end, in seconds after the start.
    pub until_s: f64,
    /// Calls that ended in it, divided by its length.
    pub calls_per_s: f64,
    pub p50_ms: u64,
    pub p95_ms: u64,
    pub p99_ms: u64,
}

/// The spans of a run, from the end of each call and its latency in milliseconds.
pub fn of(started_at: Timestamp, ends: &[(Timestamp, u64)]) -> Vec<Span> {
    let Some(last) = ends.iter().map(|(at, _)| at.ms_since(started_at)).max() else { return Vec::new() };
    let long_ms = last.div_ceil(SPANS).max(1).next_multiple_of(SHORTEST_MS);
    let count = usize::try_from(last / long_ms).unwrap_or(0) + 1;
    let mut spans = vec![Vec::new(); count];
    for (at, took_ms) in ends {
        let span = usize::try_from(at.ms_since(started_at) / long_ms).ok().and_then(|n| spans.get_mut(n));
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
