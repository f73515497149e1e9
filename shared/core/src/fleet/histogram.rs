//! A histogram of durations in fixed logarithmic buckets, so that the histograms of any workers and minutes can be added.
//!
//! There are eight buckets for each power of two. A quantile is therefore off by at most a sixteenth of the true value
//! ([`QUANTILE_ERROR`]). Durations are whole microseconds.

use std::fmt::Write as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest relative error of a quantile: 6.25 percent.
pub const QUANTILE_ERROR: f64 = 1.0 / 16.0;
/// The longest duration, in microseconds: about 12 days. A longer one counts as this one.
pub const LONGEST_US: u64 = (1 << 40) - 1;

/// Eight buckets for each power of two.
const BITS: u32 = 3;
const PER_OCTAVE: u64 = 1 << BITS;
/// One more than the index of the bucket of [`LONGEST_US`].
const BUCKETS: usize = 304;

/// A text that is not a histogram.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a part of a histogram: accepted is BUCKET:COUNT,COUNT,.. with buckets below 304, parted by ;"
)]
pub struct HistogramError(String);

/// How many durations lie in each bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// The counts from the first bucket to the last one that is not empty.
    counts: Vec<u64>,
}

impl Histogram {
    /// Adds one duration.
    pub fn add(&mut self, us: u64) {
        self.add_to(bucket(us), 1);
    }

    /// Adds all durations of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (at, count) in other.counts.iter().enumerate() {
            self.add_to(at, *count);
        }
    }

    /// How many durations it holds.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The duration below which `percent` of all lie (nearest rank), in microseconds; nothing where there is none. It differs from the
    /// true one by at most [`QUANTILE_ERROR`] of that.
    pub fn quantile_us(&self, percent: u8) -> Option<u64> {
        let count = self.count();
        let rank = (u128::from(count) * u128::from(percent.min(100))).div_ceil(100).max(1);
        let mut below = 0_u128;
        for (at, count) in self.counts.iter().enumerate() {
            below += u128::from(*count);
            if below >= rank {
                return Some(middle(at));
            }
        }
        None
    }

    fn add_to(&mut self, at: usize, count: u64) {
        if count == 0 {
            return;
        }
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        if let Some(sum) = self.counts.get_mut(at) {
            *sum = sum.saturating_add(count);
        }
    }

    /// The counts as runs of buckets that are not empty, as in `72:1,5,2;90:1`.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let mut in_run = false;
        for (at, count) in self.counts.iter().enumerate().map(|(at, count)| (at, *count)) {
            if count == 0 {
                in_run = false;
                continue;
            }
            let written = match (in_run, text.is_empty()) {
                (true, _) => write!(text, ",{count}"),
                (false, true) => write!(text, "{at}:{count}"),
                (false, false) => write!(text, ";{at}:{count}"),
            };
            // Writing to a String does not fail.
            debug_assert!(written.is_ok());
            in_run = true;
        }
        text
    }

    /// Reads what [`Histogram::encode`] wrote.
    ///
    /// # Errors
    /// The part of the text that is wrong.
    pub fn decode(text: &str) -> Result<Self, HistogramError> {
        let mut histogram = Self::default();
        for run in text.split(';').filter(|run| !run.is_empty()) {
            let wrong = || HistogramError(run.chars().take(40).collect());
            let (start, counts) = run.split_once(':').ok_or_else(wrong)?;
            let start: usize = start.parse().map_err(|_| wrong())?;
            for (n, count) in counts.split(',').enumerate() {
                let at = start.checked_add(n).filter(|at| *at < BUCKETS).ok_or_else(wrong)?;
                histogram.add_to(at, count.parse().map_err(|_| wrong())?);
            }
        }
        Ok(histogram)
    }
}

impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.encode())
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::decode(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// The bucket of a duration.
fn bucket(us: u64) -> usize {
    let us = us.min(LONGEST_US);
    let exponent = us.checked_ilog2().unwrap_or(0);
    let at = match exponent.checked_sub(BITS) {
        None => us,
        Some(shift) => u64::from(shift + 1) * PER_OCTAVE + ((us >> shift) & (PER_OCTAVE - 1)),
    };
    usize::try_from(at).unwrap_or(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(at: usize) -> u64 {
    let at = u64::try_from(at).unwrap_or(0);
    match (at / PER_OCTAVE).checked_sub(1) {
        None => at,
        Some(shift) => {
            let lowest = (PER_OCTAVE + at % PER_OCTAVE) << shift.min(40);
            let width = 1_u64 << shift.min(40);
            lowest + (width - 1) / 2
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(durations: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        durations.iter().for_each(|us| histogram.add(*us));
        histogram
    }

    fn durations() -> impl Strategy<Value = Vec<u64>> {
        let one = prop_oneof![0..20_u64, 0..100_000_u64, 0..LONGEST_US * 2];
        prop::collection::vec(one, 0..60)
    }

    proptest! {
        #[test]
        fn merging_is_commutative_and_associative(a in durations(), b in durations(), c in durations()) {
            let (a, b, c) = (of(&a), of(&b), of(&c));
            let sum = |x: &Histogram, y: &Histogram| {
                let mut sum = x.clone();
                sum.merge(y);
                sum
            };
            prop_assert_eq!(sum(&a, &b), sum(&b, &a));
            prop_assert_eq!(sum(&sum(&a, &b), &c), sum(&a, &sum(&b, &c)));
            prop_assert_eq!(sum(&a, &Histogram::default()), a);
        }

        #[test]
        fn a_merged_histogram_is_that_of_all_durations(a in durations(), b in durations()) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }

        #[test]
        fn a_quantile_is_within_its_error_bound(mut all in durations(), percent in 0..=100_u8) {
            let found = of(&all).quantile_us(percent);
            all.iter_mut().for_each(|us| *us = (*us).min(LONGEST_US));
            all.sort_unstable();
            let rank = (all.len() * usize::from(percent)).div_ceil(100).max(1);
            match (all.get(rank - 1), found) {
                (Some(truth), Some(found)) => {
                    let bound = (*truth as f64) * QUANTILE_ERROR;
                    prop_assert!((found.abs_diff(*truth) as f64) <= bound, "{} for {}", found, truth);
                }
                (truth, found) => prop_assert_eq!(truth.copied(), found),
            }
        }

        #[test]
        fn an_encoded_histogram_is_read_back(all in durations()) {
            let histogram = of(&all);
            prop_assert_eq!(Histogram::decode(&histogram.encode()), Ok(histogram));
        }
    }

    #[test]
    fn buckets_grow_by_an_eighth_of_a_power_of_two() {
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(7), 7);
        assert_eq!((bucket(8), bucket(15), bucket(16), bucket(17), bucket(18)), (8, 15, 16, 16, 17));
        assert_eq!(bucket(LONGEST_US), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        for at in 0..BUCKETS {
            assert_eq!(bucket(middle(at)), at);
        }
    }

    #[test]
    fn the_encoding_is_short_and_checked() {
        let mut histogram = of(&[1_000, 1_000, 1_100, 9_000_000]);
        assert_eq!(histogram.encode(), "63:2,1;168:1");
        assert_eq!(histogram.count(), 4);
        histogram.merge(&Histogram::default());
        assert_eq!(Histogram::decode(""), Ok(Histogram::default()));
        for wrong in ["x", "1", "1:", "1:x", "304:1", "303:1,1", "1:-1", ":1"] {
            let error = Histogram::decode(wrong).unwrap_err().to_string();
            assert!(error.contains("BUCKET:COUNT"), "{wrong}: {error}");
        }
    }
}
