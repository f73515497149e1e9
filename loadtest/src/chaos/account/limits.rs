//! The rules of limits: turns, starts and open requests, under the limits that were in effect.
//!
//! A changed limit is in effect from the moment when an operator began to set it. The one before it stays in effect beside it until every worker
//! must know of the change; where several are in effect, the highest one binds.

use super::kind::Kind;
use super::result::Account;
use crate::chaos::evidence::{InEffect, Narrow, Open, Rated, Start};
use crate::flow::counts::WINDOW_US;
use crate::flow::turns;

/// The delays between turn and server may differ by so much without a start over the rate at the server.
const DELAY_VARIATION_US: u64 = 50_000;

pub(super) fn account_rate(rated: &Rated, account: &mut Account) {
    let Rated { limits, turns, starts } = rated;
    for over in over(turns, limits) {
        let Over { at_us, count, allowed, .. } = over;
        let detail = format!("{count} turns in the second until {at_us}, of {allowed}");
        account.violation(over.kind(limits, Kind::OverRateByTurn), detail);
    }
    let without = starts.iter().filter(|start| start.delay_us.is_none()).count();
    if without > 0 {
        account.violation(Kind::StartWithoutTurn, format!("{without} starts without a turn"));
    }
    account.under_lowered += under_lowered(rated);
    let times: Vec<_> = starts.iter().map(|start| start.at_us).collect();
    for over in over(&times, limits) {
        // A start is over only if it and as many starts before it as are allowed came within a second.
        let window =
            starts.get(over.position.saturating_sub(over.allowed)..=over.position).unwrap_or_default();
        let delays: Vec<_> = window.iter().map(|start| start.delay_us).collect();
        match turns::variation(&delays) {
            Some(variation) if variation > DELAY_VARIATION_US => account.late_starts += 1,
            Some(_) | None => {
                let Over { at_us, count, allowed, .. } = over;
                let detail = format!("{count} starts in the second until {at_us}, of {allowed}");
                account.violation(over.kind(limits, Kind::OverRate), detail);
            }
        }
    }
}

pub(super) fn account_concurrency(narrow: &Narrow, account: &mut Account) {
    let Narrow { limits, requests } = narrow;
    let most_over = |with_frozen: bool| {
        let requests: Vec<_> = requests.iter().filter(|open| with_frozen || !open.after_freeze).collect();
        most_over(&requests, limits)
    };
    let excess = |over: Option<Over>| over.map_or(0, |over| over.count - over.allowed);
    let over = most_over(false);
    if let Some(over) = over {
        let Over { at_us, count, allowed, .. } = over;
        let detail = format!("{count} requests open at {at_us}, of {allowed}");
        account.violation(over.kind(limits, Kind::OverConcurrency), detail);
    }
    account.after_freeze += u64::try_from(excess(most_over(true)) - excess(over)).unwrap_or(0);
}

/// Starts when no limit was in effect but one below that of the catalog.
fn under_lowered(rated: &Rated) -> u64 {
    let Some(catalog) = rated.limits.first().map(|limit| limit.limit) else { return 0 };
    let lowered = |start: &&Start| {
        let at = |limit: &&InEffect| limit.from_us <= start.at_us && start.at_us <= limit.until_us;
        rated.limits.iter().filter(at).all(|limit| limit.limit < catalog)
    };
    rated.starts.iter().filter(lowered).count() as u64
}

/// More than is allowed.
#[derive(Debug, Clone, Copy)]
struct Over {
    /// The position of the turn or start that is over, and its time.
    position: usize,
    at_us: u64,
    /// How many there are with it.
    count: usize,
    /// How many the highest limit in effect allows.
    allowed: usize,
}

impl Over {
    /// The rule that is broken: the given one, unless a limit of the run that is not in effect allows it.
    fn kind(&self, limits: &[InEffect], rule: Kind) -> Kind {
        let highest = limits.iter().map(|limit| limit.limit).max().unwrap_or(0);
        if self.count > highest { rule } else { Kind::OverLowered }
    }
}

/// The highest limit in effect at some time of that period.
fn highest(limits: &[InEffect], from_us: u64, to_us: u64) -> usize {
    let in_effect = limits.iter().filter(|limit| limit.from_us <= to_us && limit.until_us >= from_us);
    in_effect.map(|limit| limit.limit).max().unwrap_or(0)
}

/// The times that are over: with those in the second before them they are more than is allowed in it.
fn over(times: &[u64], limits: &[InEffect]) -> Vec<Over> {
    let mut first = 0;
    let mut over = Vec::new();
    for (position, at_us) in times.iter().copied().enumerate() {
        while times.get(first).is_some_and(|oldest| oldest + WINDOW_US <= at_us) {
            first += 1;
        }
        let (count, allowed) =
            (position + 1 - first, highest(limits, at_us.saturating_sub(WINDOW_US), at_us));
        if count > allowed {
            over.push(Over { position, at_us, count, allowed });
        }
    }
    over
}

/// The start that is most over: a lowered limit ends no open request, so that only starts are judged. A request that begins when another ends is
/// not open with it.
fn most_over(requests: &[&Open], limits: &[InEffect]) -> Option<Over> {
    let begins = requests.iter().enumerate().map(|(position, open)| (open.from_us, true, position));
    let ends = requests.iter().enumerate().map(|(position, open)| (open.to_us, false, position));
    let mut changes: Vec<_> = begins.chain(ends).collect();
    // An end sorts before a beginning at the same time.
    changes.sort_unstable();
    let (mut count, mut most) = (0_usize, None::<Over>);
    for (at_us, begins, position) in changes {
        count = if begins { count + 1 } else { count.saturating_sub(1) };
        let allowed = highest(limits, at_us, at_us);
        let is_more = most.is_none_or(|most| count - allowed.min(count) > most.count - most.allowed);
        if begins && count > allowed && is_more {
            most = Some(Over { position, at_us, count, allowed });
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit of 4 that is lowered to 1 at 10 s and, as all workers know 5 s later, raised to 8 at 20 s.
    fn limits() -> [InEffect; 3] {
        let of = |limit, from_s: u64, until_s: u64| InEffect {
            limit,
            from_us: from_s * WINDOW_US,
            until_us: until_s * WINDOW_US,
        };
        [of(4, 0, 15), of(1, 10, 25), InEffect { until_us: u64::MAX, ..of(8, 20, 0) }]
    }

    /// So many turns a millisecond apart.
    fn turns(at_ms: u64, count: u64) -> Vec<u64> {
        (0..count).map(|n| (at_ms + n) * 1_000).collect()
    }

    fn kinds(turns: Vec<u64>) -> Vec<Kind> {
        let mut account = Account::default();
        account_rate(&Rated { limits: limits().into(), turns, starts: Vec::new() }, &mut account);
        account.violations.iter().map(|violation| violation.kind).collect()
    }

    #[test]
    fn a_lowered_rate_binds_when_all_workers_know_of_it() {
        assert_eq!(kinds([turns(5_000, 4), turns(14_900, 4), turns(16_500, 1)].concat()), []);
        assert_eq!(kinds(turns(16_500, 2)), [Kind::OverLowered]);
        assert_eq!(kinds(turns(20_000, 8)), [], "a raised one binds at once");
        assert_eq!(kinds(turns(30_000, 9)), [Kind::OverRateByTurn], "no limit of the run allows it");
    }

    #[test]
    fn a_second_across_a_change_has_the_higher_of_both_rates() {
        assert_eq!(kinds([turns(14_999, 1), turns(15_500, 3)].concat()), []);
        assert_eq!(kinds([turns(15_100, 1), turns(16_050, 1)].concat()), [Kind::OverLowered]);
    }

    #[test]
    fn a_lowered_limit_ends_no_open_request_and_lets_none_begin() {
        let open = |from_s: u64, to_s: u64| Open {
            from_us: from_s * WINDOW_US,
            to_us: to_s * WINDOW_US,
            after_freeze: false,
        };
        let kinds = |requests: &[Open]| {
            let mut account = Account::default();
            let narrow = Narrow { limits: limits().into(), requests: requests.into() };
            account_concurrency(&narrow, &mut account);
            account.violations.iter().map(|violation| violation.kind).collect::<Vec<_>>()
        };
        let long = [open(9, 19), open(9, 18), open(9, 18)];
        assert_eq!(kinds(&long), []);
        assert_eq!(kinds(&[&long[..], &[open(14, 16)]].concat()), []);
        assert_eq!(kinds(&[&long[..], &[open(16, 17)]].concat()), [Kind::OverLowered]);
        assert_eq!(kinds(&[open(16, 17), open(17, 18), open(18, 19)]), []);
        assert_eq!(kinds(&[open(30, 31); 9]), [Kind::OverConcurrency]);
    }
}
