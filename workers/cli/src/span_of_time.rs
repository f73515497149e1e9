//! Reads a span of time as an option gives it, for example 30m.

use std::time::Duration;

use toolfleet_core::retention::RETENTION_MS;

/// How long records and rows are kept: the longest span.
pub(crate) const KEPT_FOR: Duration = Duration::from_millis(RETENTION_MS);

/// The units, in milliseconds; a longer name before one that it ends in.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a span of time.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wanted = || {
        format!(
            "`{text}` is not a span of time: accepted is a number and ms, s, m, h or d, for example 30m, 1h or 2d"
        )
    };
    let number_of_unit = UNITS.iter().find_map(|(unit, ms)| Some((text.strip_suffix(unit)?, *ms)));
    let (number, unit_ms) = number_of_unit.ok_or_else(wanted)?;
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let span_ms = number.checked_mul(unit_ms).filter(|ms| *ms > 0 && *ms <= RETENTION_MS);
    span_ms.map(Duration::from_millis).ok_or_else(|| format!("{}; at most 60d", wanted()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_read() {
        assert_eq!(parse_span("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(parse_span("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_span("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(parse_span("60d"), Ok(KEPT_FOR));
        for wrong in ["", "h", "1", "1 h", "-1h", "0h", "1w", "400d", "1µ"] {
            let error = parse_span(wrong).unwrap_err();
            assert!(error.contains("30m, 1h or 2d"), "{wrong}: {error}");
        }
    }
}
