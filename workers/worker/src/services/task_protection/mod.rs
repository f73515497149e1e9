//! Keeps the worker's ECS task from scale-in and deployments while it has calls that take long: ECS stops a task within two minutes, and a call
//! that needs more would be cut. The task's agent is asked; the protection ends by itself if the worker dies.
//!
//! Where long calls overlap, the protection would never end, and a deployment would wait for ever. So a worker that was protected for long without a
//! break receives nothing until its long calls have ended (`breaks`).
//!
//! **Invariant:** a task is protected only while such a call runs, or for a quarter of an hour after its worker was lost.

mod agent;
mod breaks;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use toolfleet_core::digest::Digest;
use url::Url;

use super::Service;
use crate::context::WorkerContext;
use crate::shutdown::Shutdown;
pub use agent::protect;
use breaks::{Breaks, Intake};

/// How often the calls are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// After so long without a break the worker receives nothing until its long calls have ended: each worker at another time, up to `SPREAD_MS` later.
const MOST: Duration = Duration::from_secs(15 * 60);
const SPREAD_MS: u32 = 5 * 60 * 1_000;

/// The service that protects the task.
pub struct TaskProtection {
    context: Arc<WorkerContext>,
    agent: Url,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    breaks: Breaks,
    failing: bool,
}

impl TaskProtection {
    /// Protects the task of that agent, `ECS_AGENT_URI`.
    pub fn new(context: Arc<WorkerContext>, agent: Url) -> Self {
        let spread_ms = Digest::of_text(context.activity.boot.as_str()).bucket(SPREAD_MS);
        let most = MOST.saturating_add(Duration::from_millis(u64::from(spread_ms)));
        let state = Mutex::new(State { breaks: Breaks::after(most), failing: false });
        Self { context, agent, state }
    }

    /// The same, with a break after `most` of protection instead of a quarter of an hour or more.
    #[must_use]
    pub fn with_breaks_after(self, most: Duration) -> Self {
        Self { state: Mutex::new(State { breaks: Breaks::after(most), failing: false }), ..self }
    }

    /// Asks for what the calls under way need, unless that holds already, and stops the intake where the protection has lasted too long.
    pub async fn look(&self) {
        let mut state = self.state.lock().await;
        let long_calls = self.context.activity.long_calls();
        if let Some(protected) = state.breaks.due(long_calls, Instant::now()) {
            self.ask(&mut state, protected).await;
        }
        if self.context.shutdown.is_draining() {
            return;
        }
        match state.breaks.intake(long_calls, self.others_receive(), Instant::now()) {
            Some(Intake::Stop) => {
                self.context.set_receiving(false);
                tracing::info!(
                    long_calls,
                    code = "intake_stopped",
                    "the worker's ECS task was protected for long; the worker receives nothing until its long calls have ended, so that ECS may stop the task"
                );
            }
            Some(Intake::GoOn) => {
                self.context.set_receiving(true);
                tracing::info!("the worker receives calls again: ECS did not stop its task");
            }
            None => {}
        }
    }

    async fn ask(&self, state: &mut State, protected: bool) {
        match protect(&self.agent, protected).await {
            Ok(()) => {
                state.breaks.told(protected, Instant::now());
                state.failing = false;
            }
            Err(error) if !state.failing => {
                state.failing = true;
                tracing::error!(
                    error,
                    code = "protection_failed",
                    "the ECS task cannot be protected from scale-in; calls that take longer than a drain may be cut"
                );
            }
            Err(_) => {}
        }
    }

    /// Whether another worker receives calls meanwhile. A deployment starts new tasks first, and scale-in leaves one.
    fn others_receive(&self) -> bool {
        let summary = self.context.fleet_view.current(self.context.now());
        summary.is_some_and(|summary| summary.workers.receiving() > 1)
    }
}

impl Service for TaskProtection {
    fn name(&self) -> &'static str {
        "task protection"
    }

    /// Never returns: a worker that drains still has calls.
    async fn run(&self, _: &Shutdown) {
        loop {
            self.look().await;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
