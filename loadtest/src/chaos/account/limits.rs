//! The rules of limits: turns, starts and open requests.

use super::kind::Kind;
use super::result::Account;
use crate::chaos::evidence::{Narrow, Rated};
use crate::flow::counts::{most_at_once, over};
use crate::flow::turns;

/// The delays between turn and server may differ by so much without a start over the rate at the server.
const DELAY_VARIATION_US: u64 = 50_000;

pub(super) fn account_rate(rated: &Rated, account: &mut Account) {
    let Rated { limit, turns, starts } = rated;
    let over_by_turn = over(turns, *limit).len();
    if over_by_turn > 0 {
        account.violation(Kind::OverRateByTurn, format!("{over_by_turn} turns beyond {limit} in a second"));
    }
    let without = starts.iter().filter(|start| start.delay_us.is_none()).count();
    if without > 0 {
        account.violation(Kind::StartWithoutTurn, format!("{without} starts without a turn"));
    }
    let times: Vec<_> = starts.iter().map(|start| start.at_us).collect();
    for last in over(&times, *limit) {
        // A start is over only if it and the `limit` starts before it came within a second.
        let window = starts.get(last.saturating_sub(*limit)..=last).unwrap_or_default();
        let delays: Vec<_> = window.iter().map(|start| start.delay_us).collect();
        match turns::variation(&delays) {
            Some(variation) if variation > DELAY_VARIATION_US => account.late_starts += 1,
            Some(_) | None => {
                account.violation(Kind::OverRate, format!("more than {limit} starts in a second at {last}"))
            }
        }
    }
}

pub(super) fn account_concurrency(narrow: &Narrow, account: &mut Account) {
    let spans = |with_frozen: bool| {
        let requests = narrow.requests.iter().filter(|open| with_frozen || !open.after_freeze);
        most_at_once(&requests.map(|open| (open.from_us, open.to_us)).collect::<Vec<_>>())
    };
    let (most, with_frozen) = (spans(false), spans(true));
    if most > narrow.limit {
        account
            .violation(Kind::OverConcurrency, format!("{most} requests open at once, of {}", narrow.limit));
    }
    account.after_freeze += u64::try_from(with_frozen.saturating_sub(most.max(narrow.limit))).unwrap_or(0);
}
