//! How long a slow tool takes: a fixed time, a lognormal distribution, or measured percentiles.
//!
//! **Invariant:** the same seed gives the same times.

use std::fmt;
use std::str::FromStr;

use fastrand::Rng;

/// The maximum time of a tool, whatever its distribution: ten minutes.
const LONGEST_MS: f64 = 600_000.0;

/// How long a slow tool takes.
#[derive(Debug, Clone, PartialEq)]
pub enum Distribution {
    /// Always so many milliseconds.
    Fixed(u32),
    /// Half of the calls are faster than the median; one in six takes longer than the median times e^sigma.
    Lognormal {
        /// In milliseconds.
        median_ms: f64,
        /// Of the logarithm.
        sigma: f64,
    },
    /// Percentiles in growing order: percent, and milliseconds; between them straight lines.
    Percentiles(Vec<(f64, f64)>),
}

impl Default for Distribution {
    /// 5 ms to 100 ms, most of them short.
    fn default() -> Self {
        Self::Percentiles(vec![(0.0, 5.0), (50.0, 20.0), (90.0, 60.0), (100.0, 100.0)])
    }
}

impl Distribution {
    /// One time, in milliseconds.
    pub fn sample(&self, rng: &mut Rng) -> u64 {
        let ms = match self {
            Self::Fixed(ms) => f64::from(*ms),
            Self::Lognormal { median_ms, sigma } => median_ms * (sigma * normal(rng)).exp(),
            Self::Percentiles(points) => between(points, 100.0 * rng.f64()),
        };
        whole(ms)
    }

    /// The longest time to expect, in milliseconds. One sample in three million of a lognormal distribution is longer.
    pub fn longest_ms(&self) -> u64 {
        whole(match self {
            Self::Fixed(ms) => f64::from(*ms),
            Self::Lognormal { median_ms, sigma } => median_ms * (5.0 * sigma).exp(),
            Self::Percentiles(points) => points.iter().map(|(_, ms)| *ms).fold(0.0, f64::max),
        })
    }
}

/// Whole milliseconds within the bounds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0 to 600,000 before")]
fn whole(ms: f64) -> u64 {
    ms.clamp(0.0, LONGEST_MS) as u64
}

/// A normal variate from two uniform ones (Box and Muller).
fn normal(rng: &mut Rng) -> f64 {
    let (a, b) = (1.0 - rng.f64(), rng.f64());
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

fn between(points: &[(f64, f64)], percent: f64) -> f64 {
    let above = points.iter().position(|(at, _)| *at > percent);
    let point = |n: usize| points.get(n).copied().unwrap_or_default();
    match above {
        Some(0) => point(0).1,
        Some(n) => {
            let ((from, low), (to, high)) = (point(n - 1), point(n));
            low + (high - low) * (percent - from) / (to - from)
        }
        None => points.last().map_or(0.0, |(_, ms)| *ms),
    }
}

const ACCEPTED: &str = "accepted is a time in ms such as 20, lognormal:MEDIAN_MS:SIGMA such as lognormal:50:0.8, or growing \
                        percentiles in ms such as p0=5,p50=20,p99=400";

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a distribution; {ACCEPTED}");
        let number = |text: &str| {
            text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && (0.0..=LONGEST_MS).contains(n))
        };
        if let Some(rest) = text.strip_prefix("lognormal:") {
            let (median, sigma) = rest.split_once(':').ok_or_else(wrong)?;
            let (median_ms, sigma) = number(median).zip(number(sigma)).ok_or_else(wrong)?;
            return Ok(Self::Lognormal { median_ms, sigma });
        }
        if !text.contains('=') {
            let ms = number(text).and(text.trim().parse().ok());
            return ms.map(Self::Fixed).ok_or_else(wrong);
        }
        let point = |part: &str| {
            let (percent, ms) = part.trim().strip_prefix('p')?.split_once('=')?;
            number(percent).filter(|percent| *percent <= 100.0).zip(number(ms))
        };
        let points = text.split(',').map(point).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
        let grows = points.windows(2).all(|pair| match pair {
            [(from, low), (to, high)] => from < to && low <= high,
            _ => true,
        });
        if grows { Ok(Self::Percentiles(points)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(ms) => write!(f, "{ms}"),
            Self::Lognormal { median_ms, sigma } => write!(f, "lognormal:{median_ms}:{sigma}"),
            Self::Percentiles(points) => {
                let points: Vec<_> = points.iter().map(|(percent, ms)| format!("p{percent}={ms}")).collect();
                f.write_str(&points.join(","))
            }
        }
    }
}
