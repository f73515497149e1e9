//! The workers of a `toolfleet dev` on this machine.

use std::path::Path;

use super::figures::Figures;
use crate::commands::dev::scaling::{Asked, MOST_WORKERS, Told, ask};
use crate::exit::CommandError;

/// The workers that run.
pub(super) async fn read(socket: &Path) -> Result<Figures, CommandError> {
    send(socket, None).await.map(|told| figures(&told))
}

/// Runs so many workers from now on.
pub(super) async fn set(socket: &Path, count: u64) -> Result<Figures, CommandError> {
    send(socket, Some(count)).await.map(|told| figures(&told))
}

/// Whether one machine runs so many.
pub(super) fn check(count: u64) -> Result<u64, CommandError> {
    if count <= MOST_WORKERS {
        return Ok(count);
    }
    Err(CommandError::usage(format!(
        "COUNT: is {count}; `toolfleet dev` runs {MOST_WORKERS} workers at most"
    )))
}

async fn send(socket: &Path, workers: Option<u64>) -> Result<Told, CommandError> {
    ask(socket, Asked { workers }).await.map_err(|error| {
        CommandError::Unavailable(anyhow::anyhow!(
            "the `toolfleet dev` behind {} does not answer ({error}); it has ended, or another one runs: use a new shell, or paste what it prints",
            socket.display()
        ))
    })
}

fn figures(told: &Told) -> Figures {
    let count = |draining| {
        let workers = told.workers.iter().filter(|worker| worker.draining == draining);
        u64::try_from(workers.count()).unwrap_or(u64::MAX)
    };
    Figures {
        desired: told.desired,
        running: count(false),
        draining: Some(count(true)),
        ..Figures::default()
    }
}
