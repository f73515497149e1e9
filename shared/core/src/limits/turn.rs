//! A turn: the time at which one call may be sent under one rate limit, and the text that carries it from worker to worker.

use std::fmt;
use std::str::FromStr;

use super::key::LimitKey;
use crate::time::Timestamp;

/// The right to send one call at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The number of the limit's setting under which it was given. A turn of another number is void.
    pub epoch: u64,
    /// Its time, in microseconds since 1970.
    pub at_us: i64,
}

impl Turn {
    /// Its time to the millisecond.
    pub const fn at(self) -> Timestamp {
        Timestamp::from_ms(self.at_us.div_euclid(1_000))
    }
}

/// What a waiting message carries: turns at one time, or the time by which its call may ask for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarriedTurn {
    /// The limit.
    pub limit: LimitKey,
    /// The turn; without one the call has waited by an estimate, until `wake_at`.
    pub turn: Option<Turn>,
    /// When the call asks again, where it has no turn.
    pub wake_at: Timestamp,
    /// The turns of its other limits at that time.
    pub others: Vec<(LimitKey, Turn)>,
}

/// A text that is no carried turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no turn: accepted is `turn EPOCH MICROSECONDS LIMIT` or `estimate 0 MICROSECONDS LIMIT`")]
pub struct NoTurn;

impl CarriedTurn {
    /// All turns that it carries.
    pub fn turns(&self) -> impl Iterator<Item = (&LimitKey, Turn)> {
        let first = self.turn.map(|turn| (&self.limit, turn));
        first.into_iter().chain(self.others.iter().map(|(limit, turn)| (limit, *turn)))
    }

    fn one(line: &str) -> Result<Self, NoTurn> {
        let mut words = line.splitn(4, ' ');
        let mut word = || words.next().ok_or(NoTurn);
        let (kind, epoch, at_us, limit) = (word()?, word()?, word()?, word()?);
        let epoch = epoch.parse().map_err(|_| NoTurn)?;
        let at_us: i64 = at_us.parse().map_err(|_| NoTurn)?;
        let limit = limit.parse().map_err(|_| NoTurn)?;
        let wake_at = Timestamp::from_ms(at_us.div_euclid(1_000));
        let turn = match kind {
            "turn" => Some(Turn { epoch, at_us }),
            "estimate" => None,
            _ => return Err(NoTurn),
        };
        Ok(Self { limit, turn, wake_at, others: Vec::new() })
    }
}

/// A line for each limit.
impl fmt::Display for CarriedTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.turn {
            Some(Turn { epoch, at_us }) => write!(f, "turn {epoch} {at_us} {}", self.limit)?,
            None => {
                let wake_us = self.wake_at.as_ms().saturating_mul(1_000);
                write!(f, "estimate 0 {wake_us} {}", self.limit)?;
            }
        }
        self.others
            .iter()
            .try_for_each(|(limit, Turn { epoch, at_us })| write!(f, "\nturn {epoch} {at_us} {limit}"))
    }
}

impl FromStr for CarriedTurn {
    type Err = NoTurn;

    fn from_str(text: &str) -> Result<Self, NoTurn> {
        let mut lines = text.lines().map(Self::one);
        let first = lines.next().ok_or(NoTurn)??;
        let other = |other: Result<Self, NoTurn>| {
            let Self { limit, turn, .. } = other?;
            Ok((limit, turn.ok_or(NoTurn)?))
        };
        Ok(Self { others: lines.map(other).collect::<Result<_, _>>()?, ..first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_read_back_from_the_text_that_carries_it() {
        let limit: LimitKey = "tool:crm/any name".parse().unwrap();
        let turn = Turn { epoch: 3, at_us: 1_795_000_000_123_456 };
        let others = Vec::new();
        let carried = CarriedTurn { limit: limit.clone(), turn: Some(turn), wake_at: turn.at(), others };
        assert_eq!(carried.to_string(), "turn 3 1795000000123456 tool:crm/any name");
        assert_eq!(carried.to_string().parse(), Ok(carried.clone()));
        let others = vec![("tenant:acme".parse().unwrap(), Turn { epoch: 1, at_us: 1_795_000_000_123_460 })];
        let two = CarriedTurn { others, ..carried };
        let text = "turn 3 1795000000123456 tool:crm/any name\nturn 1 1795000000123460 tenant:acme";
        assert_eq!((two.to_string().as_str(), text.parse()), (text, Ok(two)));
        let wake_at = Timestamp::from_ms(1_795_000_000_123);
        let estimate = CarriedTurn { limit, turn: None, wake_at, others: Vec::new() };
        assert_eq!(estimate.to_string(), "estimate 0 1795000000123000 tool:crm/any name");
        assert_eq!(estimate.to_string().parse(), Ok(estimate));
        for wrong in [
            "",
            "turn",
            "turn 3 x tool:a",
            "turn 3 4 nothing",
            "turns 3 4 tool:a",
            "turn 3 4 tool:a\nestimate 0 4 tool:b",
        ] {
            assert_eq!(wrong.parse::<CarriedTurn>(), Err(NoTurn), "{wrong}");
        }
    }
}
