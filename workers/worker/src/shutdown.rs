//! Owns the end of a worker: stop receiving, give back what has not started, finish what runs, then leave.
//!
//! **Invariant:** `draining` comes before `over`, and neither is ever taken back.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::services::ServiceFailed;

/// The two signals of a worker's end.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    over: CancellationToken,
    failed: Arc<OnceLock<ServiceFailed>>,
}

impl Shutdown {
    /// A worker that runs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops intake now, and what still runs after `drain`.
    pub fn begin(&self, drain: Duration) {
        if self.draining.is_cancelled() {
            return;
        }
        self.draining.cancel();
        let over = self.over.clone();
        tokio::spawn(async move {
            tokio::time::sleep(drain).await;
            over.cancel();
        });
    }

    /// The same because a service has ended by a defect: the process shall say so when it leaves.
    pub fn fail(&self, failed: ServiceFailed, drain: Duration) {
        // The first one is the cause.
        let _later = self.failed.set(failed);
        self.begin(drain);
    }

    /// The service that ended by a defect, if one did.
    pub fn failed(&self) -> Option<ServiceFailed> {
        self.failed.get().copied()
    }

    /// Whether nothing new may start.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Ends when nothing new may start.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Ends when what runs must be given back.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

/// Ends at SIGTERM or SIGINT.
pub async fn signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
