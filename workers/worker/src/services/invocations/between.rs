//! What a worker does that is frozen between two invocations, in place of its services: before the calls of an invocation it reads what may be
//! outdated, and after them it writes what would be lost with the environment.
//!
//! Ages are counted by the wall clock: the clock by which tasks wait may stand still while the environment is frozen.
//!
//! Dead letters are not ended, and no summary of the fleet is made: that takes a worker that is not frozen.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use toolfleet_config::catalog::CatalogConfig;
use toolfleet_core::session::SESSION_CACHE_TTL_S;
use toolfleet_core::time::Timestamp;

use super::invocation::RESPONSE;
use crate::context::WorkerContext;
use crate::services::catalog_reload::Watcher;
use crate::services::control::{self, ControlReader, Readings};
use crate::services::reporter::Reporter;
use crate::services::session_closer;
use crate::telemetry::Flush;

/// How long reading may take before the calls: what was read before stays in use.
const READ: Duration = Duration::from_secs(3);
/// How long writing may take after the calls. The rest of the time is the response's.
const WRITE: Duration = RESPONSE.saturating_sub(Duration::from_millis(500));
/// Tool lists are asked for anew after so long: as long as one is cached.
const LISTS: Duration = Duration::from_mins(5);
/// How often it is looked whether limits are still being written.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// What is done between two invocations.
pub(super) struct Between {
    context: Arc<WorkerContext>,
    control: ControlReader,
    reporter: Reporter,
    flush: Option<Flush>,
    state: Mutex<State>,
}

struct State {
    readings: Readings,
    catalog: Option<(Watcher, Duration)>,
    /// When each was read last.
    control_at: Timestamp,
    catalog_at: Timestamp,
    sessions_at: Timestamp,
    /// When the last invocation ended.
    frozen_at: Timestamp,
}

impl Between {
    pub(super) fn new(
        context: &Arc<WorkerContext>,
        catalog: Option<CatalogConfig>,
        flush: Option<Flush>,
    ) -> Self {
        let now = context.now();
        let catalog = catalog.map(|config| {
            let refresh = config.refresh;
            (Watcher::new(Arc::clone(context), config), refresh)
        });
        let readings = Readings::default();
        let (control_at, catalog_at, sessions_at, frozen_at) = (now, now, now, now);
        Self {
            control: ControlReader::new(Arc::clone(context)),
            reporter: Reporter::new(Arc::clone(context)),
            context: Arc::clone(context),
            flush,
            state: Mutex::new(State { readings, catalog, control_at, catalog_at, sessions_at, frozen_at }),
        }
    }

    /// Before the calls of an invocation.
    pub(super) async fn before(&self) {
        let mut state = self.state.lock().await;
        // What does not answer in time is read before the next invocation.
        let _late = timeout(READ, self.read(&mut state)).await;
    }

    async fn read(&self, state: &mut State) {
        let now = self.context.now();
        if age(state.frozen_at, now) >= Duration::from_secs(SESSION_CACHE_TTL_S) {
            self.context.session_cache.clear();
        }
        if age(state.frozen_at, now) >= LISTS {
            self.context.executors.forget_lists();
        }
        if age(state.control_at, now) >= control::BEAT {
            if age(state.control_at, now) >= control::WHOLE {
                state.readings = Readings::default();
            }
            self.control.look(&mut state.readings).await;
            state.control_at = now;
        }
        if let Some((watcher, refresh)) = &mut state.catalog
            && age(state.catalog_at, now) >= *refresh
        {
            Box::pin(watcher.look(false)).await;
            state.catalog_at = now;
        }
    }

    /// After the calls of an invocation.
    pub(super) async fn after(&self) {
        let mut state = self.state.lock().await;
        let written = timeout(WRITE, self.write(&mut state)).await;
        if written.is_err() {
            tracing::warn!(
                code = "report_failed",
                "not all that an invocation has counted was written in time; the next one writes it"
            );
        }
        state.frozen_at = self.context.now();
    }

    async fn write(&self, state: &mut State) {
        let (context, now) = (&self.context, self.context.now());
        self.reporter.rest().await;
        if age(state.sessions_at, now) >= session_closer::LOOK_INTERVAL {
            session_closer::look_for_ended(context).await;
            state.sessions_at = now;
        }
        session_closer::close_ended(context).await;
        // A permit whose release is not written would be taken until its time is over, and a turn that is not given back would be lost.
        while context.limiter.is_writing() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        if let Some(flush) = &self.flush {
            flush.send().await;
        }
    }
}

fn age(since: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(now.ms_since(since))
}
