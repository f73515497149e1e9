//! One worker of a `toolfleet dev` as a process of its own: `toolfleet dev --serve-as ID`, which only a `dev` starts. It finds the fleet in the
//! variables that `dev` gives to other programs.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::signal::unix::{SignalKind, signal};
use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_config::catalog::store_written;
use toolfleet_worker::telemetry::Meters;
use toolfleet_worker::{ServiceOptions, Worker};

use super::local_fleet::{DRAIN, limits, not_started, own_catalog, worker_config};
use crate::exit::{CommandError, Exit};
use crate::network::variable;

/// What a `dev` that ends says to its workers: end within seconds.
pub(super) const STOP: &[u8] = b"stop\n";

/// Runs the worker until its `dev` closes stdin.
pub(super) async fn run(id: &str, catalog: &Path, slots: u32) -> Result<Exit, CommandError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| CommandError::Unavailable(e.into()))?;
    let queue_url = variable("TOOLFLEET_QUEUE_URL").unwrap_or_default();
    let s3_endpoint = variable("AWS_ENDPOINT_URL_S3");
    let aws = Aws::connect(AwsOptions { s3_endpoint, ..AwsOptions::default() }).await;
    let (mut catalog, config) = own_catalog(catalog).await?;
    store_written(&aws.secrets(), &mut catalog).await?;
    let services = ServiceOptions { reload: Some((config.clone(), false)), http: None };
    let config = worker_config(&queue_url, config, id, slots)?;
    let mut worker =
        Worker::start(&config, aws, catalog, Meters::none(), services).await.map_err(not_started)?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let whole_drain = limits()?.drain;
    let mut told = false;
    loop {
        tokio::select! {
            ended = worker.ended() => {
                return ended.map(|()| Exit::Done).map_err(|error| CommandError::Unavailable(error.into()));
            }
            _ = terminate.recv() => worker.drain_within(whole_drain),
            line = lines.next_line(), if !told => {
                let within: Duration = match line {
                    // `dev` ends.
                    Ok(Some(_)) => DRAIN,
                    // A worker less is wanted, or `dev` has died.
                    Ok(None) | Err(_) => {
                        told = true;
                        whole_drain
                    }
                };
                worker.drain_within(within);
            }
        }
    }
}
