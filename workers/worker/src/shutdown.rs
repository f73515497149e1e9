//! The end of a worker, in two signals: it drains (nothing new starts, running calls finish), then it is over (running calls are
//! requeued).
//!
//! **Invariant:** `draining` comes before `over`, and neither is ever reset.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// A service of the worker failed too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the worker's {0} has ended by a defect, so the worker has left; its platform should start another (see the log)"
)]
pub struct ServiceFailed(pub &'static str);

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

    /// The end of a part of the worker's work: it comes with the worker's end, or before it.
    #[must_use]
    pub fn child(&self) -> Self {
        let (draining, over) = (self.draining.child_token(), self.over.child_token());
        Self { draining, over, failed: Arc::clone(&self.failed) }
    }

    /// Stops what runs too, now.
    pub fn end(&self) {
        self.draining.cancel();
        self.over.cancel();
    }

    /// Stops intake now, and what still runs after `drain`. Of several ends, the earliest holds.
    pub fn begin(&self, drain: Duration) {
        self.draining.cancel();
        let over = self.over.clone();
        tokio::spawn(async move {
            tokio::time::sleep(drain).await;
            over.cancel();
        });
    }

    /// The same because a service failed too often; the process then exits with that error.
    pub fn fail(&self, failed: ServiceFailed, drain: Duration) {
        // The first failure is the cause.
        let _later = self.failed.set(failed);
        self.begin(drain);
    }

    /// The service that failed too often, if one did.
    pub fn failed(&self) -> Option<ServiceFailed> {
        self.failed.get().copied()
    }

    /// Whether nothing new may start.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Waits until nothing new may start.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Waits until running calls must be requeued.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }
}

/// Waits for SIGTERM or SIGINT.
pub async fn signal() -> std::io::Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
