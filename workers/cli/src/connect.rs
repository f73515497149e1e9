//! Owns the way to a fleet: the options that say where it is, and what the commands do there.
//!
//! **Invariant:** the official SDK alone speaks to AWS, locally as in an account.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use toolfleet_aws::calls::Calls;
use toolfleet_aws::queue::Queue;
use toolfleet_aws::{Aws, AwsOptions, Tables};
use toolfleet_client::{Cancelled, Client, WaitError, system_clock};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::{CallId, CallKey, SessionId, Tenant};
use toolfleet_core::time::Timestamp;

use crate::commands::dev::Environment;
use crate::commands::request::Ready;
use crate::ending::Failure;

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
}

impl Connect {
    /// The fleet's tables.
    pub(crate) fn tables(&self) -> Tables {
        tables(&self.table_prefix, self.history_shards)
    }

    /// The fleet, as the options and the environment say.
    pub(crate) async fn fleet(&self) -> Result<Fleet, Failure> {
        let queue_url = self.queue_url.clone().filter(|url| !url.is_empty()).ok_or_else(not_configured)?;
        if !queue_url.starts_with("http") {
            return Err(Failure::usage(format!(
                "--queue-url: is `{queue_url}`; give the whole URL, not a name"
            )));
        }
        let aws = Aws::connect(AwsOptions::default()).await;
        Ok(Fleet::new(&aws, queue_url, &self.tables()))
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
pub(crate) struct Fleet {
    client: Client,
    calls: Calls,
}

/// Which audit records.
#[derive(Debug, Clone)]
pub(crate) enum RecordsOf {
    /// All of the tenant.
    Everything,
    /// Those of one conversation.
    Session(SessionId),
    /// Those that ended otherwise than succeeded.
    Failures,
    /// Those of one call.
    Call(CallId),
}

/// How much one queue holds.
#[derive(Debug)]
pub(crate) struct QueueDepth {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) dead_letter: bool,
    pub(crate) visible: u64,
    pub(crate) in_flight: u64,
    pub(crate) delayed: u64,
}

impl Fleet {
    /// The fleet behind that connection.
    pub(crate) fn new(aws: &Aws, queue_url: String, tables: &Tables) -> Self {
        Self { client: Client::new(aws, queue_url, tables, system_clock()), calls: aws.calls(tables) }
    }

    /// Sends a request, byte for byte.
    pub(crate) async fn send(&self, ready: &Ready) -> Result<(), Failure> {
        let tenant = ready.request.key.tenant.as_str();
        self.client.send_body(ready.body.clone(), Some(tenant)).await?;
        Ok(())
    }

    /// The row of a call, as it stands now.
    pub(crate) async fn read(&self, key: &CallKey) -> Result<Option<CallRow>, Failure> {
        Ok(self.calls.read(key).await?)
    }

    /// The row of a call once it has ended; where it stands by then if that takes longer than `within`.
    pub(crate) async fn wait(&self, key: &CallKey, within: Duration) -> Result<Option<CallRow>, Failure> {
        match self.client.wait(key, within).await {
            Ok(_) | Err(WaitError::TimeOut { .. }) => self.read(key).await,
            Err(WaitError::Trouble(trouble)) => Err(trouble.into()),
        }
    }

    /// Notes the caller's wish to cancel, or gives the row of a call that had ended before.
    pub(crate) async fn cancel(&self, key: &CallKey) -> Result<Option<CallRow>, Failure> {
        match self.client.cancel(key).await? {
            Cancelled::Noted => Ok(None),
            Cancelled::TooLate => self.read(key).await,
        }
    }

    /// Audit records of a tenant, newest first.
    pub(crate) async fn records(
        &self,
        tenant: &Tenant,
        which: &RecordsOf,
        since: Duration,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, Failure> {
        let to = system_clock()();
        let from = Timestamp::from_ms(
            to.as_ms().saturating_sub(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
        );
        let mut records = match which {
            RecordsOf::Everything => self.client.history().by_hours(tenant, from, to, limit).await?,
            RecordsOf::Failures => self.client.history().failures(tenant, from, to, limit).await?,
            RecordsOf::Session(session) => self.client.history().by_session(tenant, session, limit).await?,
            RecordsOf::Call(call_id) => return self.of_call(tenant, call_id, from, to, limit).await,
        };
        records.retain(|record| record.at >= from);
        Ok(records)
    }

    /// The account of one call, whenever it ended, and what else happened under its id within the span.
    async fn of_call(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        from: Timestamp,
        to: Timestamp,
        limit: usize,
    ) -> Result<Vec<AuditRecord>, Failure> {
        let key = CallKey { tenant: tenant.clone(), call_id: call_id.clone() };
        let ended = self.calls.read(&key).await?.and_then(|row| row.finished).map(|finished| finished.at);
        let mut hours: BTreeMap<String, Timestamp> = ended.into_iter().map(|at| (at.hour(), at)).collect();
        let mut at = from;
        while at < to {
            hours.insert(at.hour(), at);
            at = at.plus_ms(3_600_000);
        }
        hours.insert(to.hour(), to);
        let mut records = Vec::new();
        for at in hours.into_values().rev() {
            records.extend(self.client.history().of_call(tenant, call_id, at).await?);
            if records.len() >= limit {
                break;
            }
        }
        records.truncate(limit);
        Ok(records)
    }

    /// How much the calls queue holds, and its dead-letter queue where it has one.
    pub(crate) async fn depths(&self) -> Result<Vec<QueueDepth>, Failure> {
        let mut depths = vec![depth(self.client.queue(), false).await?];
        if let Some(dead) = self.client.queue().dead_letter_queue().await? {
            depths.push(depth(&dead, true).await?);
        }
        Ok(depths)
    }
}

async fn depth(queue: &Queue, dead_letter: bool) -> Result<QueueDepth, Failure> {
    let depth = queue.depth().await?;
    let url = queue.url().to_owned();
    let name = url.rsplit('/').next().unwrap_or(&url).to_owned();
    Ok(QueueDepth {
        name,
        url,
        dead_letter,
        visible: depth.visible,
        in_flight: depth.in_flight,
        delayed: depth.delayed,
    })
}
