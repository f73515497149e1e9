//! Owns the endpoints of a load: within this process and in memory, or as a process of their own that can be killed.
//!
//! **Invariant:** endpoints that come back are where they were.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use toolfleet_local::{LocalEndpoints, LocalOptions};

use crate::helper::{self, Helper};

/// The queue of calls, and one that stays empty.
const CALLS: &str = "toolfleet-calls";
const QUIET: &str = "toolfleet-replies";

/// Where the endpoints are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) sqs: String,
    pub(crate) dynamodb: String,
    pub(crate) secrets: String,
    pub(crate) calls_queue: String,
    pub(crate) quiet_queue: String,
}

impl Addresses {
    fn of(local: &LocalEndpoints) -> Self {
        Self {
            sqs: local.sqs_url().into(),
            dynamodb: local.dynamodb_url().into(),
            secrets: local.secretsmanager_url().into(),
            calls_queue: local.queue_url(CALLS),
            quiet_queue: local.queue_url(QUIET),
        }
    }
}

/// The running endpoints.
pub(crate) enum Endpoints {
    /// In memory, gone with this value.
    Here { _local: LocalEndpoints },
    /// A process with its data on disk.
    Apart(Apart),
}

impl Endpoints {
    pub(crate) async fn here() -> anyhow::Result<(Self, Addresses)> {
        let local = LocalEndpoints::start(LocalOptions::default()).await?;
        let addresses = Addresses::of(&local);
        Ok((Self::Here { _local: local }, addresses))
    }

    /// A process of its own with its data in that folder.
    pub(crate) fn apart(data: &Path) -> anyhow::Result<(Self, Addresses)> {
        let (helper, addresses) = start(Some(data), [0, 0])?;
        Ok((Self::Apart(Apart { helper, data: data.to_owned(), addresses: addresses.clone() }), addresses))
    }

    /// Kills the process with SIGKILL; what it had is on disk. Endpoints within this process stay.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Here { .. } => Ok(()),
            Self::Apart(apart) => apart.helper.kill(),
        }
    }

    /// Starts them again where they were.
    pub(crate) fn start_again(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Here { .. } => Ok(()),
            Self::Apart(apart) => apart.start_again(),
        }
    }
}

/// A process of endpoints.
pub(crate) struct Apart {
    helper: Helper,
    data: PathBuf,
    addresses: Addresses,
}

impl Apart {
    fn start_again(&mut self) -> anyhow::Result<()> {
        let ports = [port(&self.addresses.sqs)?, port(&self.addresses.dynamodb)?];
        let (helper, addresses) = start(Some(&self.data), ports)?;
        self.helper = helper;
        anyhow::ensure!(addresses == self.addresses, "the endpoints came back elsewhere: {addresses:?}");
        Ok(())
    }
}

fn port(url: &str) -> anyhow::Result<u16> {
    let port = url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    port.with_context(|| format!("{url} names no port"))
}

/// Starts them as a process, with their data in that folder or in memory.
pub(crate) fn start(data: Option<&Path>, [sqs, dynamodb]: [u16; 2]) -> anyhow::Result<(Helper, Addresses)> {
    let (sqs, dynamodb) = (sqs.to_string(), dynamodb.to_string());
    let ports = ["endpoints", "--sqs-port", &sqs, "--dynamodb-port", &dynamodb].map(OsStr::new);
    let data = data.map(|data| [OsStr::new("--data-dir"), data.as_os_str()]);
    Helper::start(&[&ports[..], data.as_ref().map_or(&[], |data| &data[..])].concat())
}

/// Where a process of endpoints keeps its data and listens.
#[derive(Debug, Clone, clap::Args)]
pub struct EndpointsArgs {
    /// The folder of their data; without it they keep it in memory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The port of SQS and Secrets Manager; 0 takes any.
    #[arg(long)]
    sqs_port: u16,
    /// The port of DynamoDB; 0 takes any.
    #[arg(long)]
    dynamodb_port: u16,
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
        ..LocalOptions::default()
    };
    let local = LocalEndpoints::start(options).await?;
    helper::serving(&Addresses::of(&local)).await
}
