//! The decisions of rate and concurrency limits, under any order of asks, clocks, crashes and changes.

mod adaptive;
mod blocks;
mod holders;
mod live_changes;
mod several_limits;
mod turns;

use toolfleet_core::ids::Tenant;
use toolfleet_core::limits::turn_book::{Ask, Grant, Reserve, TurnRow, TurnTable, Wish};
use toolfleet_core::limits::{RateLimit, Turn};
use toolfleet_core::state_table::{Decision, StateTable as _};

pub(super) const START_US: i64 = 1_795_000_000_000_000;

/// The row of a limit with its rule, as workers see it.
pub(super) struct Book {
    pub(super) row: Option<TurnRow>,
    pub(super) rate: RateLimit,
    pub(super) version: u64,
    pub(super) shared: bool,
}

impl Book {
    pub(super) fn new(rate: &str, shared: bool) -> Self {
        Self { row: None, rate: rate.parse().unwrap(), version: 0, shared }
    }

    pub(super) fn ask(&mut self, now_us: i64, asks: &[(&str, Wish)]) -> Vec<Grant> {
        self.reserve(now_us, 1, asks, &[])
    }

    pub(super) fn reserve(
        &mut self,
        now_us: i64,
        weight: u32,
        asks: &[(&str, Wish)],
        give_back: &[Turn],
    ) -> Vec<Grant> {
        let ask = |(tenant, wish): &(&str, Wish)| {
            let tenant = tenant.parse::<Tenant>().unwrap();
            Ask { tenant, weight, wish: *wish }
        };
        let event = Reserve {
            now_us,
            mark: 0,
            rate: self.rate,
            version: self.version,
            shared: self.shared,
            give_back: give_back.to_vec(),
            asks: asks.iter().map(ask).collect(),
        };
        match TurnTable::decide(self.row.as_ref(), &event) {
            Decision::Write { row, then } => {
                self.row = Some(*row);
                then
            }
            Decision::Leave(grants) => grants,
        }
    }

    pub(super) fn one(&mut self, now_us: i64, tenant: &str, wish: Wish) -> Grant {
        self.ask(now_us, &[(tenant, wish)])[0]
    }
}

pub(super) fn turn(grant: Grant) -> Turn {
    match grant {
        Grant::Turn(turn) => turn,
        other @ (Grant::Later(_) | Grant::Taken(_)) => panic!("a turn, not {other:?}"),
    }
}
