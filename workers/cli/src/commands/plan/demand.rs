//! What a fleet has to do: the rate of calls, and how long those of each tool take.

use std::str::FromStr;
use std::time::Duration;

use super::waiting::Service;
use crate::span_of_time::parse_span;

/// How much longer than its tool works a call holds its slot, in seconds: the claim and the result, written within a region of AWS.
pub(super) const OVERHEAD_S: f64 = 0.02;
/// The 95th percentile of a normal distribution, in standard deviations.
const NORMAL_P95: f64 = 1.645;

/// The calls of one tool, or of tools that are alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Part {
    /// How much of all calls, in any unit.
    pub(super) share: f64,
    /// The median of what its tool takes.
    pub(super) p50: Duration,
    /// The 95th percentile; the median where all take the same time.
    pub(super) p95: Duration,
}

impl Part {
    /// The mean and the standard deviation of the logarithm of what its tool takes, in seconds.
    pub(super) fn log_normal(&self) -> (f64, f64) {
        let (p50, p95) = (self.p50.as_secs_f64(), self.p95.as_secs_f64().max(self.p50.as_secs_f64()));
        (p50.ln(), (p95 / p50).ln() / NORMAL_P95)
    }

    /// The mean, and the mean of the squares, of what a call holds its slot for: latencies are about log-normal.
    fn moments(&self) -> (f64, f64) {
        let (mu, sigma) = self.log_normal();
        let variance = sigma * sigma;
        let mean = (mu + variance / 2.0).exp();
        let square = mean * mean * variance.exp();
        let whole = mean + OVERHEAD_S;
        (whole, OVERHEAD_S.mul_add(2.0_f64.mul_add(mean, OVERHEAD_S), square))
    }
}

impl FromStr for Part {
    type Err = String;

    /// SHARE:P50 or SHARE:P50:P95, for example 60:300ms:1s.
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || format!("`{text}`: accepted is SHARE:P50 or SHARE:P50:P95, for example 60:300ms:1s");
        let mut parts = text.split(':');
        let share: f64 = parts.next().and_then(|share| share.parse().ok()).ok_or_else(wanted)?;
        let p50 = parse_span(parts.next().ok_or_else(wanted)?)?;
        let p95 = parts.next().map(parse_span).transpose()?.unwrap_or(p50);
        if parts.next().is_some() || !(share > 0.0 && share <= 1e9) {
            return Err(wanted());
        }
        if p95 < p50 {
            return Err(format!("`{text}`: the 95th percentile is below the median"));
        }
        Ok(Self { share, p50, p95 })
    }
}

/// What the fleet has counted.
pub(super) struct Seen {
    /// Calls a second on average.
    pub(super) rate: f64,
    /// The same in the highest hour; nothing where no hour was counted for long enough.
    pub(super) peak_rate: Option<f64>,
    pub(super) parts: Vec<Part>,
}

impl Seen {
    /// Calls a second at their highest, as far as it was counted.
    pub(super) fn highest(&self) -> f64 {
        self.peak_rate.unwrap_or(self.rate)
    }
}

/// Calls a second when they are highest, and how that is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peak {
    pub(super) rate: f64,
    pub(super) of: PeakOf,
}

/// How the highest rate is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PeakOf {
    /// The highest hour of the history.
    History,
    /// The rate on average, times a factor.
    Factor,
}

/// How much higher the rate is when it is highest, where nobody says so and no hour was counted.
const FACTOR: f64 = 2.0;

impl Peak {
    /// Of a factor that was asked for, before the highest hour that was seen.
    pub(super) fn of(factor: Option<f64>, rate: f64, seen: Option<f64>) -> Self {
        match (factor, seen) {
            (None, Some(rate)) => Self { rate, of: PeakOf::History },
            (factor, _) => Self { rate: rate * factor.unwrap_or(FACTOR), of: PeakOf::Factor },
        }
    }
}

/// How long the calls of all parts hold a slot.
pub(super) fn service(parts: &[Part]) -> Service {
    let all: f64 = parts.iter().map(|part| part.share).sum();
    let (mut mean_s, mut square) = (0.0, 0.0);
    for part in parts {
        let (mean_of_part, square_of_part) = part.moments();
        mean_s += part.share / all * mean_of_part;
        square += part.share / all * square_of_part;
    }
    Service { mean_s, scv: (square / (mean_s * mean_s) - 1.0).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_with_and_without_its_95th_percentile() {
        let part: Part = "60:300ms:1s".parse().unwrap();
        assert_eq!((part.p50, part.p95), (Duration::from_millis(300), Duration::from_secs(1)));
        assert_eq!("1:2s".parse::<Part>().unwrap().p95, Duration::from_secs(2));
        for wrong in ["", "1", "x:1s", "0:1s", "1:1s:2s:3s", "1:2s:1s"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn two_kinds_of_calls_vary_more_than_each() {
        let constant = service(&["1:1s".parse().unwrap()]);
        assert!((constant.mean_s - 1.02).abs() < 1e-9 && constant.scv < 1e-9, "{constant:?}");
        let mixed = service(&["1:100ms".parse().unwrap(), "1:10s".parse().unwrap()]);
        assert!((mixed.mean_s - 5.07).abs() < 1e-9 && mixed.scv > 0.9, "{mixed:?}");
        // The mean of a log-normal distribution with that median and 95th percentile is 1.2 times its median.
        let spread = service(&["1:1s:2700ms".parse().unwrap()]);
        assert!((spread.mean_s - 1.22).abs() < 0.01, "{spread:?}");
    }
}
