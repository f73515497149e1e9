//! Counts over the requests that servers received: how many in a window, how many at once, quantiles of waits.
//!
//! **Invariant:** pure. Times are microseconds since the start of the run; lists of times are sorted.

/// How long a window of a rate limit is.
pub const WINDOW_US: u64 = 1_000_000;

/// The positions of the times that are over: at least `limit` others lie in the second that ends at them.
pub fn over(times: &[u64], limit: usize) -> Vec<usize> {
    let mut first = 0;
    let mut over = Vec::new();
    for (n, at) in times.iter().enumerate() {
        while times.get(first).is_some_and(|oldest| oldest + WINDOW_US <= *at) {
            first += 1;
        }
        if n + 1 - first > limit {
            over.push(n);
        }
    }
    over
}

/// The most times in any second.
pub fn most_in_window(times: &[u64]) -> usize {
    let mut first = 0;
    let counts = times.iter().enumerate().map(|(n, at)| {
        while times.get(first).is_some_and(|oldest| oldest + WINDOW_US <= *at) {
            first += 1;
        }
        n + 1 - first
    });
    counts.max().unwrap_or(0)
}

/// The most spans that are open at once. A span that begins when another ends is not open with it.
pub fn most_at_once(spans: &[(u64, u64)]) -> usize {
    let begins = spans.iter().map(|(from, _)| (*from, true));
    let ends = spans.iter().map(|(_, to)| (*to, false));
    let mut changes: Vec<_> = begins.chain(ends).collect();
    // An end sorts before a beginning at the same time.
    changes.sort_unstable();
    let (mut open, mut most) = (0_usize, 0);
    for (_, begins) in changes {
        open = if begins { open + 1 } else { open.saturating_sub(1) };
        most = most.max(open);
    }
    most
}

/// How many times lie in `from..to`.
pub fn count_between(times: &[u64], from: u64, to: u64) -> usize {
    times.partition_point(|at| *at < to).saturating_sub(times.partition_point(|at| *at < from))
}

/// The microseconds of all spans that lie in `from..to`.
pub fn busy_between(spans: &[(u64, u64)], from: u64, to: u64) -> u64 {
    spans.iter().map(|(begin, end)| (*end).min(to).saturating_sub((*begin).max(from))).sum()
}

/// The quantile of values in any order; 0 of no values.
pub fn quantile(values: &[u64], quantile: f64) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let (mut rank, wanted) = (0_usize, quantile * sorted.len() as f64);
    while (rank as f64) < wanted {
        rank += 1;
    }
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// The middle value; the mean of the two middle ones of an even number; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |n: usize| sorted.get(n).copied().unwrap_or(0.0);
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(half) } else { f64::midpoint(at(half.saturating_sub(1)), at(half)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times at that spacing, in microseconds.
    fn every(spacing: u64, n: u64) -> Vec<u64> {
        (0..n).map(|n| n * spacing).collect()
    }

    #[test]
    fn twenty_a_second_are_not_over_and_one_more_is() {
        let mut times = every(50_000, 100);
        assert_eq!((over(&times, 20), most_in_window(&times)), (vec![], 20));
        times.push(times.last().unwrap() + 10);
        assert_eq!((over(&times, 20), most_in_window(&times)), (vec![100], 21));
    }

    #[test]
    fn a_window_of_a_second_does_not_contain_its_beginning() {
        assert!(over(&[0, WINDOW_US], 1).is_empty());
        assert_eq!(over(&[0, WINDOW_US - 1], 1), [1]);
    }

    #[test]
    fn a_burst_across_two_clock_seconds_is_over() {
        let times: Vec<u64> =
            every(1_000, 20).into_iter().chain((0..20).map(|n| 500_000 + n * 1_000)).collect();
        assert_eq!(over(&times, 20).len(), 20);
    }

    #[test]
    fn spans_that_touch_are_not_open_at_once() {
        assert_eq!(most_at_once(&[(0, 10), (10, 20), (20, 30)]), 1);
        assert_eq!(most_at_once(&[(0, 11), (10, 21), (10, 30)]), 3);
        assert_eq!(most_at_once(&[]), 0);
    }

    #[test]
    fn only_the_part_of_a_span_within_the_period_is_busy() {
        assert_eq!(busy_between(&[(0, 10), (5, 30), (40, 50)], 8, 20), 2 + 12);
        assert_eq!(count_between(&[1, 2, 3, 4], 2, 4), 2);
    }

    #[test]
    fn a_quantile_is_a_value_of_the_list() {
        let values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!([0.5, 0.99, 1.0].map(|q| quantile(&values, q)), [50, 99, 100]);
        assert_eq!(quantile(&[], 0.5), 0);
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
    }
}
