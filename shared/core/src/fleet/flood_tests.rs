//! How soon a flood asks for new workers: the fleet, CloudWatch and the alarm of compute.yaml, step by step, by counts and without a clock.

use std::collections::VecDeque;

use serde_json::json;

use super::{FleetSummary, Runnable};

/// The alarm of compute.yaml: its period and how many periods above the threshold; infra/checks compares the period.
const PERIOD_S: usize = 10;
const PERIODS: usize = 2;
const THRESHOLD: u64 = 100;
/// The beat of the summary.
const BEAT_S: usize = 5;
/// What is assumed of AWS: how old the counts of a queue are, and how long a line of the log takes to become a metric.
const COUNTS_OLD_S: usize = 3;
const LINE_TAKES_S: usize = 20;
/// `TOOLFLEET_SCALE_WAIT_MS`.
const WAIT_MS: u64 = 10_000;
/// Slots of two workers.
const SLOTS: usize = 160;
const WARM_S: usize = 120;

/// A queue and its fleet, second by second.
struct Fleet {
    call_s: usize,
    visible: usize,
    running: VecDeque<usize>,
    parked_at_once: bool,
    /// Of each second: messages received, parked, and slots held.
    seconds: VecDeque<(u64, u64, u64)>,
    visible_before: VecDeque<usize>,
    last: Option<Runnable>,
}

impl Fleet {
    fn step(&mut self, now: usize, arrive: usize) {
        self.visible += arrive;
        self.running.retain(|end| *end > now);
        let (mut received, mut parked) = (0, 0);
        if self.parked_at_once {
            // Workers receive some hundreds a second and delay them.
            parked = self.visible.min(300);
            received = parked;
            self.visible -= parked;
        }
        while !self.parked_at_once && self.running.len() < SLOTS && self.visible > 0 {
            self.visible -= 1;
            received += 1;
            self.running.push_back(now + self.call_s);
        }
        let of = |n: usize| u64::try_from(n).unwrap();
        self.seconds.push_back((of(received), of(parked), of(self.running.len())));
        self.visible_before.push_back(self.visible);
        if self.seconds.len() > 60 {
            self.seconds.pop_front();
            self.visible_before.pop_front();
        }
    }

    /// Wanted slots in percent of those that there are, as the aggregator finds them.
    fn load(&mut self) -> u64 {
        let sum = |of: fn(&(u64, u64, u64)) -> u64| self.seconds.iter().map(of).sum::<u64>();
        let summary: FleetSummary = serde_json::from_value(json!({
            "at": "2026-11-30T00:00:00Z", "by": "w-1", "beat_ms": 5000,
            "workers": {"alive": 2, "slots": SLOTS, "busy": self.running.len()},
            "received_a_minute": sum(|s| s.0), "held_a_minute": {"paused": sum(|s| s.1)},
            "slot_ms_a_minute": {"acme": sum(|s| s.2) * 1_000},
        }))
        .unwrap();
        let counted = self.visible_before.iter().rev().nth(COUNTS_OLD_S).copied().unwrap_or(0);
        let runnable = summary.work(u64::try_from(counted).unwrap(), self.last.as_ref(), WAIT_MS);
        self.last = Some(runnable);
        runnable.wanted_slots * 100 / u64::try_from(SLOTS).unwrap()
    }
}

/// After how many seconds a flood of `messages` asks for workers, if it does within two minutes. It begins `phase` seconds after a beat and
/// a period of the alarm have begun.
fn asks_after(messages: usize, call_s: usize, phase: usize, parked_at_once: bool) -> Option<usize> {
    let mut fleet = Fleet {
        call_s,
        visible: 0,
        running: VecDeque::new(),
        parked_at_once: false,
        seconds: VecDeque::new(),
        visible_before: VecDeque::new(),
        last: None,
    };
    let begins = WARM_S + phase;
    // When each value is there, the period it belongs to, the value.
    let mut values: Vec<(usize, usize, u64)> = Vec::new();
    for now in 0..begins + 120 {
        fleet.parked_at_once = parked_at_once && now >= begins;
        // A call in ten seconds before the flood.
        let before = usize::from(now < begins && now % 10 == 0);
        fleet.step(now, if now == begins { messages } else { before });
        if now % BEAT_S == 0 {
            values.push((now + LINE_TAKES_S, now / PERIOD_S, fleet.load()));
        }
        if now % PERIOD_S == 0 && now > begins {
            let of = |period: usize| {
                let known = values.iter().filter(|(there, of, _)| *there <= now && *of == period);
                let loads: Vec<_> = known.map(|(.., load)| *load).collect();
                (!loads.is_empty()).then(|| loads.iter().sum::<u64>() / loads.len() as u64)
            };
            let newest = (0..now / PERIOD_S).rev().filter_map(of).take(PERIODS);
            if newest.collect::<Vec<_>>().iter().filter(|load| **load > THRESHOLD).count() == PERIODS {
                return Some(now - begins);
            }
        }
    }
    None
}

#[test]
fn a_flood_asks_for_workers_within_a_minute() {
    let mut slowest = 0;
    for call_s in [1, 2, 10, 60, 600] {
        for phase in 0..PERIOD_S {
            // As many calls as keep all slots busy for half a minute, or twice as many as there are slots.
            let messages = (SLOTS * 30 / call_s).max(2 * SLOTS) + SLOTS;
            let after = asks_after(messages, call_s, phase, false);
            let after = after.unwrap_or_else(|| panic!("{messages} calls of {call_s} s ask for nobody"));
            assert!(after <= 60, "{messages} calls of {call_s} s ask after {after} s");
            slowest = slowest.max(after);
        }
    }
    assert!(slowest > LINE_TAKES_S, "{slowest} s: the simulation leaves out what AWS takes");
    println!("the slowest asks after {slowest} s");
}

#[test]
fn a_flood_that_is_parked_asks_for_nobody() {
    for phase in 0..PERIOD_S {
        assert_eq!(asks_after(20_000, 2, phase, true), None, "phase {phase}");
    }
}

#[test]
fn work_that_is_done_in_time_asks_for_nobody() {
    for phase in 0..PERIOD_S {
        assert_eq!(asks_after(SLOTS / 2, 2, phase, false), None, "phase {phase}");
    }
}
