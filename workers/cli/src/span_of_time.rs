//! Reads a span of time as an option gives it, for example 30m.

use std::time::Duration;

use toolfleet_core::retention::RETENTION_MS;

/// How long records and rows are kept: the longest span.
pub(crate) const KEPT_FOR: Duration = Duration::from_millis(RETENTION_MS);

pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wanted = || {
        format!(
            "`{text}` is not a span of time: accepted is a number and s, m, h or d, for example 30m, 1h or 2d"
        )
    };
    let unit = text.chars().last().ok_or_else(wanted)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wanted()),
    };
    let number: u64 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| wanted())?;
    let span = number.checked_mul(seconds).filter(|s| *s > 0 && *s <= KEPT_FOR.as_secs());
    span.map(Duration::from_secs).ok_or_else(|| format!("{}; at most 60d", wanted()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_read() {
        assert_eq!(parse_span("30m"), Ok(Duration::from_secs(1_800)));
        assert_eq!(parse_span("2d"), Ok(Duration::from_secs(172_800)));
        assert_eq!(parse_span("60d"), Ok(KEPT_FOR));
        for wrong in ["", "h", "1", "1 h", "-1h", "0h", "1w", "400d", "1µ"] {
            let error = parse_span(wrong).unwrap_err();
            assert!(error.contains("30m, 1h or 2d"), "{wrong}: {error}");
        }
    }
}
