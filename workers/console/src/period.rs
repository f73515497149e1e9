//! The periods of plots and counts.

use toolfleet_client::Parts;
use toolfleet_core::fleet::Minute;

use crate::link::Link;
use crate::query::Query;

/// A period up to now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Period {
    #[default]
    Hour,
    SixHours,
    Day,
    Week,
}

impl Period {
    pub(crate) const ALL: [Self; 4] = [Self::Hour, Self::SixHours, Self::Day, Self::Week];

    /// As the command line writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "1d",
            Self::Week => "7d",
        }
    }

    /// That of an address; an hour unless it names another.
    pub(crate) fn of(query: &Query) -> Self {
        let named = query.get("last").and_then(|text| Self::ALL.into_iter().find(|one| one.as_str() == text));
        named.unwrap_or_default()
    }

    /// All periods, with the address of each; this one is marked.
    pub(crate) fn offered(self, address: &Link) -> Vec<(&'static str, String, bool)> {
        let one = |one: Self| (one.as_str(), address.clone().with("last", one.as_str()).text(), one == self);
        Self::ALL.into_iter().map(one).collect()
    }

    /// In parts for a small plot.
    pub(crate) fn coarse(self, now: Minute) -> Parts {
        match self {
            Self::Hour => Parts::until(now, 30, 2),
            Self::SixHours => Parts::until(now, 36, 10),
            Self::Day => Parts::until(now, 24, 60),
            Self::Week => Parts::until(now, 28, 360),
        }
    }

    /// In parts for a large one.
    pub(crate) fn fine(self, now: Minute) -> Parts {
        match self {
            Self::Hour => Parts::until(now, 60, 1),
            Self::SixHours => Parts::until(now, 72, 5),
            Self::Day => Parts::until(now, 24, 60),
            Self::Week => Parts::until(now, 84, 120),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_period_has_its_length_in_both_plots() {
        let now = Minute::of(toolfleet_core::time::Timestamp::from_ms(1_795_000_000_000));
        for (period, hours) in Period::ALL.into_iter().zip([1, 6, 24, 168]) {
            for parts in [period.coarse(now), period.fine(now)] {
                assert_eq!(i64::try_from(parts.count).unwrap() * parts.minutes, hours * 60, "{period:?}");
            }
            assert_eq!(Period::of(&Query::parse(&format!("last={}", period.as_str()))), period);
        }
        assert_eq!(Period::of(&Query::parse("last=9y")), Period::Hour);
    }
}
