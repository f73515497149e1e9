//! One worker of a `toolfleet dev` as a process of its own: `toolfleet dev --serve-as ID`, which only a `dev` starts. It finds the fleet in the
//! variables that `dev` gives to other programs.

use std::path::Path;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::local_fleet::{DRAIN, join, limits};
use crate::exit::{CommandError, Exit};

/// Runs the worker until its `dev` closes stdin.
pub(super) async fn run(id: &str, catalog: &Path, slots: u32) -> Result<Exit, CommandError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| CommandError::Unavailable(e.into()))?;
    let mut worker = Box::pin(join(id, catalog, slots)).await?;
    let mut lines = lines_of_stdin();
    let whole_drain = limits()?.drain;
    let mut told = false;
    loop {
        tokio::select! {
            ended = worker.ended() => {
                return ended.map(|()| Exit::Done).map_err(|error| CommandError::Unavailable(error.into()));
            }
            _ = terminate.recv() => worker.drain_within(whole_drain),
            line = lines.recv(), if !told => {
                let within: Duration = match line {
                    // `dev` ends.
                    Some(Ok(_)) => DRAIN,
                    // A worker less is wanted, or `dev` has died.
                    None | Some(Err(_)) => {
                        told = true;
                        whole_drain
                    }
                };
                worker.drain_within(within);
            }
        }
    }
}

/// The lines of stdin. They are read by a thread of its own: tokio's would keep a process from ending whose worker has ended by itself.
fn lines_of_stdin() -> UnboundedReceiver<std::io::Result<String>> {
    let (sender, lines) = unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
