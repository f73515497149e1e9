//! What is seen of a fleet, in words for people: ages, quantiles, parts of a whole, breakers, and what operators have stopped.

use toolfleet_core::control::{Control, ControlEntry, Subject, Switch};
use toolfleet_core::fleet::{
    BreakerState, FleetSummary, Histogram, OldSwitches, SWITCHES_WITHIN_MS, WorkerRow,
};
use toolfleet_core::ids::{ServerId, Tenant, WorkerId};
use toolfleet_core::time::{Timestamp, span};

/// The time from `earlier` to `now`.
pub fn age(earlier: Timestamp, now: Timestamp) -> String {
    span(now.ms_since(earlier))
}

/// A quantile of a histogram, in milliseconds; a dash where it counts nothing.
pub fn quantile(histogram: &Histogram, percent: u8) -> String {
    histogram.quantile_us(percent).map_or_else(|| "-".to_owned(), |us| span(us.div_ceil(1_000)))
}

/// A part of a whole in per cent; a dash where the whole is nothing.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = u128::from(part).saturating_mul(1_000) / u128::from(whole);
    if tenths == 0 && part > 0 {
        return "<0.1 %".to_owned();
    }
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// The state of a breaker in a sentence.
pub const fn word(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::HalfOpen => "half-open",
        BreakerState::Open => "open",
    }
}

/// The state of a breaker and how many workers see it so.
pub fn seen_by(state: BreakerState, workers: u64) -> String {
    format!("{} in {workers} worker{}", word(state), if workers == 1 { "" } else { "s" })
}

/// How old what a worker knows of the switches is, and how many of them it cannot read; a dash where it does not say.
pub fn switches_of(row: &WorkerRow) -> String {
    let (Some(age_ms), Some(control)) = (row.switches_age_ms(), row.control) else { return "-".to_owned() };
    match (age_ms > SWITCHES_WITHIN_MS, control.unreadable) {
        (false, 0) => "read".to_owned(),
        (true, 0) => format!("{} old", span(age_ms)),
        (false, unreadable) => format!("{unreadable} unreadable"),
        (true, unreadable) => format!("{} old, {unreadable} unreadable", span(age_ms)),
    }
}

/// Which workers go on with old switches, in a sentence; none where all know what is set.
pub fn old_switches(summary: &FleetSummary) -> Option<String> {
    let count = summary.workers.old_switches;
    if count == 0 {
        return None;
    }
    let of = |(id, old): (&WorkerId, &OldSwitches)| match (old.age_ms > SWITCHES_WITHIN_MS, old.unreadable) {
        (false, unreadable) => format!("{id} cannot read {unreadable}"),
        (true, _) => format!("{id} {}", span(old.age_ms)),
    };
    let mut oldest: Vec<_> = summary.old_switches.iter().collect();
    oldest.sort_by_key(|(id, old)| (std::cmp::Reverse((old.age_ms, old.unreadable)), *id));
    let named: Vec<_> = oldest.into_iter().map(of).collect();
    let workers = if count == 1 { "worker" } else { "workers" };
    Some(format!("old in {count} {workers}, where later ones have no effect: {}", named.join(", ")))
}

/// A pause or a strike, with how long it lasts; none of what stops no calls.
pub fn stop(entry: &ControlEntry, now: Timestamp) -> Option<String> {
    let what = match entry {
        ControlEntry::Pause(switch) => {
            let tenant =
                switch.tenant.as_ref().map_or_else(String::new, |tenant| format!(" for tenant {tenant}"));
            format!("{}{tenant} paused", switch.target)
        }
        ControlEntry::Strike(strike) => format!("digest {} struck", strike.digest),
        ControlEntry::Drain { .. }
        | ControlEntry::Limit { .. }
        | ControlEntry::Weight { .. }
        | ControlEntry::Cancel(_) => return None,
    };
    let (by, why) = entry.by();
    Some(format!("{what} by {by}{}: {why}", lasts(entry, now)))
}

/// How much longer a setting lasts.
pub fn lasts(entry: &ControlEntry, now: Timestamp) -> String {
    entry.until().map_or_else(String::new, |until| format!(", {} more", span(until.ms_since(now))))
}

/// Who paused the whole server, until when, and for which tenants it is paused.
pub fn paused(id: &ServerId, control: &Control, now: Timestamp) -> String {
    let of_server = |switch: &&Switch| {
        let tenant = switch.tenant.clone().or_else(|| Tenant::parse("-").ok());
        tenant.is_some_and(|tenant| {
            switch.target.matches(Subject { server: id, tenant: &tenant, tool: None, digest: None })
        })
    };
    let shown = control.switches.iter().filter(|switch| switch.is_on(now)).filter(of_server).map(|switch| {
        let tenant = switch.tenant.as_ref().map_or_else(String::new, |tenant| format!("for {tenant} "));
        let until = switch.until.map_or_else(String::new, |until| format!(" until {until}"));
        format!("{tenant}by {}{until}", switch.by)
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_nothing_is_a_dash() {
        assert_eq!(percent(0, 0), "-");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!((percent(1, 1_200), percent(0, 1_200)), ("<0.1 %".to_owned(), "0.0 %".to_owned()));
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0 %");
        assert_eq!(quantile(&Histogram::default(), 50), "-");
    }
}
