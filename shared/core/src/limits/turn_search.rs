//! The search for one time at which each rate limit of a call has a turn.
//!
//! One limit gives a turn first, and the others are asked for turns at its time. A limit that has none then says when its next would be, and
//! becomes the first: it is asked for that time, or, where that is seconds away, for the turn that its own order gives the call. The turns found
//! before go back. So the time grows to one that suits all, and the limit that lacks decides about the wait.
//!
//! **Invariant:** turns are held together only at times that one request serves, at most [`LATE_US`] apart.
//!
//! [`LATE_US`]: super::turn_book::LATE_US

use super::turn::Turn;
use super::turn_book::{Grant, SHORT_NOTICE_US, Wish};

/// How many times are tried, before the call waits for the limit that lacks.
const MOST_TIMES: u32 = 6;

/// A time that one limit offers is asked for so long ahead at least, in microseconds: it must not have passed when the others have answered.
const LEAD_US: i64 = 300_000;

/// A search. Limits are named by their position.
#[derive(Debug, Clone)]
pub struct TurnSearch {
    limits: usize,
    first: usize,
    /// What the call asks a limit for whose order counts.
    own: Wish,
    /// The time that all are asked for; none while the first is asked for its next turn.
    at_us: Option<i64>,
    held: Vec<(usize, Turn)>,
    times: u32,
}

/// What follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask that limit for that turn.
    Ask(usize, Wish),
    /// The turns that were found go back; then ask.
    AskAnew(usize, Wish),
    /// Each limit has given a turn.
    Found,
    /// The turns that were found go back. The call would have a turn of that limit at about this time, in microseconds.
    Wait(usize, i64),
}

impl TurnSearch {
    /// A search that begins with the limit at `first`, of which the call asks for `own`.
    pub const fn new(limits: usize, first: usize, own: Wish) -> Self {
        Self { limits, first, own, at_us: None, held: Vec::new(), times: 0 }
    }

    /// The first question; nothing where there is no limit.
    pub const fn begin(&self) -> Next {
        if self.limits == 0 { Next::Found } else { Next::Ask(self.first, self.own) }
    }

    /// Goes on with turns that the call has already. All of them are at one time.
    pub fn with(&mut self, held: impl IntoIterator<Item = (usize, Turn)>) -> Next {
        self.held = held.into_iter().collect();
        let Some((first, turn)) = self.held.first() else { return self.begin() };
        (self.first, self.at_us) = (*first, Some(turn.at_us));
        self.next()
    }

    /// Takes the answer of the limit that was asked, at `now_us`.
    pub fn answered(&mut self, limit: usize, grant: Grant, now_us: i64) -> Next {
        match grant {
            Grant::Turn(turn) => {
                self.at_us.get_or_insert(turn.at_us);
                self.held.push((limit, turn));
                self.next()
            }
            Grant::Later(at_us) => Next::Wait(limit, at_us),
            Grant::Taken(at_us) => {
                self.held.clear();
                self.times += 1;
                if self.times >= MOST_TIMES {
                    return Next::Wait(limit, at_us);
                }
                self.first = limit;
                let near = at_us <= now_us.saturating_add(SHORT_NOTICE_US);
                self.at_us = near.then_some(at_us.max(now_us.saturating_add(LEAD_US)));
                Next::AskAnew(limit, self.at_us.map_or(self.own, Wish::At))
            }
        }
    }

    /// The next limit that has not given a turn.
    fn next(&self) -> Next {
        let has = |limit: &usize| self.held.iter().any(|(other, _)| other == limit);
        let wish = self.at_us.map_or(self.own, Wish::At);
        (0..self.limits).find(|limit| !has(limit)).map_or(Next::Found, |limit| Next::Ask(limit, wish))
    }
}
