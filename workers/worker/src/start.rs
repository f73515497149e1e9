//! Owns the start of a worker: from a configuration to a fleet that has been seen to work.
//!
//! **Invariant:** a worker that cannot reach its queue or tables, or whose catalog is wrong, does not start.

use std::sync::Arc;
use std::time::Duration;

use toolfleet_aws::{Aws, Tables, Trouble, TroubleKind};
use toolfleet_core::catalog::Catalog;
use toolfleet_core::ids::{CallId, CallKey, SessionId, Tenant};
use toolfleet_mcp::{BuildError, ClientOptions};

use crate::catalog::{self, LoadError, Stores};
use crate::clock::Clock;
use crate::config::{ConfigError, WorkerConfig};
use crate::conversations::Conversations;
use crate::fleet::{DeadLetters, Fleet, Parts};
use crate::path::MANY_RECEIVES;
use crate::services::{self, ServiceFailed};
use crate::telemetry::Meters;
use crate::{farewell, intake, reaper};

/// The fewest receives after which a message may go to the dead-letter queue.
const FEWEST_RECEIVES: u32 = MANY_RECEIVES + 1;

/// How long a start waits for the bucket: small results do not need it.
const BUCKET_CHECK: Duration = Duration::from_secs(5);

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
    /// A part of the configuration does not fit another one, or the queue.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The client that calls servers cannot be built for another reason.
    #[error("the client that calls servers cannot be built")]
    Http(#[source] BuildError),
    /// Queue or tables cannot be reached.
    #[error(transparent)]
    Aws(#[from] Trouble),
}

/// Reads the catalog.
pub async fn read_catalog(config: &WorkerConfig, aws: &Aws) -> Result<Catalog, StartError> {
    let stores = Stores::new(aws, &Tables::with_prefix(&config.table_prefix));
    let loaded = catalog::load(&config.catalog, &stores).await;
    loaded.map_err(|why| StartError::Catalog { place: config.catalog.place.to_string(), why })
}

/// Builds a fleet and sees that its queue and tables answer.
pub async fn fleet(
    config: &WorkerConfig,
    aws: Aws,
    catalog: Catalog,
    meters: Meters,
) -> Result<Fleet, StartError> {
    let mut tables = Tables::with_prefix(&config.table_prefix);
    tables.history_shards = config.history_shards;
    let register = Arc::new(Conversations::new(aws.sessions(&tables), Clock::System));
    let max_body_bytes = config.limits.max_answer_bytes;
    let options = ClientOptions { max_body_bytes, register: Some(register), ..ClientOptions::default() };
    let mcp = config.outbound.client(options).await?;
    let dead_letters = config.dead_letter_queue_url.as_ref();
    let dead_letters =
        dead_letters.map(|url| DeadLetters { queue: aws.queue(url), reap_after: config.reap_after });
    let mut fleet = Fleet::new(Parts {
        aws,
        dead_letters,
        queue_url: config.queue_url.clone(),
        tables,
        payloads: config.payloads.clone(),
        worker: config.worker.clone(),
        limits: config.limits,
        catalog,
        mcp,
        clock: Clock::System,
        meters,
        watch: None,
    });
    fleet.max_body_bytes = check(&fleet).await?;
    Ok(fleet)
}

/// Runs until the fleet is told to drain and nothing runs any more.
///
/// # Errors
/// A service ended by a defect, so the worker has drained by itself.
pub async fn run(fleet: Arc<Fleet>) -> Result<(), ServiceFailed> {
    tracing::info!(
        worker = %fleet.worker,
        queue = fleet.queue.url(),
        slots = fleet.limits.slots,
        servers = fleet.catalog.current().servers().len(),
        tools = fleet.catalog.current().tools().len(),
        "the worker takes calls"
    );
    watch_numbers(&fleet);
    tokio::join!(
        service(&fleet, "intake", intake::run(fleet.clone())),
        service(&fleet, "reaper", reaper::run(fleet.clone())),
        service(&fleet, "session closer", farewell::run(fleet.clone())),
    );
    fleet.mcp.close().await;
    tracing::info!(worker = %fleet.worker, "the worker has left nothing behind");
    fleet.shutdown.failed().map_or(Ok(()), Err)
}

/// Runs a service of the worker; if it ends before the worker drains, the worker drains and fails.
pub async fn service(fleet: &Fleet, name: &'static str, service: impl Future<Output = ()>) {
    services::run(&fleet.shutdown, fleet.limits.drain, name, service).await;
}

/// Numbers that others keep and metrics only read.
fn watch_numbers(fleet: &Arc<Fleet>) {
    let slots = u64::from(fleet.limits.slots);
    fleet.meters.watch(
        "toolfleet.slots",
        "Calls of one tenant to one server that this worker may run at once.",
        move || slots,
    );
    let of = Arc::downgrade(fleet);
    let open = move || of.upgrade().map_or(0, |fleet| fleet.breakers.open(fleet.now()));
    fleet.meters.watch("toolfleet.breakers.open", "Servers that are not asked for now.", open);
    let of = Arc::downgrade(fleet);
    let taken = move || of.upgrade().map_or(0, |fleet| fleet.catalog.reloads().taken);
    fleet.meters.watch_count(
        "toolfleet.catalog.taken",
        "Versions of the catalog taken since the start.",
        taken,
    );
    let of = Arc::downgrade(fleet);
    let refused = move || of.upgrade().map_or(0, |fleet| fleet.catalog.reloads().refused);
    fleet.meters.watch_count(
        "toolfleet.catalog.refused",
        "Versions of the catalog that were wrong or unreadable.",
        refused,
    );
    let of = Arc::downgrade(fleet);
    let programs = move || of.upgrade().map_or(0, |fleet| fleet.mcp.programs() as u64);
    fleet.meters.watch("toolfleet.stdio.programs", "Servers that are programs and run now.", programs);
    let aws = fleet.aws();
    let requests = move || aws.batching().requests;
    fleet.meters.watch_count("toolfleet.store.requests", "Write requests sent to the tables.", requests);
    let aws = fleet.aws();
    let statements = move || aws.batching().statements;
    fleet.meters.watch_count("toolfleet.store.writes", "Writes in them.", statements);
}

/// Whether queue and tables answer, and are set as the worker needs them; gives the largest body of a call.
async fn check(fleet: &Fleet) -> Result<usize, StartError> {
    let settings = fleet.queue.settings().await?;
    if let Some(count) = settings.max_receives.filter(|count| *count < FEWEST_RECEIVES) {
        let text = format!(
            "the queue's redrive policy gives a message up after {count} receives; accepted is {FEWEST_RECEIVES} or more, because a \
             call that waits is received {MANY_RECEIVES} times before its wait becomes a new message. Set MaxReceiveCount in data.yaml"
        );
        return Err(ConfigError::of("TOOLFLEET_QUEUE_URL", text).into());
    }
    if let Some(dead) = &fleet.dead_letters {
        dead.queue.depth().await?;
    }
    let tenant = Tenant::undecodable();
    let key = CallKey { tenant: tenant.clone(), call_id: CallId::of_message("start") };
    fleet.calls.read(&key).await?;
    if let Ok(session) = SessionId::parse("start") {
        fleet.sessions.read(&tenant, &session).await?;
    }
    let check = tokio::time::timeout(BUCKET_CHECK, fleet.payloads.check());
    let silent = |_| Err(Trouble::passing("S3 did not answer in time"));
    match check.await.unwrap_or_else(silent) {
        Err(trouble) if trouble.kind() == TroubleKind::Configuration => return Err(trouble.into()),
        // Small results do not need it, and large ones wait for it.
        Err(trouble) => {
            tracing::error!(%trouble, code = "bucket_trouble", "the bucket of payloads does not answer")
        }
        Ok(()) => {}
    }
    Ok(settings.max_body_bytes)
}
