//! The endpoints of a load: in this process and in memory, or in a separate process that can be killed.
//!
//! **Invariant:** endpoints that are started again have the same addresses.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use toolfleet_local::{LocalEndpoints, LocalOptions};

use crate::helper::{self, Helper};

/// The queue of calls.
const CALLS: &str = "toolfleet-calls";
/// The queues of calls of high and of low priority.
const HIGH: &str = "toolfleet-calls-high";
const LOW: &str = "toolfleet-calls-low";
/// A queue that stays empty, for measurements of an idle worker.
const IDLE: &str = "toolfleet-replies";
/// The queue of messages that were received too often.
const DEAD: &str = "toolfleet-calls-dlq";

/// The addresses of the endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) sqs: String,
    pub(crate) dynamodb: String,
    pub(crate) secrets: String,
    pub(crate) calls_queue: String,
    pub(crate) high_queue: String,
    pub(crate) low_queue: String,
    pub(crate) idle_queue: String,
    pub(crate) dead_queue: String,
    pub(crate) bucket: String,
}

impl Addresses {
    fn of(local: &LocalEndpoints) -> Self {
        Self {
            sqs: local.sqs_url().into(),
            dynamodb: local.dynamodb_url().into(),
            secrets: local.secretsmanager_url().into(),
            calls_queue: local.queue_url(CALLS),
            high_queue: local.queue_url(HIGH),
            low_queue: local.queue_url(LOW),
            idle_queue: local.queue_url(IDLE),
            dead_queue: local.queue_url(DEAD),
            bucket: local.template().buckets.first().map_or_else(String::new, |bucket| bucket.name.clone()),
        }
    }
}

impl Addresses {
    /// Checks that restarted endpoints have the same addresses: the workers do not learn others.
    fn check_same(&self, restarted: &Self) -> anyhow::Result<()> {
        anyhow::ensure!(
            restarted == self,
            "the endpoints have other addresses after a restart: {restarted:?}"
        );
        Ok(())
    }
}

/// The running endpoints.
pub(crate) enum Endpoints {
    /// In this process and in memory; dropping this value stops them.
    Embedded { _local: LocalEndpoints },
    /// In a separate process with the data on disk.
    Separate(EndpointProcess),
}

impl Endpoints {
    pub(crate) async fn embedded() -> anyhow::Result<(Self, Addresses)> {
        let local = LocalEndpoints::start(options()).await?;
        let addresses = Addresses::of(&local);
        Ok((Self::Embedded { _local: local }, addresses))
    }

    /// Starts a separate process with its data in that folder.
    pub(crate) fn in_process(data: &Path) -> anyhow::Result<(Self, Addresses)> {
        let (helper, addresses) = start(Some(data), [0, 0])?;
        Ok((
            Self::Separate(EndpointProcess { helper, data: data.to_owned(), addresses: addresses.clone() }),
            addresses,
        ))
    }

    /// Kills the process with SIGKILL. Embedded endpoints are not killed.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Embedded { .. } => Ok(()),
            Self::Separate(process) => process.helper.kill(),
        }
    }

    /// Starts them again on the same ports.
    pub(crate) fn start_again(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Embedded { .. } => Ok(()),
            Self::Separate(process) => process.start_again(),
        }
    }
}

/// A process of endpoints and its data.
pub(crate) struct EndpointProcess {
    helper: Helper,
    data: PathBuf,
    addresses: Addresses,
}

impl EndpointProcess {
    fn start_again(&mut self) -> anyhow::Result<()> {
        let ports = [port(&self.addresses.sqs)?, port(&self.addresses.dynamodb)?];
        let (helper, addresses) = start(Some(&self.data), ports)?;
        self.helper = helper;
        self.addresses.check_same(&addresses)
    }
}

fn port(url: &str) -> anyhow::Result<u16> {
    let port = url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    port.with_context(|| format!("{url} names no port"))
}

/// Starts a process of endpoints with their data in that folder, or in memory.
pub(crate) fn start(data: Option<&Path>, [sqs, dynamodb]: [u16; 2]) -> anyhow::Result<(Helper, Addresses)> {
    let (sqs, dynamodb) = (sqs.to_string(), dynamodb.to_string());
    let ports = ["endpoints", "--sqs-port", &sqs, "--dynamodb-port", &dynamodb].map(OsStr::new);
    let data = data.map(|data| [OsStr::new("--data-dir"), data.as_os_str()]);
    Helper::start(&[&ports[..], data.as_ref().map_or(&[], |data| &data[..])].concat())
}

/// Arguments of a process of endpoints.
#[derive(Debug, Clone, clap::Args)]
pub struct EndpointsArgs {
    /// The folder of the data; without it the data is in memory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The port of SQS and Secrets Manager; 0 takes a free one.
    #[arg(long)]
    sqs_port: u16,
    /// The port of DynamoDB; 0 takes a free one.
    #[arg(long)]
    dynamodb_port: u16,
}

/// Endpoints with the queues of all priorities.
fn options() -> LocalOptions {
    let parameters = [("PriorityQueues".to_owned(), "true".to_owned())].into();
    LocalOptions { parameters, ..LocalOptions::default() }
}

/// Serves until stdin closes.
///
/// # Errors
/// The endpoints cannot start.
pub async fn serve(args: &EndpointsArgs) -> anyhow::Result<bool> {
    let options = LocalOptions {
        sqs_port: args.sqs_port,
        dynamodb_port: args.dynamodb_port,
        data_dir: args.data_dir.clone(),
        ..options()
    };
    let local = LocalEndpoints::start(options).await?;
    helper::serve_until_stdin_closes(&Addresses::of(&local)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarted_endpoints_with_another_address_are_an_error() {
        let addresses = Addresses {
            sqs: "http://127.0.0.1:1".into(),
            dynamodb: "http://127.0.0.1:2".into(),
            secrets: "http://127.0.0.1:1".into(),
            calls_queue: "http://127.0.0.1:1/0/calls".into(),
            high_queue: "http://127.0.0.1:1/0/high".into(),
            low_queue: "http://127.0.0.1:1/0/low".into(),
            idle_queue: "http://127.0.0.1:1/0/idle".into(),
            dead_queue: "http://127.0.0.1:1/0/dead".into(),
            bucket: "payloads".into(),
        };
        assert!(addresses.check_same(&addresses.clone()).is_ok());
        let moved = Addresses { dynamodb: "http://127.0.0.1:3".into(), ..addresses.clone() };
        assert!(addresses.check_same(&moved).unwrap_err().to_string().contains("127.0.0.1:3"));
    }
}
