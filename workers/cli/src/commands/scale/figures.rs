//! How many workers a place runs, and between which limits it may change that.

use serde::Serialize;

use crate::exit::CommandError;

/// The workers of a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Figures {
    /// How many there should be.
    pub(super) desired: u64,
    /// How many there are.
    pub(super) running: u64,
    /// How many drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) draining: Option<u64>,
    /// Between how many the place chooses by itself; none where it does not.
    pub(super) limits: Option<Bounds>,
    /// What chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scaled_by: Option<&'static str>,
    /// The name of that thing, where it has one of its own.
    #[serde(skip)]
    pub(super) scaler: Option<String>,
}

/// The least and the most workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Bounds {
    pub(super) min: u64,
    pub(super) max: u64,
}

impl Bounds {
    /// With those parts changed.
    pub(super) fn changed(self, min: Option<u64>, max: Option<u64>) -> Result<Self, CommandError> {
        let new = Self { min: min.unwrap_or(self.min), max: max.unwrap_or(self.max) };
        if new.min <= new.max {
            return Ok(new);
        }
        let Self { min, max } = new;
        Err(CommandError::usage(format!(
            "--min: the least would be {min} and the most {max}; give both, --min no greater than --max"
        )))
    }

    /// Whether that many workers are within.
    pub(super) fn check(self, count: u64) -> Result<(), CommandError> {
        let Self { min, max } = self;
        if (min..=max).contains(&count) {
            return Ok(());
        }
        let (option, word) = if count < min { ("--min", "least") } else { ("--max", "most") };
        Err(CommandError::usage(format!(
            "COUNT: is {count}; the {word} is {}, and scaling would go back to it. Change it first: toolfleet scale limits {option} {count}",
            if count < min { min } else { max }
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { min: 2, max: 20 };

    #[test]
    fn a_count_outside_the_limits_names_the_limit_to_change() {
        assert!(BOUNDS.check(2).is_ok() && BOUNDS.check(20).is_ok());
        assert!(BOUNDS.check(1).unwrap_err().message().contains("scale limits --min 1"));
        assert!(BOUNDS.check(21).unwrap_err().message().contains("scale limits --max 21"));
    }

    #[test]
    fn the_least_is_never_more_than_the_most() {
        assert_eq!(BOUNDS.changed(None, Some(2)).unwrap(), Bounds { min: 2, max: 2 });
        assert!(BOUNDS.changed(Some(21), None).unwrap_err().message().starts_with("--min: "));
        assert!(BOUNDS.changed(None, Some(1)).is_err());
    }
}
