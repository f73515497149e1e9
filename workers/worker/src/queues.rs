//! The queues of calls that a worker reads: the default one, and optional ones of high and low priority.

use toolfleet_aws::Aws;
use toolfleet_aws::queue::Queue;
use toolfleet_core::request::Priority;

/// The URLs of the queues of calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueUrls {
    /// The default queue's.
    pub normal: String,
    /// That of the queue of urgent calls, if there is one.
    pub high: Option<String>,
    /// That of the queue of calls that can wait, if there is one.
    pub low: Option<String>,
}

impl QueueUrls {
    /// The default queue alone.
    pub const fn only(normal: String) -> Self {
        Self { normal, high: None, low: None }
    }
}

/// The queues of calls that a worker reads.
#[derive(Debug)]
pub struct Queues {
    normal: Queue,
    high: Option<Queue>,
    low: Option<Queue>,
}

impl Queues {
    /// The queues of those URLs.
    pub(crate) fn new(aws: &Aws, urls: QueueUrls) -> Self {
        let QueueUrls { normal, high, low } = urls;
        let queue = |url| aws.queue(url);
        Self { normal: queue(normal), high: high.map(queue), low: low.map(queue) }
    }

    /// The default queue.
    pub const fn normal(&self) -> &Queue {
        &self.normal
    }

    /// The queue for what is to wait behind no calls: the one of high priority, else the default one.
    pub fn urgent(&self) -> &Queue {
        self.high.as_ref().unwrap_or(&self.normal)
    }

    /// The queue of that priority, if the worker reads one.
    pub const fn of(&self, priority: Priority) -> Option<&Queue> {
        match priority {
            Priority::High => self.high.as_ref(),
            Priority::Normal => Some(&self.normal),
            Priority::Low => self.low.as_ref(),
        }
    }

    /// Every queue that it reads, the most urgent first.
    pub fn all(&self) -> impl Iterator<Item = (Priority, &Queue)> {
        Priority::ALL.into_iter().filter_map(|priority| Some((priority, self.of(priority)?)))
    }

    /// How many queues it reads beside the default one.
    pub(crate) fn optional(&self) -> u32 {
        u32::from(self.high.is_some()) + u32::from(self.low.is_some())
    }
}

/// The setting that names the queue of that priority.
pub const fn variable(priority: Priority) -> &'static str {
    match priority {
        Priority::High => "TOOLFLEET_QUEUE_URL_HIGH",
        Priority::Normal => "TOOLFLEET_QUEUE_URL",
        Priority::Low => "TOOLFLEET_QUEUE_URL_LOW",
    }
}
