//! By when workers had come to what was sent to a queue at a time. On a machine that cannot keep up, that is later than the sending.
//!
//! **Invariant:** pure. Times are microseconds on the servers' clock.

use std::collections::BTreeMap;

use toolfleet_core::request::Priority;

/// When calls of each queue were sent and came to their servers.
#[derive(Debug, Default)]
pub(crate) struct Served(BTreeMap<Priority, Queue>);

/// One queue.
#[derive(Debug, Default)]
struct Queue {
    /// When each call was sent, sorted, and when the first came to its server of those that were sent no earlier.
    starts: Vec<(u64, u64)>,
    /// When the last of all came to its server.
    last_us: u64,
}

impl Served {
    /// Of calls that wait for nothing when they are sent: the priority, when each was sent, and when it came to its server.
    pub(crate) fn new(calls: impl Iterator<Item = (Priority, u64, u64)>) -> Self {
        let mut queues: BTreeMap<Priority, Queue> = BTreeMap::new();
        for (priority, sent_us, start_us) in calls {
            let queue = queues.entry(priority).or_default();
            queue.starts.push((sent_us, start_us));
            queue.last_us = queue.last_us.max(start_us);
        }
        for queue in queues.values_mut() {
            queue.starts.sort_unstable();
            let mut first_us = u64::MAX;
            for (_, start_us) in queue.starts.iter_mut().rev() {
                first_us = first_us.min(*start_us);
                *start_us = first_us;
            }
        }
        Self(queues)
    }

    /// By when workers had about come to what was sent to that queue by then: they had come to something that was sent later, or to all.
    pub(crate) fn by(&self, priority: Priority, sent_us: u64) -> u64 {
        let Some(queue) = self.0.get(&priority) else { return sent_us };
        let later = queue.starts.get(queue.starts.partition_point(|(sent, _)| *sent < sent_us));
        later.map_or(queue.last_us, |(_, first_us)| *first_us).max(sent_us)
    }

    /// The longest time until workers had come to what was sent: how far they were behind.
    pub(crate) fn longest_us(&self) -> u64 {
        let starts = self.0.values().flat_map(|queue| &queue.starts);
        starts.map(|(sent_us, first_us)| first_us.saturating_sub(*sent_us)).max().unwrap_or(0)
    }

    /// The same as `by`, whichever queue it was sent to.
    pub(crate) fn by_all(&self, sent_us: u64) -> u64 {
        let all = Priority::ALL.into_iter().map(|priority| self.by(priority, sent_us));
        all.max().unwrap_or(sent_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_was_read_up_to_what_was_sent_later_and_has_come_to_its_server() {
        let (normal, low) = (Priority::Normal, Priority::Low);
        let calls = [(normal, 10, 12), (normal, 20, 90), (normal, 30, 50), (normal, 40, 60), (low, 10, 200)];
        let served = Served::new(calls.into_iter());
        let by = [5, 10, 11, 20, 31].map(|sent| served.by(normal, sent));
        assert_eq!(by, [12, 12, 50, 50, 60]);
        assert_eq!(
            [41, 95].map(|sent| served.by(normal, sent)),
            [90, 95],
            "all had come to their servers by then"
        );
        assert_eq!((served.by(Priority::High, 7), served.by_all(7)), (7, 200));
        assert_eq!((served.longest_us(), Served::default().longest_us()), (190, 0));
    }
}
