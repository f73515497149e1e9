//! Owns the way to a fleet: the options that say where it is, and what the commands do there.
//!
//! **Invariant:** the official SDK alone speaks to AWS, locally as in an account.

use std::time::Duration;

use clap::Args;
use futures::stream::BoxStream;
use toolfleet_client::{
    Aws, AwsError, AwsOptions, Cancelled, Client, QueueDepth, RecordsOf, Sessions, Tables, WaitError,
    system_clock,
};
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::{CallKey, Tenant};
use toolfleet_core::message::CallRequest;
use toolfleet_core::time::Timestamp;

use crate::commands::dev::Environment;
use crate::commands::request::Ready;
use crate::ending::Failure;
use crate::network::variable;

/// Where the fleet is. Region, credentials and endpoints are the SDK's own matter.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct Connect {
    /// The URL of the calls queue (output CallsQueueUrl of data.yaml).
    #[arg(long, global = true, value_name = "URL", env = "TOOLFLEET_QUEUE_URL", hide_env_values = true)]
    queue_url: Option<String>,
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
    /// Whether a catalog may name programs, where that is said.
    pub(crate) fn allow_stdio(&self) -> Result<Option<bool>, Failure> {
        let said = |_: &str| self.allow_stdio.clone();
        toolfleet_config::settings::flag(&said, "TOOLFLEET_ALLOW_STDIO")
            .map_err(|e| Failure::usage(e.to_string()))
    }

    /// The fleet's tables.
    pub(crate) fn tables(&self) -> Tables {
        tables(&self.table_prefix, self.history_shards)
    }

    /// The fleet, as the options and the environment say.
    pub(crate) async fn fleet(&self) -> Result<WorkerContext, Failure> {
        let queue_url = self.queue_url.clone().filter(|url| !url.is_empty()).ok_or_else(not_configured)?;
        let whole = |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.path().len() > 1;
        if !url::Url::parse(&queue_url).is_ok_and(|url| whole(&url)) {
            return Err(Failure::usage(format!(
                "--queue-url: is `{queue_url}`; give the whole URL, not a name, for example \
                 https://sqs.us-east-1.amazonaws.com/123456789012/toolfleet-calls"
            )));
        }
        // As a worker reads it: buckets are asked for by path there.
        let s3_endpoint = variable("AWS_ENDPOINT_URL_S3").filter(|url| !url.is_empty());
        let aws = Aws::connect(AwsOptions { s3_endpoint, ..AwsOptions::default() }).await;
        let mut client = Client::new(&aws, queue_url, &self.tables(), system_clock());
        if let Some(bucket) = self.payload_bucket.as_ref().filter(|bucket| !bucket.is_empty()) {
            client = client.with_payload_bucket(bucket);
        }
        Ok(WorkerContext { client })
    }
}

fn not_configured() -> Failure {
    let mut text = "TOOLFLEET_QUEUE_URL is not set; give it, or --queue-url, the URL of the calls queue (output CallsQueueUrl \
                    of data.yaml). `toolfleet dev` runs a fleet on this machine and prints all that has to be set."
        .to_owned();
    if let Some(environment) = Environment::of_default_ports() {
        text.push_str("\nSomething answers on the port of `toolfleet dev`; to join it:\n");
        text.push_str(&environment.exports());
    }
    Failure::Usage(text)
}

/// The tables of that prefix.
pub(crate) fn tables(prefix: &str, shards: u32) -> Tables {
    let mut tables = Tables::with_prefix(prefix);
    tables.history_shards = shards.max(1);
    tables
}

/// What the commands do at a fleet.
pub(crate) struct WorkerContext {
    client: Client,
}

impl WorkerContext {
    /// The fleet behind that connection.
    pub(crate) fn new(aws: &Aws, queue_url: String, tables: &Tables) -> Self {
        Self { client: Client::new(aws, queue_url, tables, system_clock()) }
    }

    /// Sends a request, byte for byte, or by reference where it is too large; gives the message's id.
    pub(crate) async fn send(&self, ready: &Ready) -> Result<String, Failure> {
        Ok(self.client.send_as(&ready.request, ready.body.clone()).await?)
    }

    /// The row of a call, as it stands now.
    pub(crate) async fn read(&self, key: &CallKey) -> Result<Option<CallRow>, Failure> {
        Ok(self.client.row(key).await?)
    }

    /// The row of a call that was sent by that message once it has ended, or the message's own answer; where the call stands by then if
    /// that takes longer than `within`. `see` is shown the row while the call is open.
    pub(crate) async fn wait(
        &self,
        key: &CallKey,
        message_id: &str,
        within: Duration,
        see: impl FnMut(&CallRow),
    ) -> Result<Option<CallRow>, Failure> {
        match self.client.watch_sent(key, message_id, within, see).await {
            Ok(row) => Ok(Some(row)),
            Err(WaitError::TimeOut { .. }) => Ok(self.client.row_of_sent(key, message_id).await?),
            Err(WaitError::Unreadable(error)) => Err((*error).into()),
            Err(WaitError::Aws(trouble)) => Err(trouble.into()),
        }
    }

    /// CallProgress the caller's wish to cancel.
    pub(crate) async fn cancel(&self, key: &CallKey) -> Result<Cancelled, Failure> {
        Ok(self.client.cancel(key).await?)
    }

    /// All audit records of a tenant between two instants, newest first, in parts of which the newest `most` are read.
    pub(crate) fn record_parts<'a>(
        &'a self,
        tenant: &'a Tenant,
        which: &'a RecordsOf,
        from: Timestamp,
        to: Timestamp,
        most: usize,
    ) -> BoxStream<'a, Result<Vec<AuditRecord>, AwsError>> {
        self.client.record_parts(tenant, which, from, to, most)
    }

    /// Audit records of a tenant, newest first.
    pub(crate) async fn records(
        &self,
        tenant: &Tenant,
        which: &RecordsOf,
        since: Duration,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, Failure> {
        let now = system_clock()().as_ms();
        let from =
            Timestamp::from_ms(now.saturating_sub(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)));
        Ok(self.client.records(tenant, which, from, limit).await?)
    }

    /// What a message was answered by whose id somebody else had used before, once that is on record; looked for in the hours from `sent`
    /// on.
    pub(crate) async fn answer_to_another(
        &self,
        request: &CallRequest,
        sent: Timestamp,
    ) -> Result<Option<AuditRecord>, Failure> {
        let CallKey { tenant, call_id } = &request.key;
        let now = system_clock()();
        let mut hours = vec![sent];
        if now.hour() != sent.hour() {
            hours.push(now);
        }
        let mut newest = None;
        for hour in hours {
            let records = self.client.history().of_call(tenant, call_id, hour).await?;
            // A record's time is the queue's, which may run a little behind.
            let since = Timestamp::from_ms(sent.as_ms().saturating_sub(2_000));
            let own = |record: &AuditRecord| {
                matches!(record.kind, AuditKind::Duplicate | AuditKind::IdempotencyMismatch)
                    && record.at >= since
                    && (&record.session, &record.user, &record.agent)
                        == (&request.session, &request.user, &request.agent)
            };
            newest = records.into_iter().find(own).or(newest);
        }
        Ok(newest)
    }

    /// How much the calls queue holds, and its dead-letter queue where it has one.
    pub(crate) async fn depths(&self) -> Result<Vec<QueueDepth>, Failure> {
        Ok(self.client.depths().await?)
    }

    /// The conversations.
    pub(crate) const fn sessions(&self) -> &Sessions {
        self.client.sessions()
    }
}
