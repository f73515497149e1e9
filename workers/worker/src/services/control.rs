//! Reads what operators have set: the version every two seconds, and the entries when it has changed.
//!
//! A reading takes a few milliseconds, so that a pause stops new starts everywhere within five seconds. The entries are also read every
//! ten minutes whatever the version says. In a large fleet not all workers read a change at once: all entries lie in one partition.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use toolfleet_aws::AwsError;
use toolfleet_core::fleet::LARGE_FLEET;
use toolfleet_core::time::Timestamp;

use super::Service;
use crate::backoff;
use crate::context::WorkerContext;
use crate::shutdown::Shutdown;

/// How often the version is read.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// How often the entries are read without a new version, about: each worker at another time.
pub(super) const WHOLE: Duration = Duration::from_secs(600);
/// A worker of a large fleet reads a change up to so much later, in milliseconds.
const SPREAD_MS: u64 = 1_000;

/// The service that reads the control entries.
pub struct ControlReader {
    context: Arc<WorkerContext>,
    started_at: Timestamp,
}

/// When the entries are read again without a new version, and whether the last reading failed.
#[derive(Default)]
pub(super) struct Readings {
    whole: Option<Instant>,
    /// When the next entry ends by itself.
    next_end: Option<Timestamp>,
    failing: bool,
}

impl ControlReader {
    /// The reader of that worker.
    pub fn new(context: Arc<WorkerContext>) -> Self {
        Self { started_at: context.now(), context }
    }

    /// Reads the entries before the worker takes calls, so that it starts none that is paused. It tries until it has read them or the worker
    /// drains: one that may not read them, or has no table, takes no calls and is not ready.
    pub async fn read_first(&self, shutdown: &Shutdown) {
        let mut tries = 0;
        while !shutdown.is_draining() {
            let Err(error) = self.read(&mut Readings::default()).await else {
                return;
            };
            tries += 1;
            if tries == 1 {
                tracing::error!(%error, code = "control_unread", "pauses and limits cannot be read; the worker takes no calls before it has read them");
            }
            tokio::select! {
                () = shutdown.draining() => {}
                () = tokio::time::sleep(Duration::from_millis(backoff::after_tries(tries)).min(BEAT)) => {}
            }
        }
    }

    /// Reads what has changed. Where that fails, what was read before stays in use.
    pub(super) async fn look(&self, readings: &mut Readings) {
        match self.read(readings).await {
            Ok(()) => readings.failing = false,
            // It is logged once.
            Err(error) if !readings.failing => {
                readings.failing = true;
                tracing::error!(%error, code = "control_unread", "pauses and limits cannot be read; those known stay in force");
            }
            Err(_) => {}
        }
    }

    async fn read(&self, readings: &mut Readings) -> Result<(), AwsError> {
        let Self { context, started_at } = self;
        let now = Instant::now();
        let ended = readings.next_end.is_some_and(|end| end <= context.now());
        let due = ended || readings.whole.is_none_or(|at| now >= at);
        if !due {
            if context.fleet.control_version().await? == context.gate.control().version() {
                context.gate.control().note_read(now);
                return Ok(());
            }
            if context.fleet_view.workers(context.now()) > LARGE_FLEET {
                tokio::time::sleep(Duration::from_millis(fastrand::u64(..SPREAD_MS))).await;
            }
        }
        let begun = Instant::now();
        let control = context.fleet.control(context.now()).await?;
        readings.whole = Some(now + WHOLE.mul_f64(0.75 + fastrand::f64() / 4.0));
        readings.next_end = control.next_end(context.now());
        if control.version != context.gate.control().version() {
            tracing::info!(
                version = control.version,
                pauses = control.switches.len(),
                limits = control.limits.len(),
                code = "control_taken",
                "pauses, limits or weights have changed"
            );
        }
        if control.unreadable > 0 && control.version != context.gate.control().version() {
            tracing::error!(
                entries = control.unreadable,
                code = "control_unread",
                "pauses or limits of a later version cannot be read; they have no effect in this worker"
            );
        }
        let drains = control.drains(&context.worker, *started_at);
        context.gate.control().take(control);
        context.gate.control().note_read(begun);
        if drains && !context.shutdown.is_draining() {
            tracing::info!(worker = %context.worker, "an operator asked this worker to drain");
            context.shutdown.begin(context.limits.drain);
        }
        Ok(())
    }
}

impl Service for ControlReader {
    fn name(&self) -> &'static str {
        "control reader"
    }

    /// Reads until the process exits, also while the worker drains: the calls under way still make attempts.
    async fn run(&self, _: &Shutdown) {
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut readings = Readings::default();
        loop {
            ticks.tick().await;
            self.look(&mut readings).await;
        }
    }
}
