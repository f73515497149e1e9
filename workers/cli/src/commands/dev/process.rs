//! One worker of a `toolfleet dev` as a process of its own: `toolfleet dev --serve-as ID`, which only a `dev` starts. It finds the fleet in the
//! variables that `dev` gives to other programs.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::signal::unix::{SignalKind, signal};

use super::local_fleet::{DRAIN, join, limits};
use crate::exit::{CommandError, Exit};

/// Runs the worker until its `dev` closes stdin.
pub(super) async fn run(id: &str, catalog: &Path, slots: u32) -> Result<Exit, CommandError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| CommandError::Unavailable(e.into()))?;
    let mut worker = Box::pin(join(id, catalog, slots)).await?;
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
