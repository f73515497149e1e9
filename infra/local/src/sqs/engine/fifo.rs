//! The order within a FIFO queue: which groups are ready, and which messages are duplicates.
//!
//! **Invariant:** a group is ready exactly when none of its messages is in flight and its oldest is visible.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::message::Place;

/// For how long a deduplication id is remembered (SQS: five minutes).
pub(crate) const DEDUPLICATION_MS: u64 = 300_000;

/// Sequence numbers have twenty digits and grow with each message of a queue, as those of SQS do.
const FIRST_SEQUENCE_NUMBER: u128 = 18_800_000_000_000_000_000;

/// The sequence number that a sender and a receiver see.
pub(crate) fn sequence_number(seq: u64) -> String {
    FIRST_SEQUENCE_NUMBER.saturating_add(u128::from(seq).saturating_mul(256)).to_string()
}

/// The message groups of a queue.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    groups: HashMap<String, Group>,
    /// The oldest message of each ready group.
    ready: BTreeMap<u64, String>,
}

#[derive(Debug, Default)]
struct Group {
    messages: BTreeMap<u64, Place>,
    in_flight: usize,
}

impl Group {
    fn ready(&self) -> Option<u64> {
        match self.messages.first_key_value() {
            Some((seq, Place::Visible)) if self.in_flight == 0 => Some(*seq),
            Some(_) | None => None,
        }
    }
}

impl Groups {
    /// Notes where a message of a group is; None if it is gone.
    pub(crate) fn place(&mut self, name: &str, seq: u64, place: Option<Place>) {
        let group = self.groups.entry(name.to_owned()).or_default();
        if let Some(was_ready) = group.ready() {
            self.ready.remove(&was_ready);
        }
        let before = match place {
            Some(place) => group.messages.insert(seq, place),
            None => group.messages.remove(&seq),
        };
        let count = |place: Option<Place>| usize::from(place == Some(Place::InFlight));
        group.in_flight = group.in_flight.saturating_add(count(place)).saturating_sub(count(before));
        if let Some(ready) = group.ready() {
            self.ready.insert(ready, name.to_owned());
        }
        if group.messages.is_empty() {
            self.groups.remove(name);
        }
    }

    /// The next message to hand out: of the group that this very request already takes from, else of the oldest ready group.
    pub(crate) fn next(&self, held: Option<&str>) -> Option<u64> {
        let of_held = held.and_then(|name| self.groups.get(name)).and_then(|group| {
            let waiting = group.messages.iter().find(|(_, place)| **place != Place::InFlight);
            waiting.filter(|(_, place)| **place == Place::Visible).map(|(seq, _)| *seq)
        });
        of_held.or_else(|| self.ready.first_key_value().map(|(seq, _)| *seq))
    }

    pub(crate) fn clear(&mut self) {
        self.groups.clear();
        self.ready.clear();
    }
}

/// What makes two messages the same to a queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct SameAs {
    pub(crate) id: String,
    /// Given if only messages of one group can be the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
}

/// The message that was stored under a deduplication id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Original {
    pub(crate) message_id: String,
    pub(crate) seq: u64,
    pub(crate) sent_ms: u64,
}

/// The deduplication ids of the last five minutes. They outlive their messages.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    originals: HashMap<SameAs, Original>,
    ages: BTreeSet<(u64, SameAs)>,
}

impl Memory {
    pub(crate) fn remember(&mut self, same_as: SameAs, original: Original) {
        if let Some(before) = self.originals.get(&same_as) {
            self.ages.remove(&(before.sent_ms, same_as.clone()));
        }
        self.ages.insert((original.sent_ms, same_as.clone()));
        self.originals.insert(same_as, original);
    }

    pub(crate) fn find(&self, same_as: &SameAs) -> Option<&Original> {
        self.originals.get(same_as)
    }

    pub(crate) fn forget_old(&mut self, now_ms: u64) {
        while let Some((sent_ms, _)) = self.ages.first() {
            if sent_ms.saturating_add(DEDUPLICATION_MS) > now_ms {
                break;
            }
            if let Some((_, same_as)) = self.ages.pop_first() {
                self.originals.remove(&same_as);
            }
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&SameAs, &Original)> {
        self.originals.iter()
    }
}
