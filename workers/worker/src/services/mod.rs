//! The background services of a worker: one file each, started and watched by the supervisor.

pub mod aggregator;
pub mod catalog_reload;
pub mod control;
pub mod http;
pub mod intake;
pub mod invocations;
pub mod reaper;
pub mod reporter;
pub mod session_closer;
pub mod supervisor;
pub mod task_protection;

use std::future::Future;

use crate::shutdown::Shutdown;

/// A background loop of the worker.
pub trait Service: Send + Sync + 'static {
    /// Its name in logs, in `/health/services` and in the worker's exit message.
    fn name(&self) -> &'static str;

    /// Runs until the worker drains. An earlier return and a panic are failures: the supervisor then calls it again.
    fn run(&self, shutdown: &Shutdown) -> impl Future<Output = ()> + Send;

    /// Waits for the work under way of a service that has failed for good. The worker drains meanwhile.
    fn finish(&self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}
