//! Watches over the worker's background services: one that ends by a defect ends the process.
//!
//! A worker whose intake has died would go on holding leases and answering health checks, and take no call. It drains instead, and
//! exits with an error, so that its platform starts another.
//!
//! **Invariant:** no service ends unseen before the worker drains.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;

use crate::shutdown::Shutdown;

/// A service of the worker has ended by a defect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the worker's {0} has ended by a defect, so the worker has left; its platform should start another (see the log)"
)]
pub struct ServiceFailed(pub &'static str);

/// Runs a service that goes on until the worker drains. If it ends before, the worker drains and fails.
pub async fn run(
    shutdown: &Shutdown,
    drain: Duration,
    name: &'static str,
    service: impl Future<Output = ()>,
) {
    if !guard(shutdown, drain, name, service).await || shutdown.is_draining() {
        return;
    }
    tracing::error!(service = name, code = "service_failed", "a service of the worker has ended by itself");
    shutdown.fail(ServiceFailed(name), drain);
}

/// Runs a part of a service that may end by itself. If it panics, the worker drains and fails. Returns whether it did not.
pub async fn guard(
    shutdown: &Shutdown,
    drain: Duration,
    name: &'static str,
    part: impl Future<Output = ()>,
) -> bool {
    // The worker uses nothing of it afterwards but what its own steps keep consistent.
    if AssertUnwindSafe(part).catch_unwind().await.is_ok() {
        return true;
    }
    tracing::error!(service = name, code = "service_failed", "a service of the worker met a defect");
    shutdown.fail(ServiceFailed(name), drain);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn a_service_that_panics_drains_and_fails_the_worker() {
        let shutdown = Shutdown::new();
        run(&shutdown, DRAIN, "intake", async { panic!("a defect, made for this test") }).await;
        assert!(shutdown.is_draining());
        assert_eq!(shutdown.failed(), Some(ServiceFailed("intake")));
    }

    #[tokio::test]
    async fn a_service_that_ends_by_itself_fails_the_worker_unless_it_drains() {
        let shutdown = Shutdown::new();
        run(&shutdown, DRAIN, "reaper", async {}).await;
        assert_eq!(shutdown.failed(), Some(ServiceFailed("reaper")));

        let shutdown = Shutdown::new();
        shutdown.begin(DRAIN);
        run(&shutdown, DRAIN, "reaper", async {}).await;
        assert_eq!(shutdown.failed(), None);
    }

    #[tokio::test]
    async fn a_part_of_a_service_may_end_by_itself_and_may_not_panic() {
        let shutdown = Shutdown::new();
        assert!(guard(&shutdown, DRAIN, "intake", async {}).await);
        assert!(!shutdown.is_draining());
        assert!(!guard(&shutdown, DRAIN, "intake", async { panic!("a defect, made for this test") }).await);
        assert!(shutdown.is_draining());
    }
}
