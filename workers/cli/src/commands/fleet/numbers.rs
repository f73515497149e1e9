//! Numbers for people: durations, parts of a whole, and how old something is.

use toolfleet_core::fleet::Histogram;
use toolfleet_core::time::Timestamp;

use crate::show;

/// The time from `earlier` to `now`.
pub(super) fn age(earlier: Timestamp, now: Timestamp) -> String {
    show::span(now.ms_since(earlier))
}

/// A quantile of a histogram, in milliseconds; a dash where it counts nothing.
pub(super) fn quantile(histogram: &Histogram, percent: u8) -> String {
    histogram.quantile_us(percent).map_or_else(|| "-".to_owned(), |us| show::span(us.div_ceil(1_000)))
}

/// A part of a whole in per cent; a dash where the whole is nothing.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = u128::from(part).saturating_mul(1_000) / u128::from(whole);
    if tenths == 0 && part > 0 {
        return "<0.1 %".to_owned();
    }
    format!("{}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_nothing_is_a_dash() {
        assert_eq!(percent(0, 0), "-");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!((percent(1, 1_200), percent(0, 1_200)), ("<0.1 %".to_owned(), "0.0 %".to_owned()));
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0 %");
        assert_eq!(quantile(&Histogram::default(), 50), "-");
    }
}
