//! `toolfleet-worker`: reads its environment, starts, and leaves cleanly at SIGTERM.
//!
//! **Invariant:** links no local endpoint; what it talks to is AWS, or whatever stands behind the SDK's endpoint variables.

use std::process::ExitCode;
use std::sync::Arc;

use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_worker::config::WorkerConfig;
use toolfleet_worker::{catalog, shutdown, start};

/// A call allocates and frees many small things on several threads, at which the system's allocator spends a fifth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "toolfleet-worker: executes tool-call requests from an SQS queue on MCP servers.

It takes no arguments; the environment configures it:
  TOOLFLEET_QUEUE_URL            URL of the calls queue (required)
  TOOLFLEET_CATALOG              path of the catalog, secret://NAME or table://KEY (required)
  TOOLFLEET_CATALOG_REFRESH_MS   how often it is looked at again; SIGHUP does at once (30000)
  TOOLFLEET_TENANTS              tenants of a catalog that names none: a,b or * (none)
  TOOLFLEET_TABLE_PREFIX         prefix of the tables' names (toolfleet)
  TOOLFLEET_HISTORY_SHARDS       partitions per tenant and hour of history (1)
  TOOLFLEET_SLOTS                calls at once (64)
  TOOLFLEET_LEASE_MS             how long a claim holds without a heartbeat (30000)
  TOOLFLEET_CLOCK_SKEW_MS        allowed difference between workers' clocks (2000)
  TOOLFLEET_DEFAULT_DEADLINE_MS  deadline of a call that names none (3600000)
  TOOLFLEET_DRAIN_MS             time for running calls after SIGTERM (100000)
  TOOLFLEET_MAX_ANSWER_BYTES     largest answer of a server (16777216)
  TOOLFLEET_WORKER_ID            name in audit records (random)
  TOOLFLEET_LOG                  log filter (info), e.g. warn,toolfleet_worker=debug
and the AWS SDK's own variables: AWS_REGION, AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL_DYNAMODB, ...";

#[tokio::main]
async fn main() -> ExitCode {
    if let Some(argument) = std::env::args().nth(1) {
        if argument == "--version" || argument == "-V" {
            println!("toolfleet-worker {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        let known = argument == "--help" || argument == "-h";
        if known {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        eprintln!("toolfleet-worker takes no argument `{argument}`\n\n{HELP}");
        return ExitCode::from(2);
    }
    let filter = variable("TOOLFLEET_LOG").unwrap_or_else(|| "info".into());
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .init();
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(code = "start_failed", "{error:#}");
            eprintln!("toolfleet-worker cannot start: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let config = WorkerConfig::read(&variable)?;
    let aws = Aws::connect(AwsOptions::default()).await;
    let catalog = start::read_catalog(&config, &aws).await?;
    let fleet = Arc::new(start::fleet(&config, aws, catalog).await?);
    let running = tokio::spawn(start::run(fleet.clone()));
    let watching = tokio::spawn(catalog::watch(fleet.clone(), config.catalog.clone()));
    let signal = shutdown::signal().await?;
    tracing::info!(signal, "the worker drains: it takes nothing new and finishes what runs");
    fleet.shutdown.begin(fleet.limits.drain);
    running.await?;
    watching.await??;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the environment is read here and injected")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
