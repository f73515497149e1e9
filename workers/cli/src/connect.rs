//! The connection options, and the client of a fleet that the commands use.

use std::time::Duration;

use clap::Args;
use futures::stream::BoxStream;
use toolfleet_client::{
    Aws, AwsError, AwsOptions, Cancelled, Client, Controls, DeadLetters, QueueDepth, Reads, RecordSearch,
    RecordsOf, Sessions, Span, Stats, StatsOf, Tables, WaitError, Why, system_clock,
};
use toolfleet_config::settings::{ConfigError, true_or_false};
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::CallRow;
use toolfleet_core::fleet::{FleetSummary, WorkerRow};
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use crate::commands::request::Ready;
use crate::exit::CommandError;
use crate::network::variable;

/// What is read at most, each time, to find the record of a message.
const READS_OF_REUSED_ID: Reads = Reads { queries: 10, records: 10_000 };

/// Queue and tables of the fleet. Region, credentials and endpoints are read by the AWS SDK.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connect {
    /// The URL of the calls queue (output CallsQueueUrl of data.yaml).
    #[arg(long, global = true, value_name = "URL", env = "TOOLFLEET_QUEUE_URL", hide_env_values = true)]
    queue_url: Option<String>,
    /// The URL of the queue of calls of high priority (output HighCallsQueueUrl of data.yaml).
    #[arg(long, global = true, value_name = "URL", env = "TOOLFLEET_QUEUE_URL_HIGH", hide_env_values = true)]
    queue_url_high: Option<String>,
    /// The URL of the queue of calls of low priority (output LowCallsQueueUrl of data.yaml).
    #[arg(long, global = true, value_name = "URL", env = "TOOLFLEET_QUEUE_URL_LOW", hide_env_values = true)]
    queue_url_low: Option<String>,
    /// The prefix of the tables' names.
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        default_value = "toolfleet",
        env = "TOOLFLEET_TABLE_PREFIX",
        hide_env_values = true
    )]
    table_prefix: String,
    /// Over how many partitions an hour of a tenant's history is spread, as the workers have it.
    #[arg(
        long,
        global = true,
        value_name = "N",
        default_value_t = 1,
        env = "TOOLFLEET_HISTORY_SHARDS",
        hide_env_values = true
    )]
    history_shards: u32,
    /// The bucket of arguments that are too large for a message (output PayloadsBucketName of data.yaml); results need no option.
    #[arg(
        long,
        global = true,
        value_name = "BUCKET",
        env = "TOOLFLEET_PAYLOAD_BUCKET",
        hide_env_values = true
    )]
    payload_bucket: Option<String>,
    /// Whether a catalog may name programs to be started, as the workers have it.
    #[arg(long, global = true, value_name = "true|false", env = "TOOLFLEET_ALLOW_STDIO", hide = true)]
    allow_stdio: Option<String>,
}

impl Connect {
    /// Whether a catalog may name programs, if that is set.
    pub(crate) fn allow_stdio(&self) -> Result<Option<bool>, CommandError> {
        let set = self.allow_stdio.as_deref().filter(|text| !text.trim().is_empty());
        let wrong =
            |problem| CommandError::usage(ConfigError::new("TOOLFLEET_ALLOW_STDIO", problem).to_string());
        set.map(true_or_false).transpose().map_err(wrong)
    }

    /// The fleet's tables.
    pub(crate) fn tables(&self) -> Tables {
        tables(&self.table_prefix, self.history_shards)
    }

    /// A client of the fleet that the options and the environment name.
    pub(crate) async fn client(&self) -> Result<ClientHandle, CommandError> {
        let queue_url = self.queue_url.clone().filter(|url| !url.is_empty()).ok_or_else(not_configured)?;
        let optional = |url: &Option<String>| url.clone().filter(|url| !url.is_empty());
        let (high, low) = (optional(&self.queue_url_high), optional(&self.queue_url_low));
        check_url("--queue-url", &queue_url)?;
        high.iter().try_for_each(|url| check_url("--queue-url-high", url))?;
        low.iter().try_for_each(|url| check_url("--queue-url-low", url))?;
        // As a worker reads it: with path-style addressing.
        let s3_endpoint = variable("AWS_ENDPOINT_URL_S3").filter(|url| !url.is_empty());
        let aws = Aws::connect(AwsOptions { s3_endpoint, ..AwsOptions::default() }).await;
        let mut client = Client::new(&aws, queue_url, &self.tables(), system_clock())
            .with_priority_queues(high.as_deref(), low.as_deref());
        if let Some(bucket) = self.payload_bucket.as_ref().filter(|bucket| !bucket.is_empty()) {
            client = client.with_payload_bucket(bucket);
        }
        Ok(ClientHandle { client })
    }
}

fn check_url(option: &str, given: &str) -> Result<(), CommandError> {
    let whole = |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.path().len() > 1;
    if url::Url::parse(given).is_ok_and(|url| whole(&url)) {
        return Ok(());
    }
    Err(CommandError::usage(format!(
        "{option}: is `{given}`; give the whole URL, not a name, for example \
         https://sqs.us-east-1.amazonaws.com/123456789012/toolfleet-calls"
    )))
}

fn not_configured() -> CommandError {
    CommandError::usage(
        "no fleet is configured: set TOOLFLEET_QUEUE_URL, or give --queue-url, the URL of the calls queue (output CallsQueueUrl of \
         data.yaml), or choose a context with `toolfleet context use`. `toolfleet dev` runs a fleet on this machine, and commands find it \
         by themselves.",
    )
}

/// The tables of that prefix.
pub(crate) fn tables(prefix: &str, shards: u32) -> Tables {
    let mut tables = Tables::with_prefix(prefix);
    tables.history_shards = shards.max(1);
    tables
}

/// The client of the fleet that the commands use.
pub(crate) struct ClientHandle {
    client: Client,
}

impl ClientHandle {
    /// A handle of the fleet with that queue and those tables.
    pub(crate) fn new(aws: &Aws, queue_url: String, tables: &Tables) -> Self {
        Self { client: Client::new(aws, queue_url, tables, system_clock()) }
    }

    /// Sends a request, byte for byte, or by reference where it is too large; returns the message's id.
    pub(crate) async fn send(&self, ready: &Ready) -> Result<String, CommandError> {
        Ok(self.client.send_as(&ready.request, ready.body.clone()).await?)
    }

    /// The row of a call now.
    pub(crate) async fn read(&self, key: &CallKey) -> Result<Option<CallRow>, CommandError> {
        Ok(self.client.row(key).await?)
    }

    /// The row of a call once it has ended, or of the message that was sent for it where that ended by itself; the row of the open call
    /// if that takes longer than `within`. `see` is called with the row while the call is open.
    pub(crate) async fn wait(
        &self,
        key: &CallKey,
        message_id: &str,
        within: Duration,
        see: impl FnMut(&CallRow),
    ) -> Result<Option<CallRow>, CommandError> {
        match self.client.watch_sent(key, message_id, within, see).await {
            Ok(row) => Ok(Some(row)),
            Err(WaitError::TimeOut { .. }) => Ok(self.client.row_of_sent(key, message_id).await?),
            Err(WaitError::Unreadable(error)) => Err((*error).into()),
            Err(WaitError::Aws(error)) => Err(error.into()),
        }
    }

    /// Why a call is not running.
    pub(crate) async fn why(&self, key: &CallKey) -> Result<Why, CommandError> {
        Ok(self.client.why(key).await?)
    }

    /// The dead-letter queue, and the SenderId of messages that this process sends.
    pub(crate) async fn dead_letters(&self) -> Result<DeadLetters, CommandError> {
        let none = || {
            CommandError::usage(
                "the calls queue has no dead-letter queue; deploy infra/cloudformation/data.yaml",
            )
        };
        self.client.dead_letters().await?.ok_or_else(none)
    }

    /// The SenderId that the queue gives to messages of this process.
    pub(crate) async fn sender_id(&self) -> Result<String, CommandError> {
        Ok(self.client.sender_id().await?)
    }

    /// Cancels a call.
    pub(crate) async fn cancel(&self, key: &CallKey) -> Result<Cancelled, CommandError> {
        Ok(self.client.cancel(key).await?)
    }

    /// All audit records of a tenant within a span, newest first, in parts of which the newest `max` are read.
    pub(crate) fn record_parts<'a>(
        &'a self,
        tenant: &'a Tenant,
        which: &'a RecordsOf,
        span: Span,
        max: usize,
    ) -> BoxStream<'a, Result<Vec<AuditRecord>, AwsError>> {
        self.client.record_parts(tenant, which, span, max)
    }

    /// The newest audit records of a tenant, at most `limit`.
    pub(crate) async fn records(
        &self,
        tenant: &Tenant,
        which: &RecordsOf,
        last: Duration,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, CommandError> {
        Ok(self.client.records(tenant, which, self.client.last(last), limit).await?)
    }

    /// The record of a message whose id another caller had used before, once it is stored; it is searched from `since` on, among the newest
    /// records.
    pub(crate) async fn record_of_reused_id(
        &self,
        request: &CallRequest,
        since: Timestamp,
    ) -> Result<Option<AuditRecord>, CommandError> {
        let CallKey { tenant, call_id } = &request.key;
        let search = RecordSearch {
            tenant: tenant.clone(),
            session: None,
            call: Some(call_id.clone()),
            failed: false,
            tool: None,
            // A record has the queue's time, which may be a little behind, or its worker's, which may be ahead.
            span: Span {
                from: Timestamp::from_ms(since.as_ms().saturating_sub(2_000)),
                to: system_clock()().plus_ms(2_000),
            },
        };
        let page = self.client.search_records(&search, None, 100, READS_OF_REUSED_ID).await?;
        let own = |record: &AuditRecord| {
            matches!(record.kind, AuditKind::Duplicate | AuditKind::IdempotencyMismatch)
                && (&record.session, &record.user, &record.agent)
                    == (&request.session, &request.user, &request.agent)
        };
        Ok(page.records.into_iter().find(own))
    }

    /// The depths of the queues of calls and their dead-letter queues.
    pub(crate) async fn depths(&self) -> Result<Vec<QueueDepth>, CommandError> {
        Ok(self.client.depths().await?)
    }

    /// The rows of all workers.
    pub(crate) async fn workers(&self) -> Result<Vec<WorkerRow>, CommandError> {
        Ok(self.client.workers().await?)
    }

    /// The summary of the fleet.
    pub(crate) async fn summary(&self) -> Result<Option<FleetSummary>, CommandError> {
        Ok(self.client.summary().await?)
    }

    /// The calls that ended between two instants, by tool.
    pub(crate) async fn stats(
        &self,
        from: Timestamp,
        to: Timestamp,
        which: &StatsOf,
    ) -> Result<Stats, CommandError> {
        Ok(self.client.stats(from, to, which).await?)
    }

    /// What operators set for the whole fleet.
    pub(crate) fn controls(&self) -> Controls {
        self.client.controls()
    }

    /// The client itself, for verbs that do more with errors than to print them.
    pub(crate) const fn library(&self) -> &Client {
        &self.client
    }

    /// The sessions.
    pub(crate) const fn sessions(&self) -> &Sessions {
        self.client.sessions()
    }
}
