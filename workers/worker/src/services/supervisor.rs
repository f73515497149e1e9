//! Starts the worker's services, restarts one that fails, and drains the worker when a service keeps failing.
//!
//! A worker whose intake has stopped would renew leases and answer health checks but take no call. After [`MAX_RESTARTS`] restarts within
//! [`RESTART_WINDOW`] the worker therefore drains and exits with an error, so that its platform starts another.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Service;
use crate::backoff;
use crate::service_health::{ServiceHealth, ServiceState};
use crate::shutdown::{ServiceFailed, Shutdown};

/// The most restarts of one service within [`RESTART_WINDOW`].
pub const MAX_RESTARTS: usize = 3;
/// Failures older than this no longer count.
pub const RESTART_WINDOW: Duration = Duration::from_mins(10);

/// The services of one worker.
#[derive(Debug)]
pub struct Supervisor {
    shutdown: Shutdown,
    drain: Duration,
    health: ServiceHealth,
    services: JoinSet<()>,
    /// Those that run until the others have ended.
    until_exit: JoinSet<()>,
}

impl Supervisor {
    /// A supervisor without services. A worker that fails drains within `drain`.
    pub fn new(shutdown: Shutdown, drain: Duration, health: ServiceHealth) -> Self {
        Self { shutdown, drain, health, services: JoinSet::new(), until_exit: JoinSet::new() }
    }

    /// Starts a service. [`Supervisor::join`] waits for it.
    pub fn start(&mut self, service: impl Service) {
        self.services.spawn(supervise(service, self.shutdown.clone(), self.drain, self.health.clone()));
    }

    /// Starts a service that answers until all others have ended, also while the worker drains.
    pub fn start_until_exit(&mut self, service: impl Service) {
        self.until_exit.spawn(supervise(service, self.shutdown.clone(), self.drain, self.health.clone()));
    }

    /// Waits until the worker has drained and all services have ended, then for `last`, and ends the services that run until the exit.
    ///
    /// # Errors
    /// A service kept failing, so the worker has drained.
    pub async fn join(mut self, last: impl Future<Output = ()>) -> Result<(), ServiceFailed> {
        while let Some(ended) = self.services.join_next().await {
            if ended.is_err() {
                self.shutdown.fail(ServiceFailed("supervisor"), self.drain);
            }
        }
        last.await;
        self.until_exit.shutdown().await;
        self.shutdown.failed().map_or(Ok(()), Err)
    }
}

/// Runs a service, again after each failure, until the worker drains or the service has failed too often.
async fn supervise(service: impl Service, shutdown: Shutdown, drain: Duration, health: ServiceHealth) {
    let name = service.name();
    let mut failures = VecDeque::new();
    let mut restarts = 0;
    loop {
        health.set(name, ServiceState::Running { restarts });
        // The service uses nothing afterwards but what its own steps keep consistent.
        let ended = AssertUnwindSafe(service.run(&shutdown)).catch_unwind().await;
        let draining = shutdown.is_draining();
        match ended {
            Ok(()) if draining => break,
            Ok(()) => {
                tracing::error!(
                    service = name,
                    code = "service_failed",
                    "a service of the worker has ended by itself"
                );
            }
            Err(_) => {
                tracing::error!(
                    service = name,
                    code = "service_failed",
                    "a service of the worker has panicked"
                );
            }
        }
        let now = Instant::now();
        failures.push_back(now);
        failures.retain(|at| now.duration_since(*at) < RESTART_WINDOW);
        if draining || failures.len() > MAX_RESTARTS {
            health.set(name, ServiceState::Failed);
            shutdown.fail(ServiceFailed(name), drain);
            // The calls under way keep their time to drain.
            if AssertUnwindSafe(service.finish()).catch_unwind().await.is_err() {
                tracing::error!(
                    service = name,
                    code = "service_failed",
                    "a service of the worker has panicked"
                );
            }
            return;
        }
        restarts += 1;
        health.set(name, ServiceState::Restarting { restarts });
        let tries = u32::try_from(failures.len()).unwrap_or(u32::MAX);
        // A worker that drains in the meantime runs the service once more: the intake waits for the calls under way.
        tokio::select! {
            () = shutdown.draining() => {}
            () = tokio::time::sleep(Duration::from_millis(backoff::after_tries(tries))) => {}
        }
        tracing::warn!(
            service = name,
            restarts,
            code = "service_restarted",
            "a service of the worker starts again"
        );
    }
    health.set(name, ServiceState::Ended);
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    const DRAIN: Duration = Duration::from_secs(1);

    /// Panics or returns at its first `failures` runs, then runs until the worker drains.
    struct Scripted {
        name: &'static str,
        panics: bool,
        failures: usize,
        runs: Arc<AtomicUsize>,
    }

    impl Service for Scripted {
        fn name(&self) -> &'static str {
            self.name
        }

        async fn run(&self, shutdown: &Shutdown) {
            if self.runs.fetch_add(1, Ordering::SeqCst) < self.failures {
                assert!(!self.panics, "a defect, made for this test");
                return;
            }
            shutdown.draining().await;
        }
    }

    /// Always panics, while calls of it are under way.
    struct Broken {
        calls: Arc<Semaphore>,
    }

    impl Service for Broken {
        fn name(&self) -> &'static str {
            "intake"
        }

        async fn run(&self, _: &Shutdown) {
            panic!("a defect, made for this test");
        }

        async fn finish(&self) {
            let _all_ended = self.calls.acquire().await;
        }
    }

    async fn run(service: Scripted, shutdown: &Shutdown) -> (Result<(), ServiceFailed>, String) {
        let health = ServiceHealth::default();
        let mut supervisor = Supervisor::new(shutdown.clone(), DRAIN, health.clone());
        supervisor.start(service);
        (supervisor.join(ready(())).await, health.lines())
    }

    fn scripted(name: &'static str, panics: bool, failures: usize) -> (Scripted, Arc<AtomicUsize>) {
        let runs = Arc::new(AtomicUsize::new(0));
        (Scripted { name, panics, failures, runs: runs.clone() }, runs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_keeps_panicking_drains_and_fails_the_worker() {
        let shutdown = Shutdown::new();
        let (service, runs) = scripted("intake", true, usize::MAX);
        let (ended, lines) = run(service, &shutdown).await;
        assert_eq!(ended, Err(ServiceFailed("intake")));
        assert!(shutdown.is_draining());
        assert_eq!(shutdown.failed(), Some(ServiceFailed("intake")));
        assert_eq!(runs.load(Ordering::SeqCst), MAX_RESTARTS + 1);
        assert_eq!(lines, "intake failed\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_keeps_ending_fails_the_worker_unless_it_drains() {
        let shutdown = Shutdown::new();
        let (service, runs) = scripted("reaper", false, usize::MAX);
        assert_eq!(run(service, &shutdown).await.0, Err(ServiceFailed("reaper")));
        assert_eq!(runs.load(Ordering::SeqCst), MAX_RESTARTS + 1);

        let shutdown = Shutdown::new();
        shutdown.begin(DRAIN);
        let (service, runs) = scripted("reaper", false, usize::MAX);
        let (ended, lines) = run(service, &shutdown).await;
        assert_eq!(ended, Ok(()));
        assert_eq!(shutdown.failed(), None);
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(lines, "reaper ended\n");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_panics_once_is_started_again() {
        for panics in [true, false] {
            let shutdown = Shutdown::new();
            let (service, runs) = scripted("intake", panics, 1);
            let health = ServiceHealth::default();
            let mut supervisor = Supervisor::new(shutdown.clone(), DRAIN, health.clone());
            supervisor.start(service);
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(!shutdown.is_draining());
            assert_eq!(runs.load(Ordering::SeqCst), 2);
            assert_eq!(health.lines(), "intake running, 1 restarts\n");
            shutdown.begin(DRAIN);
            assert_eq!(supervisor.join(ready(())).await, Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_while_the_worker_drains_fails_it() {
        let shutdown = Shutdown::new();
        shutdown.begin(DRAIN);
        let (service, _) = scripted("intake", true, usize::MAX);
        assert_eq!(run(service, &shutdown).await.0, Err(ServiceFailed("intake")));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_under_way_end_before_a_worker_that_failed_exits() {
        for draining in [false, true] {
            let shutdown = Shutdown::new();
            if draining {
                shutdown.begin(DRAIN);
            }
            let calls = Arc::new(Semaphore::new(0));
            let mut supervisor = Supervisor::new(shutdown.clone(), DRAIN, ServiceHealth::default());
            supervisor.start(Broken { calls: calls.clone() });
            let join = tokio::spawn(supervisor.join(ready(())));
            shutdown.draining().await;
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert!(!join.is_finished(), "a call is still under way");
            calls.add_permits(1);
            assert_eq!(join.await.unwrap(), Err(ServiceFailed("intake")));
        }
    }
}
