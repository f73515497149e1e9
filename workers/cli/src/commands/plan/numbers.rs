//! Rates and amounts as they are shown.

use toolfleet_core::limits::RateLimit;

pub(super) fn per_second(rate: RateLimit) -> f64 {
    f64::from(rate.count()) / f64::from(rate.seconds())
}

/// A rate with about three digits.
pub(super) fn shown_rate(rate: f64) -> String {
    if rate < 1.0 { format!("{rate:.3}") } else { format!("{rate:.1}") }
}

pub(super) fn cents(usd: f64) -> f64 {
    (usd * 100.0).round() / 100.0
}
