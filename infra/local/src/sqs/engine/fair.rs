//! The order within a standard queue: fair queues, as AWS documents them ("How Amazon SQS fair queues work").
//!
//! A message's `MessageGroupId` names its tenant; a message without one is a tenant of its own. A group is noisy while it has more than a
//! tenth of the messages in flight and at least thirty of them, or while it used more than a tenth of the recent processing time. The
//! messages of groups that are not noisy are handed out first. Among noisy groups, the one with the fewest messages in flight is first. A
//! group is quiet again when none of its messages is visible, or when nobody has sent one for five minutes. Nothing is throttled.
//!
//! AWS calls its thresholds approximate; here they are exact. Processing time counts when a message leaves flight.
//!
//! **Invariant:** `heads` has each visible message without a group, and of each group with visible messages the first one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::message::Place;

/// A group with fewer messages in flight is not noisy by their number.
const LEAST_IN_FLIGHT: usize = 30;
/// A group is noisy when it has more than one in so many messages in flight, or of the processing time.
const ONE_IN: u64 = 10;
/// Recent processing time is that of the current window and the one before, each of this length.
const WINDOW_MS: u64 = 60_000;
/// A group for which nobody has sent a message for so long is quiet.
const NO_SEND_MS: u64 = 300_000;

/// When a message became visible, and its number: the order of a queue without noisy groups.
type Since = (u64, u64);
type Name = Arc<str>;

/// The order of a standard queue. All operations are logarithmic: at most nine groups have more than a tenth of anything.
#[derive(Debug, Default)]
pub(crate) struct Fair {
    groups: HashMap<Name, Group>,
    heads: BTreeMap<Since, Option<Name>>,
    by_in_flight: BTreeSet<(usize, Name)>,
    by_processing: BTreeSet<(u64, Name)>,
    in_flight: usize,
    processing: Recent,
    window: u64,
}

#[derive(Debug, Default)]
struct Group {
    visible: BTreeSet<Since>,
    in_flight: usize,
    processing: Recent,
    last_sent_ms: u64,
}

/// Milliseconds of processing in the current window and the one before.
#[derive(Debug, Default, Clone, Copy)]
struct Recent {
    current_ms: u64,
    before_ms: u64,
}

impl Recent {
    const fn sum(self) -> u64 {
        self.current_ms.saturating_add(self.before_ms)
    }

    /// The same when `windows` more have begun.
    const fn after(self, windows: u64) -> Self {
        match windows {
            0 => self,
            1 => Self { current_ms: 0, before_ms: self.current_ms },
            _ => Self { current_ms: 0, before_ms: 0 },
        }
    }
}

impl Fair {
    /// Notes that somebody has sent a message of a group.
    pub(crate) fn sent(&mut self, group: Option<&str>, sent_ms: u64) {
        if let Some(name) = group {
            self.changed(name, |group| group.last_sent_ms = group.last_sent_ms.max(sent_ms));
        }
    }

    /// Notes that a message went from one place to another; none where it was not yet, or is no longer, in the queue.
    pub(crate) fn moved(
        &mut self,
        group: Option<&str>,
        seq: u64,
        from: Option<(Place, u64)>,
        to: Option<(Place, u64)>,
    ) {
        let visible = |place: Option<(Place, u64)>| match place {
            Some((Place::Visible, due_ms)) => Some((due_ms, seq)),
            Some((Place::Delayed | Place::InFlight, _)) | None => None,
        };
        let flies = |place: Option<(Place, u64)>| matches!(place, Some((Place::InFlight, _)));
        let (from_visible, to_visible) = (visible(from), visible(to));
        self.in_flight = self.in_flight.saturating_add(usize::from(flies(to)));
        self.in_flight = self.in_flight.saturating_sub(usize::from(flies(from)));
        let Some(name) = group else {
            if let Some(since) = from_visible {
                self.heads.remove(&since);
            }
            if let Some(since) = to_visible {
                self.heads.insert(since, None);
            }
            return;
        };
        self.changed(name, |group| {
            group.in_flight = group.in_flight.saturating_add(usize::from(flies(to)));
            group.in_flight = group.in_flight.saturating_sub(usize::from(flies(from)));
            if let Some(since) = from_visible {
                group.visible.remove(&since);
            }
            if let Some(since) = to_visible {
                group.visible.insert(since);
            }
        });
    }

    /// Adds the time for which a message of a group was in flight.
    pub(crate) fn processed(&mut self, group: Option<&str>, spent_ms: u64, now_ms: u64) {
        self.begin_window(now_ms);
        self.processing.current_ms = self.processing.current_ms.saturating_add(spent_ms);
        if let Some(name) = group {
            self.changed(name, |group| {
                // Without a backlog it is quiet, and what it used until then does not count against it later.
                if group.visible.is_empty() {
                    group.processing = Recent::default();
                } else {
                    group.processing.current_ms = group.processing.current_ms.saturating_add(spent_ms);
                }
            });
        }
    }

    /// The message to hand out next.
    pub(crate) fn next(&self, now_ms: u64) -> Option<u64> {
        let noisy = self.noisy(now_ms);
        let is_noisy = |name: &Option<Name>| name.as_ref().is_some_and(|name| noisy.contains_key(name));
        let quiet = self.heads.iter().find(|(_, name)| !is_noisy(name)).map(|((_, seq), _)| *seq);
        quiet.or_else(|| {
            let waiting = noisy.values().filter_map(|group| Some((group.in_flight, *group.visible.first()?)));
            waiting.min().map(|(_, (_, seq))| seq)
        })
    }

    /// The groups that are noisy now and have visible messages: at most nine by each measure.
    fn noisy(&self, now_ms: u64) -> HashMap<&Name, &Group> {
        let above = |part: u64, whole: u64| part.saturating_mul(ONE_IN) > whole;
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let by_number = self.by_in_flight.iter().rev().take_while(|(in_flight, _)| {
            *in_flight >= LEAST_IN_FLIGHT && above(wide(*in_flight), wide(self.in_flight))
        });
        let whole = self.processing.sum();
        let by_time = self.by_processing.iter().rev().take_while(|(spent_ms, _)| above(*spent_ms, whole));
        let names = by_number.map(|(_, name)| name).chain(by_time.map(|(_, name)| name));
        let of = |name| self.groups.get_key_value(name);
        let deprioritised = |group: &Group| {
            !group.visible.is_empty() && now_ms < group.last_sent_ms.saturating_add(NO_SEND_MS)
        };
        names.filter_map(of).filter(|(_, group)| deprioritised(group)).collect()
    }

    #[cfg(test)]
    pub(crate) fn noisy_count(&self, now_ms: u64) -> usize {
        self.noisy(now_ms).len()
    }

    /// Moves the measure of processing time on. Linear in the groups, once a minute.
    pub(crate) fn begin_window(&mut self, now_ms: u64) {
        let window = now_ms / WINDOW_MS;
        let windows = window.saturating_sub(self.window);
        if windows == 0 {
            return;
        }
        self.window = window;
        self.processing = self.processing.after(windows);
        self.by_processing.clear();
        for (name, group) in &mut self.groups {
            group.processing = group.processing.after(windows);
            let spent_ms = group.processing.sum();
            if spent_ms > 0 {
                self.by_processing.insert((spent_ms, Arc::clone(name)));
            }
        }
        self.groups.retain(|_, group| !group.is_empty(now_ms));
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { window: self.window, ..Self::default() };
    }

    /// Changes a group and files it anew.
    fn changed(&mut self, name: &str, change: impl FnOnce(&mut Group)) {
        let (name, mut group) =
            self.groups.remove_entry(name).unwrap_or_else(|| (Name::from(name), Group::default()));
        let (head, in_flight, spent_ms) =
            (group.visible.first().copied(), group.in_flight, group.processing.sum());
        change(&mut group);
        if group.visible.first() != head.as_ref() {
            if let Some(head) = head {
                self.heads.remove(&head);
            }
            if let Some(head) = group.visible.first() {
                self.heads.insert(*head, Some(Arc::clone(&name)));
            }
        }
        if group.in_flight != in_flight {
            self.by_in_flight.remove(&(in_flight, Arc::clone(&name)));
            if group.in_flight > 0 {
                self.by_in_flight.insert((group.in_flight, Arc::clone(&name)));
            }
        }
        if group.processing.sum() != spent_ms {
            self.by_processing.remove(&(spent_ms, Arc::clone(&name)));
            if group.processing.sum() > 0 {
                self.by_processing.insert((group.processing.sum(), Arc::clone(&name)));
            }
        }
        self.groups.insert(name, group);
    }
}

impl Group {
    /// Whether nothing is lost if it is forgotten.
    fn is_empty(&self, now_ms: u64) -> bool {
        self.visible.is_empty()
            && self.in_flight == 0
            && self.processing.sum() == 0
            && now_ms >= self.last_sent_ms.saturating_add(NO_SEND_MS)
    }
}
