//! Owns the start of a worker: from a configuration to a fleet that has been seen to work.
//!
//! **Invariant:** a worker that cannot reach its queue or tables, or whose catalog is wrong, does not start.

use std::sync::Arc;

use toolfleet_aws::{Aws, Tables, Trouble};
use toolfleet_core::catalog::Catalog;
use toolfleet_core::ids::{CallId, CallKey, SessionId, Tenant};
use toolfleet_mcp::{ClientOptions, McpClient};

use crate::catalog::{self, LoadError, Stores};
use crate::clock::Clock;
use crate::config::WorkerConfig;
use crate::fleet::{Fleet, Parts};
use crate::intake;

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no catalog to start with.
    #[error("TOOLFLEET_CATALOG: {place}: {why}")]
    Catalog {
        /// Where it was to be.
        place: String,
        /// What is wrong.
        why: LoadError,
    },
    /// Queue or tables cannot be reached.
    #[error(transparent)]
    Aws(#[from] Trouble),
    /// The HTTP client cannot be built.
    #[error("the HTTP client cannot be built: {0}")]
    Http(String),
}

/// Reads the catalog.
pub async fn read_catalog(config: &WorkerConfig, aws: &Aws) -> Result<Catalog, StartError> {
    let stores = Stores::new(aws, &Tables::with_prefix(&config.table_prefix));
    let loaded = catalog::load(&config.catalog, &stores).await;
    loaded.map_err(|why| StartError::Catalog { place: config.catalog.place.to_string(), why })
}

/// Builds a fleet and sees that its queue and tables answer.
pub async fn fleet(config: &WorkerConfig, aws: Aws, catalog: Catalog) -> Result<Fleet, StartError> {
    let options =
        ClientOptions { max_body_bytes: config.limits.max_answer_bytes, ..ClientOptions::default() };
    let mcp = McpClient::new(options).map_err(|e| StartError::Http(e.to_string()))?;
    let mut tables = Tables::with_prefix(&config.table_prefix);
    tables.history_shards = config.history_shards;
    let fleet = Fleet::new(Parts {
        aws,
        queue_url: config.queue_url.clone(),
        tables,
        worker: config.worker.clone(),
        limits: config.limits,
        catalog,
        mcp,
        clock: Clock::System,
        watch: None,
    });
    check(&fleet).await?;
    Ok(fleet)
}

/// Runs until the fleet is told to drain and nothing runs any more.
pub async fn run(fleet: Arc<Fleet>) {
    tracing::info!(
        worker = %fleet.worker,
        queue = fleet.queue.url(),
        slots = fleet.limits.slots,
        servers = fleet.catalog.current().servers().len(),
        tools = fleet.catalog.current().tools().len(),
        "the worker takes calls"
    );
    intake::run(fleet.clone()).await;
    tracing::info!(worker = %fleet.worker, "the worker has left nothing behind");
}

async fn check(fleet: &Fleet) -> Result<(), Trouble> {
    fleet.queue.depth().await?;
    let tenant = Tenant::undecodable();
    let key = CallKey { tenant: tenant.clone(), call_id: CallId::of_message("start") };
    fleet.calls.read(&key).await?;
    if let Ok(session) = SessionId::parse("start") {
        fleet.sessions.read(&tenant, &session).await?;
    }
    Ok(())
}
