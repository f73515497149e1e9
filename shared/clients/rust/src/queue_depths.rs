//! Reads how many messages the queues hold. SQS counts them approximately.

use toolfleet_aws::AwsError;
use toolfleet_aws::queue::{Depth, Queue};
use toolfleet_core::request::Priority;

use crate::client::Client;

/// How many messages one queue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDepth {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// The priority of its calls; `None` for a dead-letter queue.
    pub priority: Option<Priority>,
    /// Whether it is a dead-letter queue.
    pub dead_letter: bool,
    /// How many messages.
    pub depth: Depth,
}

impl Client {
    /// The depths of the queues of calls, the default one first, and of their dead-letter queues.
    pub async fn depths(&self) -> Result<Vec<QueueDepth>, AwsError> {
        let (mut depths, mut dead) = (Vec::new(), Vec::<QueueDepth>::new());
        for priority in [Priority::Normal, Priority::High, Priority::Low] {
            let Some(queue) = self.queue_of(priority) else { continue };
            depths.push(depth(queue, Some(priority)).await?);
            if let Some(letters) = queue.dead_letter_queue().await?
                && dead.iter().all(|known| known.url != letters.url())
            {
                dead.push(depth(&letters, None).await?);
            }
        }
        depths.extend(dead);
        Ok(depths)
    }
}

async fn depth(queue: &Queue, priority: Option<Priority>) -> Result<QueueDepth, AwsError> {
    let depth = queue.depth().await?;
    let url = queue.url().to_owned();
    let name = url.rsplit('/').next().unwrap_or(&url).to_owned();
    Ok(QueueDepth { name, url, priority, dead_letter: priority.is_none(), depth })
}
