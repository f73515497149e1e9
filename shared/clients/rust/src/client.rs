//! The client: the queue, the tables and the bucket of one fleet.

use toolfleet_aws::calls::Calls;
use toolfleet_aws::fleet::Fleet;
use toolfleet_aws::history::History;
use toolfleet_aws::payloads::{Payloads, THRESHOLD_BYTES};
use toolfleet_aws::queue::Queue;
use toolfleet_aws::{Aws, AwsOptions, Setup, Tables};
use toolfleet_core::request::Priority;

use crate::clock::{Now, system_clock};
use crate::sessions::Sessions;

/// A connection to a fleet.
#[derive(Clone)]
pub struct Client {
    pub(crate) queue: Queue,
    pub(crate) high: Option<Queue>,
    pub(crate) low: Option<Queue>,
    pub(crate) calls: Calls,
    pub(crate) history: History,
    pub(crate) fleet: Fleet,
    pub(crate) sessions: Sessions,
    pub(crate) payloads: Payloads,
    aws: Aws,
    tables: Tables,
    pub(crate) now: Now,
}

impl Client {
    /// A client of the fleet with that queue and those tables; region, credentials and endpoints are what the AWS SDK finds.
    pub async fn connect(queue_url: impl Into<String>, tables: &Tables) -> Self {
        Self::new(&Aws::connect(AwsOptions::default()).await, queue_url, tables, system_clock())
    }

    /// A client of the fleet with that queue and those tables.
    pub fn new(aws: &Aws, queue_url: impl Into<String>, tables: &Tables, now: Now) -> Self {
        let sessions = Sessions { table: aws.sessions(tables), now: now.clone() };
        Self {
            queue: aws.queue(queue_url),
            high: None,
            low: None,
            calls: aws.calls(tables),
            history: aws.history(tables),
            fleet: aws.fleet(tables),
            sessions,
            payloads: aws.payloads(None, THRESHOLD_BYTES),
            aws: aws.clone(),
            tables: tables.clone(),
            now,
        }
    }

    /// The same client, which sends calls of high and of low priority to those queues. Without the queue of its priority a call is not sent.
    #[must_use]
    pub fn with_priority_queues(self, high: Option<&str>, low: Option<&str>) -> Self {
        let queue = |url: &str| self.aws.queue(url);
        let (high, low) = (high.map(queue), low.map(queue));
        Self { high, low, ..self }
    }

    /// The same client, which stores arguments that are too large for a message in that bucket. Results are read from any bucket.
    #[must_use]
    pub fn with_payload_bucket(self, bucket: impl Into<String>) -> Self {
        Self { payloads: self.aws.payloads(Some(bucket.into()), THRESHOLD_BYTES), ..self }
    }

    /// The bucket of arguments that are too large for a message, if the client has one.
    pub fn payload_bucket(&self) -> Option<&str> {
        self.payloads.bucket()
    }

    /// Whether that bucket exists and answers; nothing is asked where there is none.
    ///
    /// # Errors
    /// S3 refuses or does not answer.
    pub async fn check_payload_bucket(&self) -> Result<(), toolfleet_aws::AwsError> {
        self.payloads.check().await
    }

    /// The names of the fleet's tables.
    pub const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// What reads how tables and the bucket are set up.
    pub fn setup(&self) -> Setup {
        self.aws.setup()
    }

    /// The sessions.
    pub const fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// The audit records.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// The queue of that priority, if the client knows it.
    pub const fn queue_of(&self, priority: Priority) -> Option<&Queue> {
        match priority {
            Priority::High => self.high.as_ref(),
            Priority::Normal => Some(&self.queue),
            Priority::Low => self.low.as_ref(),
        }
    }

    /// The queue at that URL, such as one of notices.
    pub fn queue_at(&self, url: &str) -> Queue {
        self.aws.queue(url)
    }

    /// The SenderId that the queue gives to messages of this process.
    pub async fn sender_id(&self) -> Result<String, toolfleet_aws::AwsError> {
        self.aws.sender_id(&self.queue).await
    }

    /// The default queue of calls.
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }
}
