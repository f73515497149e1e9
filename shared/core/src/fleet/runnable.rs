//! The work of a fleet that runs, or would run if a slot were free. It is what a fleet is scaled by.
//!
//! Work that is paused, limited or otherwise parked is left out: more workers would not do it sooner. What is parked already is delayed, so
//! no queue counts it as visible; delayed messages that only lacked a slot are counted by the worker that delayed them. What is visible and would
//! be parked as soon as it is received is left out by the part of the messages that were parked so within the last minute. A queue that an operator has paused is not counted at all.
//!
//! **Invariant:** a fleet in which every received message was parked has no work that waits.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::call::HeldReason;

/// How long a call has a slot, while none has had one yet, in milliseconds.
const UNKNOWN_SLOT_MS: u64 = 1_000;

/// What a message needs that went back to its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// It had a slot for a while, or failed to for no reason of its own: it is work as others are.
    Work,
    /// It had no slot yet, and starts as soon as there is one.
    Slot,
    /// More workers would not make it start sooner.
    Parked,
}

/// The work that runs or could run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runnable {
    /// Messages that are visible in queues that are not paused, and delayed ones that lacked a slot.
    pub messages: u64,
    /// How long a call has a slot, on average, in milliseconds.
    pub slot_ms: u64,
    /// Slot time that the calls with a slot still need, in milliseconds.
    pub running_ms: u64,
    /// Slot time that these messages need, in milliseconds, without the visible ones that would be parked.
    pub waiting_ms: u64,
    /// Slots that the fleet needs for its work to wait no longer than it may.
    pub wanted_slots: u64,
}

/// What a fleet did in the last minute, and what it has now.
#[derive(Debug, Clone, Copy)]
pub struct LastMinute<'a> {
    /// Messages received.
    pub received: u64,
    /// Messages that went back to their queue, by reason.
    pub held: &'a BTreeMap<String, u64>,
    /// Slot time of all calls, in milliseconds.
    pub slot_ms: u64,
    /// Slots that are taken now.
    pub busy: u64,
    /// Messages that went back for the lack of a slot and are delayed now.
    pub lacking_slot: u64,
}

impl Runnable {
    /// The work of a fleet, with `visible` messages in the queues that are not paused. `before` is what was found last; what
    /// waits may wait for `wait_ms`.
    pub fn of(lately: LastMinute<'_>, visible: u64, before: Option<&Self>, wait_ms: u64) -> Self {
        let LastMinute { received, held, busy, lacking_slot, .. } = lately;
        let parked = sum(held, Needs::Parked).min(received);
        let worked = received.saturating_sub(parked).saturating_sub(sum(held, Needs::Slot));
        let slot_ms = match (lately.slot_ms, worked) {
            (0, _) | (_, 0) => before.map_or(UNKNOWN_SLOT_MS, |before| before.slot_ms),
            (slot_ms, worked) => slot_ms.div_ceil(worked),
        };
        let startable = part(visible, received.saturating_sub(parked), received).saturating_add(lacking_slot);
        let visible_ms = part(visible.saturating_mul(slot_ms), received.saturating_sub(parked), received);
        let waiting_ms = visible_ms.saturating_add(lacking_slot.saturating_mul(slot_ms));
        // A message can use one slot, however long its call takes.
        let more = waiting_ms.div_ceil(wait_ms.max(1)).min(startable);
        Self {
            messages: visible.saturating_add(lacking_slot),
            slot_ms,
            // Some calls with a slot have just begun and others are about to end. Durations of calls vary much, and then the rest of a
            // call is on average as long as a call.
            running_ms: busy.saturating_mul(slot_ms),
            waiting_ms,
            wanted_slots: busy.saturating_add(more),
        }
    }

    /// The work that runs or waits, in seconds, rounded up.
    pub fn seconds(&self) -> u64 {
        self.running_ms.saturating_add(self.waiting_ms).div_ceil(1_000)
    }

    /// The work that waits, in seconds, rounded up.
    pub fn waiting_seconds(&self) -> u64 {
        self.waiting_ms.div_ceil(1_000)
    }
}

/// What a message needs that went back for that reason.
fn needs(reason: &str) -> Needs {
    match HeldReason::from_stored(reason) {
        Some(
            HeldReason::ServerUnreachable
            | HeldReason::ServerFailing
            | HeldReason::ServerPause
            | HeldReason::Credential
            | HeldReason::Paused
            | HeldReason::RateLimit
            | HeldReason::ConcurrencyLimit
            | HeldReason::RetryBudget
            | HeldReason::NotBefore,
        ) => Needs::Parked,
        Some(HeldReason::Share) => Needs::Slot,
        Some(HeldReason::AwsError | HeldReason::BackOff | HeldReason::NoTimeLeft) => Needs::Work,
        None => match reason {
            "group_timer" | "held_elsewhere" | "server_silent" | "waits_for_other" => Needs::Parked,
            "draining" => Needs::Slot,
            _ => Needs::Work,
        },
    }
}

fn sum(held: &BTreeMap<String, u64>, what: Needs) -> u64 {
    let of = held.iter().filter(|(reason, _)| needs(reason) == what);
    of.fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// `whole` times `of` divided by `all`; all of it where there is nothing to divide by.
fn part(whole: u64, of: u64, all: u64) -> u64 {
    if all == 0 {
        return whole;
    }
    u64::try_from((u128::from(whole) * u128::from(of)).div_ceil(u128::from(all))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAIT_MS: u64 = 10_000;

    /// The work of a fleet that received so many messages within a minute.
    fn work(
        (received, busy, slot_ms): (u64, u64, u64),
        held: &[(&str, u64)],
        (visible, lacking_slot): (u64, u64),
        before: Option<&Runnable>,
    ) -> Runnable {
        let held = held.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        let lately = LastMinute { received, held: &held, slot_ms, busy, lacking_slot };
        Runnable::of(lately, visible, before, WAIT_MS)
    }

    #[test]
    fn an_idle_fleet_wants_nothing() {
        let none = work((0, 0, 0), &[], (0, 0), None);
        assert_eq!((none.seconds(), none.wanted_slots), (0, 0));
    }

    #[test]
    fn a_flood_wants_the_slots_that_clear_it_in_time() {
        // Calls of two seconds: 600 had 1,200 s of slots in a minute.
        let flood = work((600, 80, 1_200_000), &[], (1_000, 0), None);
        assert_eq!((flood.slot_ms, flood.waiting_seconds(), flood.seconds()), (2_000, 2_000, 2_160));
        assert_eq!(flood.wanted_slots, 80 + 200);
    }

    #[test]
    fn calls_that_lack_a_slot_are_work_that_waits() {
        // A tenant fills the worker: half of the messages go back and come again.
        let held = [("share", 300)];
        let flood = work((600, 80, 600_000), &held, (1_000, 0), None);
        assert_eq!((flood.slot_ms, flood.waiting_seconds()), (2_000, 2_000));
        let flood = work((600, 80, 600_000), &held, (0, 40), None);
        assert_eq!((flood.messages, flood.waiting_seconds(), flood.wanted_slots), (40, 80, 88));
    }

    #[test]
    fn what_is_parked_again_at_once_is_no_work() {
        for reason in
            ["paused", "rate_limit", "server_failing", "server_silent", "not_before", "waits_for_other"]
        {
            let parked = work((600, 0, 0), &[(reason, 600)], (50_000, 0), None);
            assert_eq!((parked.waiting_ms, parked.wanted_slots), (0, 0), "{reason}");
        }
        // 20 calls a second run under their limit, of 320 that come.
        let limited = work((19_200, 20, 1_200_000), &[("rate_limit", 18_000)], (1_600, 0), None);
        assert_eq!((limited.slot_ms, limited.waiting_seconds()), (1_000, 100), "a sixteenth of them");
    }

    #[test]
    fn long_calls_of_which_none_came_lately_keep_their_mean() {
        let before = Runnable { slot_ms: 600_000, ..Runnable::default() };
        let full = work((0, 80, 4_800_000), &[], (10, 0), Some(&before));
        assert_eq!((full.slot_ms, full.waiting_seconds()), (600_000, 6_000));
        assert_eq!(full.wanted_slots, 90, "ten messages can use ten slots");
        assert_eq!(work((0, 0, 0), &[], (10, 0), None).slot_ms, UNKNOWN_SLOT_MS);
    }

    proptest! {
        #[test]
        fn parking_never_adds_work(received in 1..100_000_u64, parked in 0..100_000_u64, visible in 0..1_000_000_u64) {
            let parked = parked.min(received - 1);
            let slot_ms = (received - parked) * 1_000;
            let some = work((received, 0, slot_ms), &[("paused", parked)], (visible, 0), None);
            let none = work((received, 0, received * 1_000), &[], (visible, 0), None);
            prop_assert!(some.wanted_slots <= visible && none.wanted_slots <= visible);
            prop_assert!(some.waiting_ms <= none.waiting_ms);
            prop_assert_eq!(some.slot_ms, 1_000, "parked messages do not make calls look short");
        }
    }
}
