//! Owns the endpoints of a load: within this process and in memory, or as a process of their own that can be killed.
//!
//! **Invariant:** a process of endpoints ends with the one that started it, whatever ends that: its stdin closes.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use toolfleet_local::{LocalEndpoints, LocalOptions};

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
        let (child, addresses) = start(data, [0, 0])?;
        Ok((Self::Apart(Apart { child, data: data.to_owned(), addresses: addresses.clone() }), addresses))
    }

    /// Kills the process with SIGKILL; what it had is on disk. Endpoints within this process stay.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Here { .. } => Ok(()),
            Self::Apart(apart) => apart.kill(),
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
    child: Child,
    data: PathBuf,
    addresses: Addresses,
}

impl Apart {
    fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn start_again(&mut self) -> anyhow::Result<()> {
        let ports = [port(&self.addresses.sqs)?, port(&self.addresses.dynamodb)?];
        let (child, addresses) = start(&self.data, ports)?;
        self.child = child;
        anyhow::ensure!(addresses == self.addresses, "the endpoints came back elsewhere: {addresses:?}");
        Ok(())
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        // One that has ended already needs no kill.
        let _ended = self.kill();
    }
}

fn port(url: &str) -> anyhow::Result<u16> {
    let port = url.trim_end_matches('/').rsplit(':').next().and_then(|port| port.parse().ok());
    port.with_context(|| format!("{url} names no port"))
}

fn start(data: &Path, [sqs, dynamodb]: [u16; 2]) -> anyhow::Result<(Child, Addresses)> {
    let ours = std::env::current_exe().context("this program does not know where it is")?;
    let mut child = Command::new(ours)
        .arg("endpoints")
        .arg("--data-dir")
        .arg(data)
        .args(["--sqs-port", &sqs.to_string(), "--dynamodb-port", &dynamodb.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the endpoints")?;
    let mut said = String::new();
    let out = child.stdout.take().context("the endpoints have no stdout")?;
    BufReader::new(out).read_line(&mut said)?;
    match serde_json::from_str(&said) {
        Ok(addresses) => Ok((child, addresses)),
        Err(_) => {
            // It has said on stderr why.
            let status = child.wait()?;
            anyhow::bail!("the endpoints did not start: {status}")
        }
    }
}

/// Where a process of endpoints keeps its data and listens.
#[derive(Debug, Clone, clap::Args)]
pub struct EndpointsArgs {
    /// The folder of their data.
    #[arg(long)]
    data_dir: PathBuf,
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
        data_dir: Some(args.data_dir.clone()),
        ..LocalOptions::default()
    };
    let local = LocalEndpoints::start(options).await?;
    println!("{}", serde_json::to_string(&Addresses::of(&local))?);
    // Whatever comes: only the end counts.
    let _end = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
    Ok(true)
}
