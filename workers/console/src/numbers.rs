//! Numbers and instants as pages show them.

use toolfleet_client::fleet_words::age;
use toolfleet_core::fleet::Histogram;
use toolfleet_core::time::{Timestamp, span};

/// A count, with a comma before each three digits.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A duration in milliseconds, as short as a column needs it.
pub(crate) fn short_ms(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{} ms", count(ms)),
        10_000..100_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => span(ms),
    }
}

/// A quantile of a histogram.
pub(crate) fn quantile(histogram: &Histogram, percent: u8) -> String {
    histogram.quantile_us(percent).map_or_else(|| "–".to_owned(), |us| short_ms(us.div_ceil(1_000)))
}

/// An instant, and how long ago it was.
#[derive(Debug, Clone)]
pub(crate) struct When {
    pub(crate) instant: String,
    pub(crate) text: String,
}

impl When {
    /// An instant as the time that has passed since, or that is left.
    pub(crate) fn ago(at: Timestamp, now: Timestamp) -> Self {
        let text =
            if at > now { format!("in {}", span(at.ms_since(now))) } else { format!("{} ago", age(at, now)) };
        Self { instant: at.to_string(), text }
    }

    /// An instant as date and time of day to the second; the date is left out where it is that of `now`.
    pub(crate) fn clock(at: Timestamp, now: Timestamp) -> Self {
        let (instant, today) = (at.to_string(), now.to_string());
        let day = |text: &str| text.get(..10).unwrap_or_default().to_owned();
        let time = instant.get(11..19).unwrap_or_default();
        let text =
            if day(&instant) == day(&today) { time.to_owned() } else { format!("{} {time}", day(&instant)) };
        Self { instant, text }
    }
}

/// A part of the largest of a list, from 0 to 100: the length of its bar.
pub(crate) fn bar(part: u64, largest: u64) -> u64 {
    if largest == 0 {
        0
    } else {
        u64::try_from(u128::from(part) * 100 / u128::from(largest)).unwrap_or(100).min(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_commas_and_durations_a_unit() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([7, 9_999, 12_340, 200_000].map(short_ms), ["7 ms", "9,999 ms", "12.3 s", "3 min 20 s"]);
    }

    #[test]
    fn a_day_is_left_out_if_it_is_today() {
        let at = |text| Timestamp::parse(text).unwrap();
        let now = at("2026-11-29T10:00:00Z");
        assert_eq!(When::clock(at("2026-11-29T09:30:01.500Z"), now).text, "09:30:01");
        assert_eq!(When::clock(at("2026-11-28T09:30:01.500Z"), now).text, "2026-11-28 09:30:01");
        assert_eq!(When::ago(at("2026-11-29T09:59:58Z"), now).text, "2.0 s ago");
        assert_eq!(When::ago(at("2026-11-29T10:00:05Z"), now).text, "in 5.0 s");
        assert_eq!((bar(1, 4), bar(0, 0), bar(9, 3)), (25, 0, 100));
    }
}
