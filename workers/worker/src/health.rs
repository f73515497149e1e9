//! Owns what a worker answers to those who watch it: whether it lives, whether it is ready, its metrics.
//!
//! `/health/live` fails when the flow of messages stands still though slots are free: restart the worker. `/health/ready` fails
//! until it has received once, while queue or network are away, and from the moment it drains: send nobody, restart nothing.
//!
//! **Invariant:** an answer costs no request to AWS or to a server, and says nothing of any call.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::context::WorkerContext;

/// After so long without a receive that was answered, a worker with free slots is not ready: three long polls.
const READY_FOR: Duration = Duration::from_secs(60);
/// After so long without any turn of the intake, it does not live.
const LIVE_FOR: Duration = Duration::from_secs(180);
/// How long [`ask`] waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// When the intake was last seen to work.
#[derive(Debug)]
pub struct IntakeHealth {
    begun: Instant,
    turned_ms: AtomicU64,
    /// 0: never.
    received_ms: AtomicU64,
    /// Receivers that wait for a free slot.
    waiting: AtomicU32,
}

impl Default for IntakeHealth {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            turned_ms: AtomicU64::new(0),
            received_ms: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
        }
    }
}

/// Held while a receiver waits for a free slot.
pub(crate) struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl IntakeHealth {
    /// A receiver begins a turn: it waits for a slot while what this gives is held.
    pub(crate) fn turns(&self) -> Waiting<'_> {
        self.turned_ms.store(self.now_ms(), Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.waiting)
    }

    /// A receive was answered.
    pub(crate) fn received(&self) {
        self.received_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// A worker whose slots are all busy has nothing to receive for.
    fn is_busy(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn lives(&self) -> bool {
        self.is_busy() || self.since(&self.turned_ms) < LIVE_FOR
    }

    fn is_ready(&self) -> bool {
        let received = self.received_ms.load(Ordering::Relaxed) > 0;
        received && (self.is_busy() || self.since(&self.received_ms) < READY_FOR)
    }

    fn since(&self, then: &AtomicU64) -> Duration {
        Duration::from_millis(self.now_ms().saturating_sub(then.load(Ordering::Relaxed)))
    }

    /// Milliseconds since the beginning, and never 0.
    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

/// The answers of a worker.
pub fn routes(context: Arc<WorkerContext>, registry: Option<Registry>) -> Router {
    let verdict = |well: bool, word: &'static str| {
        if well { (StatusCode::OK, "ok\n") } else { (StatusCode::SERVICE_UNAVAILABLE, word) }
    };
    let live = move |State(context): State<Arc<WorkerContext>>| async move {
        verdict(context.intake_health.lives(), "the intake stands still\n")
    };
    let ready = move |State(context): State<Arc<WorkerContext>>| async move {
        match context.shutdown.is_draining() {
            true => (StatusCode::SERVICE_UNAVAILABLE, "the worker drains\n"),
            false => verdict(context.intake_health.is_ready(), "the queue has not answered lately\n"),
        }
    };
    let metrics = move || async move {
        let Some(registry) = registry else { return (StatusCode::NOT_FOUND, String::new()) };
        match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    };
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(context)
}

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, context: Arc<WorkerContext>, registry: Option<Registry>) {
    if let Err(error) = axum::serve(listener, routes(context, registry)).await {
        tracing::error!(%error, code = "health_failed", "the worker's own HTTP endpoint has ended");
    }
}

/// Asks the worker at `address` whether it is ready, for container health checks in images without a shell.
///
/// # Errors
/// What it answered, or why it did not.
pub async fn ask(address: SocketAddr) -> Result<(), String> {
    let address = match address.ip().is_unspecified() {
        true => SocketAddr::from(([127, 0, 0, 1], address.port())),
        false => address,
    };
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /health/ready HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| format!("{address} does not answer: {error}"))?,
        Err(_) => return Err(format!("{address} does not answer within {PATIENCE:?}")),
    };
    if answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    Err(answer.lines().last().unwrap_or("no answer").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_is_ready_once_it_has_received_and_not_when_the_queue_stays_silent() {
        let intake_health = IntakeHealth::default();
        assert!(!intake_health.is_ready() && intake_health.lives());
        drop(intake_health.turns());
        intake_health.received();
        assert!(intake_health.is_ready());
        tokio::time::advance(READY_FOR + Duration::from_millis(1)).await;
        assert!(!intake_health.is_ready() && intake_health.lives());
        tokio::time::advance(LIVE_FOR).await;
        assert!(!intake_health.lives(), "the intake makes no turn though slots are free");
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_whose_slots_are_busy_for_long_is_well() {
        let intake_health = IntakeHealth::default();
        intake_health.received();
        let waiting = intake_health.turns();
        tokio::time::advance(LIVE_FOR * 10).await;
        assert!(intake_health.is_ready() && intake_health.lives());
        drop(waiting);
        assert!(!intake_health.is_ready());
    }
}
