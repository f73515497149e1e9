//! Reads how many messages the queues hold. SQS counts them approximately.

use toolfleet_aws::AwsError;
use toolfleet_aws::queue::{Depth, Queue};

use crate::client::Client;

/// How many messages one queue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDepth {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// Whether it is the dead-letter queue.
    pub dead_letter: bool,
    /// How many messages.
    pub depth: Depth,
}

impl Client {
    /// The depth of the calls queue, and of its dead-letter queue if it has one.
    pub async fn depths(&self) -> Result<Vec<QueueDepth>, AwsError> {
        let mut depths = vec![depth(&self.queue, false).await?];
        if let Some(dead) = self.queue.dead_letter_queue().await? {
            depths.push(depth(&dead, true).await?);
        }
        Ok(depths)
    }
}

async fn depth(queue: &Queue, dead_letter: bool) -> Result<QueueDepth, AwsError> {
    let depth = queue.depth().await?;
    let url = queue.url().to_owned();
    let name = url.rsplit('/').next().unwrap_or(&url).to_owned();
    Ok(QueueDepth { name, url, dead_letter, depth })
}
