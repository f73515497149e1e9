//! Decides when a batcher starts a request for the items that wait, and whether that request waits for more items first.

use super::rules::Rules;

/// With fewer requests in flight an item is sent at once. At this number or more it goes with the next request.
pub(super) const AT_ONCE: usize = 2;

/// What a sender waits for before it takes its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gather {
    /// The items of the callers that are ready now.
    Ready,
    /// More items, until the batch is full or the linger time is over.
    Linger,
}

/// The senders of a batcher.
#[derive(Debug, Default)]
pub(super) struct Senders {
    /// Senders that gather or wait for their reply.
    active: usize,
    /// One of them gathers; items that arrive go with it.
    is_gathering: bool,
}

impl Senders {
    /// Whether another sender is due for the items that wait, and what it waits for. It then counts as active and gathers.
    pub(super) fn due(&mut self, rules: &Rules, is_full: bool, is_behind: bool) -> Option<Gather> {
        if self.is_gathering || self.active >= rules.max_in_flight {
            return None;
        }
        let gather = match self.active {
            0 => Gather::Ready,
            _ if is_behind => Gather::Linger,
            active if active < AT_ONCE || is_full => Gather::Ready,
            _ => return None,
        };
        self.active = self.active.saturating_add(1);
        self.is_gathering = true;
        Some(gather)
    }

    /// Whether no request is in flight, and none is about to be sent.
    pub(super) const fn is_idle(&self) -> bool {
        self.active == 0
    }

    pub(super) const fn is_gathering(&self) -> bool {
        self.is_gathering
    }

    /// The sender that gathered has taken its batch.
    pub(super) const fn sent(&mut self) {
        self.is_gathering = false;
    }

    /// A sender has its reply.
    pub(super) const fn returned(&mut self) {
        self.active = self.active.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULES: Rules = Rules {
        max_items: 25,
        max_bytes: 1_000,
        linger: Duration::from_millis(2),
        max_in_flight: 5,
        idle_items: 25,
    };

    /// So many requests in flight, none of which gathers.
    const fn in_flight(active: usize) -> Senders {
        Senders { active, is_gathering: false }
    }

    #[test]
    fn when_a_sender_is_due_and_what_it_waits_for() {
        let rows = [
            // in flight, full, behind, expected
            (0, false, false, Some(Gather::Ready)),
            (1, false, false, Some(Gather::Ready)),
            (2, false, false, None),
            (4, false, false, None),
            (2, true, false, Some(Gather::Ready)),
            (5, true, false, None),
            (0, false, true, Some(Gather::Ready)),
            (1, false, true, Some(Gather::Linger)),
            (4, true, true, Some(Gather::Linger)),
            (5, true, true, None),
        ];
        for (active, is_full, is_behind, expected) in rows {
            let due = in_flight(active).due(&RULES, is_full, is_behind);
            assert_eq!(due, expected, "{active} in flight, full {is_full}, behind {is_behind}");
        }
    }

    #[test]
    fn one_sender_gathers_at_a_time() {
        let mut senders = Senders::default();
        assert!(senders.due(&RULES, false, false).is_some());
        assert_eq!(senders.due(&RULES, true, true), None);
        senders.sent();
        assert!(senders.due(&RULES, false, false).is_some());
        senders.sent();
        assert_eq!(senders.due(&RULES, false, false), None);
        senders.returned();
        assert!(senders.due(&RULES, false, false).is_some());
    }
}
