//! Spans of time on the command line: a number and s, m, h or d.

use std::time::Duration;

use toolfleet_core::retention::RETENTION_MS;

/// The longest span: how long records are kept.
pub(crate) const KEPT_FOR: Duration = Duration::from_millis(RETENTION_MS);

/// Reads a span.
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
