//! Owns the start of a worker: from a configuration to a fleet that has been seen to work.
//!
//! **Invariant:** a worker that cannot reach its queue or tables, or whose catalog is wrong, does not start.

use std::sync::Arc;
use std::time::Duration;

use toolfleet_aws::{Aws, AwsError, AwsErrorKind, Clock, Tables};
use toolfleet_catalog::Catalog;
use toolfleet_config::catalog::{self, LoadError, Stores};
use toolfleet_config::egress::EgressError;
use toolfleet_config::settings::ConfigError;
use toolfleet_core::ids::{CallId, CallKey, SessionId, Tenant};
use toolfleet_egress::BuildError;
use toolfleet_mcp::ClientOptions;

use crate::config::WorkerConfig;
use crate::context::{DeadLetters, Parts, WorkerContext};
use crate::mcp_session_store::McpSessionStore;
use crate::pipeline::MANY_RECEIVES;
use crate::services::{self, ServiceFailed};
use crate::telemetry::Meters;
use crate::{intake, reaper, session_closer};

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
    Aws(#[from] AwsError),
}

impl From<EgressError> for StartError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::Config(error) => Self::Config(error),
            EgressError::Http(error) => Self::Http(error),
        }
    }
}

/// Reads the catalog.
pub async fn read_catalog(config: &WorkerConfig, aws: &Aws) -> Result<Catalog, StartError> {
    let stores = Stores::new(aws, &Tables::with_prefix(&config.table_prefix));
    let loaded = catalog::load(&config.catalog, &stores).await;
    loaded.map_err(|why| StartError::Catalog { place: config.catalog.place.to_string(), why })
}

/// Builds a fleet and sees that its queue and tables answer.
pub async fn context(
    config: &WorkerConfig,
    aws: Aws,
    catalog: Catalog,
    meters: Meters,
) -> Result<WorkerContext, StartError> {
    let mut tables = Tables::with_prefix(&config.table_prefix);
    tables.history_shards = config.history_shards;
    let register = Arc::new(McpSessionStore::new(aws.sessions(&tables), Clock::System));
    let max_body_bytes = config.limits.max_answer_bytes;
    let options = ClientOptions { max_body_bytes, register: Some(register), ..ClientOptions::default() };
    let mcp = config.egress_config.client(options).await?;
    let dead_letters = config.dead_letter_queue_url.as_ref();
    let dead_letters =
        dead_letters.map(|url| DeadLetters { queue: aws.queue(url), reap_after: config.reap_after });
    let mut context = WorkerContext::new(Parts {
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
    context.max_body_bytes = check(&context).await?;
    Ok(context)
}

/// Runs until the fleet is told to drain and nothing runs any more.
///
/// # Errors
/// A service ended by a defect, so the worker has drained by itself.
pub async fn run(context: Arc<WorkerContext>) -> Result<(), ServiceFailed> {
    tracing::info!(
        worker = %context.worker,
        queue = context.queue.url(),
        slots = context.limits.slots,
        servers = context.catalog.current().servers().len(),
        tools = context.catalog.current().tools().len(),
        "the worker takes calls"
    );
    watch_numbers(&context);
    tokio::join!(
        service(&context, "intake", intake::run(context.clone())),
        service(&context, "reaper", reaper::run(context.clone())),
        service(&context, "session closer", session_closer::run(context.clone())),
    );
    context.mcp.close().await;
    tracing::info!(worker = %context.worker, "the worker has left nothing behind");
    context.shutdown.failed().map_or(Ok(()), Err)
}

/// Runs a service of the worker; if it ends before the worker drains, the worker drains and fails.
pub async fn service(context: &WorkerContext, name: &'static str, service: impl Future<Output = ()>) {
    services::run(&context.shutdown, context.limits.drain, name, service).await;
}

/// Numbers that others keep and metrics only read.
fn watch_numbers(context: &Arc<WorkerContext>) {
    let slots = u64::from(context.limits.slots);
    context.meters.watch(
        "toolfleet.slots",
        "Calls of one tenant to one server that this worker may run at once.",
        move || slots,
    );
    let of = Arc::downgrade(context);
    let open = move || of.upgrade().map_or(0, |context| context.gate.open_breakers(context.now()));
    context.meters.watch("toolfleet.breakers.open", "Servers that are not asked for now.", open);
    let of = Arc::downgrade(context);
    let taken = move || of.upgrade().map_or(0, |context| context.catalog.reloads().taken);
    context.meters.watch_count(
        "toolfleet.catalog.taken",
        "Versions of the catalog taken since the start.",
        taken,
    );
    let of = Arc::downgrade(context);
    let refused = move || of.upgrade().map_or(0, |context| context.catalog.reloads().refused);
    context.meters.watch_count(
        "toolfleet.catalog.refused",
        "Versions of the catalog that were wrong or unreadable.",
        refused,
    );
    let of = Arc::downgrade(context);
    let programs = move || of.upgrade().map_or(0, |context| context.mcp.programs() as u64);
    context.meters.watch("toolfleet.stdio.programs", "Servers that are programs and run now.", programs);
    let aws = context.aws();
    let requests = move || aws.batching().requests;
    context.meters.watch_count("toolfleet.store.requests", "Write requests sent to the tables.", requests);
    let aws = context.aws();
    let statements = move || aws.batching().statements;
    context.meters.watch_count("toolfleet.store.writes", "Writes in them.", statements);
}

/// Whether queue and tables answer, and are set as the worker needs them; gives the largest body of a call.
async fn check(context: &WorkerContext) -> Result<usize, StartError> {
    let settings = context.queue.settings().await?;
    if let Some(count) = settings.max_receives.filter(|count| *count < FEWEST_RECEIVES) {
        let text = format!(
            "the queue's redrive policy gives a message up after {count} receives; accepted is {FEWEST_RECEIVES} or more, because a \
             call that waits is received {MANY_RECEIVES} times before its wait becomes a new message. Set MaxReceiveCount in data.yaml"
        );
        return Err(ConfigError::new("TOOLFLEET_QUEUE_URL", text).into());
    }
    if let Some(dead) = &context.dead_letters {
        dead.queue.depth().await?;
    }
    let tenant = Tenant::undecodable();
    let key = CallKey { tenant: tenant.clone(), call_id: CallId::of_message("start") };
    context.calls.read(&key).await?;
    if let Ok(session) = SessionId::parse("start") {
        context.sessions.read(&tenant, &session).await?;
    }
    let check = tokio::time::timeout(BUCKET_CHECK, context.payloads.check());
    let silent = |_| Err(AwsError::passing("S3 did not answer in time"));
    match check.await.unwrap_or_else(silent) {
        Err(trouble) if trouble.kind() == AwsErrorKind::Configuration => return Err(trouble.into()),
        // Small results do not need it, and large ones wait for it.
        Err(trouble) => {
            tracing::error!(%trouble, code = "bucket_error", "the bucket of payloads does not answer")
        }
        Ok(()) => {}
    }
    Ok(settings.max_body_bytes)
}
