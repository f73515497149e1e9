//! Starts a worker: builds its context, checks queue and tables, and starts its services.
//!
//! While AWS does not answer (throttles, errors of its own, no connection), the start waits: the worker's endpoint says that it is alive and
//! not ready. Credentials that are missing or refused are waited for too, for two minutes: they expire, come late where a machine has just started, and are
//! wrong while a clock is. What only a person can change (no such table, no permission, a setting) ends it at once.
//!
//! **Invariant:** a worker takes no call before its queue and tables have answered and its catalog is valid.

use std::sync::Arc;
use std::time::Duration;

use prometheus::Registry;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use toolfleet_aws::queue::{MAX_BODY_BYTES, Queue};
use toolfleet_aws::{Aws, AwsError, AwsErrorKind, Clock, Tables};
use toolfleet_catalog::Catalog;
use toolfleet_config::catalog::{self, CatalogConfig, LoadError, Stores};
use toolfleet_config::egress::EgressError;
use toolfleet_config::settings::ConfigError;
use toolfleet_core::ids::{CallId, CallKey, SessionId, Tenant};
use toolfleet_core::request::Priority;
use toolfleet_core::requeue::{FEWEST_RECEIVES, MANY_RECEIVES};
use toolfleet_egress::BuildError;
use toolfleet_mcp::ClientOptions;

use crate::config::WorkerConfig;
use crate::context::{DeadLetters, Parts, WorkerContext};
use crate::mcp_session_store::McpSessionStore;
use crate::service_health::ServiceHealth;
use crate::services::aggregator::Aggregator;
use crate::services::catalog_reload::CatalogReload;
use crate::services::control::ControlReader;
use crate::services::http::{HttpEndpoint, Started, routes};
use crate::services::intake::Intake;
use crate::services::invocations::{Invocations, RuntimeApiError};
use crate::services::reaper::Reaper;
use crate::services::reporter::Reporter;
use crate::services::session_closer::SessionCloser;
use crate::services::supervisor::Supervisor;
use crate::services::task_protection::TaskProtection;
use crate::shutdown::{ServiceFailed, Shutdown};
use crate::telemetry::{Flush, Meters};
use crate::{backoff, observe, queues};

/// How long a start waits for the bucket: small results do not need it.
const BUCKET_CHECK: Duration = Duration::from_secs(5);

/// The longest pause before a start asks AWS again: a worker starts soon after AWS answers.
const LONGEST_START_PAUSE: Duration = Duration::from_secs(15);

/// For so long a start waits for credentials. Keys of the environment stay as they are, so that another process must read others.
const CREDENTIALS_PATIENCE: Duration = Duration::from_secs(120);

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The catalog cannot be read or is invalid.
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
    /// The socket of the HTTP endpoint cannot be used.
    #[error("TOOLFLEET_HTTP_ADDR: the socket has no address")]
    Endpoint(#[source] std::io::Error),
    /// The client that calls servers cannot be built for another reason.
    #[error("the client that calls servers cannot be built")]
    Http(#[source] BuildError),
    /// Lambda's runtime API cannot be asked.
    #[error(transparent)]
    RuntimeApi(#[from] RuntimeApiError),
    /// Queue or tables cannot be reached.
    #[error(transparent)]
    Aws(#[from] AwsError),
}

impl StartError {
    /// For how long the same start may succeed without a change by a person.
    const fn patience(&self) -> Duration {
        match self {
            Self::Aws(error) | Self::Catalog { why: LoadError::Stored(error), .. } => match error.kind() {
                AwsErrorKind::Passing | AwsErrorKind::Unreachable => Duration::MAX,
                AwsErrorKind::Credentials => CREDENTIALS_PATIENCE,
                AwsErrorKind::Region
                | AwsErrorKind::Permission
                | AwsErrorKind::Configuration
                | AwsErrorKind::Rejection => Duration::ZERO,
            },
            Self::Catalog {
                why:
                    LoadError::File { .. }
                    | LoadError::NoText { .. }
                    | LoadError::OnlyFiles(_)
                    | LoadError::Wrong(_)
                    | LoadError::Interrupted
                    | LoadError::NamesNobody,
                ..
            }
            | Self::Config(_)
            | Self::Endpoint(_)
            | Self::Http(_)
            | Self::RuntimeApi(_) => Duration::ZERO,
        }
    }
}

impl From<EgressError> for StartError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::Config(error) => Self::Config(error),
            EgressError::Http(error) => Self::Http(error),
        }
    }
}

/// Repeats a step of the start until it succeeds, or the `patience` with its error is over.
async fn wait_out<T, E, Step>(patience: impl Fn(&E) -> Duration, step: impl Fn() -> Step) -> Result<T, E>
where
    E: std::fmt::Display,
    Step: Future<Output = Result<T, E>>,
{
    let begun = Instant::now();
    let mut tries = 0;
    loop {
        let error = match step().await {
            Err(error) if begun.elapsed() < patience(&error) => error,
            done => return done,
        };
        tries += 1;
        let pause = Duration::from_millis(backoff::after_tries(tries)).min(LONGEST_START_PAUSE);
        tracing::error!(%error, tries, ?pause, code = "start_waits", "the worker takes calls as soon as AWS answers; it tries again");
        tokio::time::sleep(pause).await;
    }
}

/// Reads the catalog. Waits while AWS does not answer.
pub async fn read_catalog(config: &WorkerConfig, aws: &Aws) -> Result<Catalog, StartError> {
    let stores = stores(config, aws).await?;
    let load = || async {
        let loaded = catalog::load(&config.catalog, &stores).await;
        loaded.map_err(|why| StartError::Catalog { place: config.catalog.place.to_string(), why })
    };
    wait_out(StartError::patience, load).await
}

/// What reads the catalog and what it names.
async fn stores(config: &WorkerConfig, aws: &Aws) -> Result<Stores, StartError> {
    let clients = config.egress_config.http_clients().await?;
    Ok(Stores::new(aws, &Tables::with_prefix(&config.table_prefix), clients))
}

/// Builds the context of a worker and checks that its queue and tables answer. Waits while they do not.
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
    let stores = stores(config, &aws).await?;
    let dead_letters = config.dead_letter_queue_url.as_ref();
    let dead_letters =
        dead_letters.map(|url| DeadLetters { queue: aws.queue(url), reap_after: config.reap_after });
    let mut context = WorkerContext::new(Parts {
        aws,
        dead_letters,
        queue_urls: config.queue_urls.clone(),
        tables,
        payloads: config.payloads.clone(),
        worker: config.worker.clone(),
        limits: config.limits,
        catalog,
        stores,
        mcp,
        clock: Clock::System,
        meters,
        watch: None,
    });
    context.max_body_bytes = wait_out(StartError::patience, || check(&context)).await?;
    Ok(context)
}

/// The services that not every worker runs.
#[derive(Default)]
pub struct ServiceOptions {
    /// The catalog to reload, and whether SIGHUP reloads it at once.
    pub reload: Option<(CatalogConfig, bool)>,
    /// Where health checks and Prometheus are answered, and the metrics.
    pub http: Option<(TcpListener, Option<Registry>)>,
}

/// A worker that starts. Its endpoint answers that it is alive and not ready.
pub struct Starting {
    shutdown: Shutdown,
    supervisor: Supervisor,
    started: Started,
    flush: Option<Flush>,
}

impl Starting {
    /// Starts the endpoint, where there is one. A worker whose service fails drains within `drain`.
    ///
    /// # Errors
    /// The endpoint's socket has no address.
    pub fn new(drain: Duration, http: Option<(TcpListener, Option<Registry>)>) -> Result<Self, StartError> {
        Self::of(Shutdown::new(), drain, http)
    }

    fn of(
        shutdown: Shutdown,
        drain: Duration,
        http: Option<(TcpListener, Option<Registry>)>,
    ) -> Result<Self, StartError> {
        let (health, started) = (ServiceHealth::default(), Started::default());
        let mut supervisor = Supervisor::new(shutdown.clone(), drain, health.clone());
        if let Some((listener, registry)) = http {
            let routes = routes(started.clone(), health, registry);
            let endpoint = HttpEndpoint::new(listener, routes).map_err(StartError::Endpoint)?;
            supervisor.start_until_exit(endpoint);
        }
        Ok(Self { shutdown, supervisor, started, flush: None })
    }

    /// What sends telemetry before the worker may be frozen.
    #[must_use]
    pub fn with_flush(self, flush: Option<Flush>) -> Self {
        Self { flush, ..self }
    }

    /// The end of the worker, which begins where a service keeps failing.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Builds the worker, waits until its queue and tables answer, and starts its services.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        self,
        config: &WorkerConfig,
        aws: Aws,
        catalog: Catalog,
        meters: Meters,
        reload: Option<(CatalogConfig, bool)>,
    ) -> Result<Worker, StartError> {
        let mut context = context(config, aws, catalog, meters).await?;
        context.shutdown = self.shutdown.clone();
        context.protect_after = config.protection.as_ref().map(|protection| protection.after);
        let context = Arc::new(context);
        let protection = config.protection.as_ref();
        let protection = protection.map(|of| TaskProtection::new(Arc::clone(&context), of.agent.clone()));
        let catalog = reload.as_ref().map(|(catalog, _)| catalog.clone());
        let invocations = config.lambda.as_ref();
        let invocations =
            invocations.map(|lambda| Invocations::new(&context, lambda, catalog, self.flush.clone()));
        let running = self.run(Arc::clone(&context), reload, protection, invocations.transpose()?);
        let running = tokio::spawn(running);
        Ok(Worker { context, running })
    }
}

/// A worker that takes calls.
pub struct Worker {
    context: Arc<WorkerContext>,
    running: JoinHandle<Result<(), ServiceFailed>>,
}

impl Worker {
    /// Builds a worker, waits until its queue and tables answer, and starts its services.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(
        config: &WorkerConfig,
        aws: Aws,
        catalog: Catalog,
        meters: Meters,
        services: ServiceOptions,
    ) -> Result<Self, StartError> {
        let ServiceOptions { reload, http } = services;
        Starting::new(config.limits.drain, http)?.start(config, aws, catalog, meters, reload).await
    }

    /// Its name in audit records.
    pub fn id(&self) -> &str {
        self.context.worker.as_str()
    }

    /// Takes no more calls and finishes those that run.
    pub fn drain(&self) {
        self.context.shutdown.begin(self.context.limits.drain);
    }

    /// The same, within that time.
    pub fn drain_within(&self, drain: Duration) {
        self.context.shutdown.begin(drain);
    }

    /// Waits until it has drained. It ends without a signal only when a service keeps failing.
    ///
    /// # Errors
    /// The service that kept failing.
    pub async fn ended(&mut self) -> Result<(), ServiceFailed> {
        (&mut self.running).await.unwrap_or(Err(ServiceFailed("supervisor")))
    }
}

/// Runs the services of a worker until it is asked to drain and no call runs any more.
///
/// # Errors
/// A service kept failing, so the worker has drained.
pub async fn run(context: Arc<WorkerContext>, options: ServiceOptions) -> Result<(), ServiceFailed> {
    match Starting::of(context.shutdown.clone(), context.limits.drain, options.http) {
        Ok(starting) => starting.run(context, options.reload, None, None).await,
        Err(error) => {
            tracing::error!(%error, code = "health_failed", "the HTTP endpoint has no address");
            Err(ServiceFailed("HTTP endpoint"))
        }
    }
}

impl Starting {
    async fn run(
        self,
        context: Arc<WorkerContext>,
        reload: Option<(CatalogConfig, bool)>,
        protection: Option<TaskProtection>,
        invocations: Option<Invocations>,
    ) -> Result<(), ServiceFailed> {
        let Self { mut supervisor, started, .. } = self;
        observe::observe(&context);
        let control = ControlReader::new(context.clone());
        control.read_first(&context.shutdown).await;
        tracing::info!(
            worker = %context.worker,
            queues = ?context.queues.all().map(|(_, queue)| queue.url()).collect::<Vec<_>>(),
            slots = context.limits.slots,
            servers = context.catalog.current().servers().len(),
            tools = context.catalog.current().tools().len(),
            "the worker takes calls"
        );
        context.intake_health.begin();
        started.set(&context);
        let reporter = Reporter::new(context.clone());
        let is_frozen = invocations.as_ref().is_some_and(Invocations::is_frozen_between);
        match invocations {
            Some(invocations) => supervisor.start(invocations),
            None => supervisor.start(Intake::new(context.clone())),
        }
        if !is_frozen {
            supervisor.start_until_exit(control);
            supervisor.start(Reaper::new(context.clone()));
            supervisor.start(SessionCloser::new(context.clone()));
            supervisor.start(Aggregator::new(context.clone()));
            supervisor.start_until_exit(reporter.clone());
            if let Some(protection) = protection {
                supervisor.start_until_exit(protection);
            }
            if let Some((catalog, sighup)) = reload {
                supervisor.start(CatalogReload::new(context.clone(), catalog, sighup));
            }
        }
        let last = async {
            context.mcp.close().await;
            reporter.report_last().await;
        };
        let ended = supervisor.join(last).await;
        tracing::info!(worker = %context.worker, "the worker has drained");
        ended
    }
}

/// Checks that a queue answers and does not give calls up before they are parked. Returns the largest body that it can park.
async fn check_queue(priority: Priority, queue: &Queue) -> Result<usize, StartError> {
    let settings = queue.settings().await?;
    if let Some(count) = settings.max_receives.filter(|count| *count < FEWEST_RECEIVES) {
        let text = format!(
            "the queue's redrive policy gives a message up after {count} receives; accepted is {FEWEST_RECEIVES} or more, because a \
             call that waits is received {MANY_RECEIVES} times before its wait becomes a new message. Set MaxReceiveCount in data.yaml"
        );
        return Err(ConfigError::new(queues::variable(priority), text).into());
    }
    Ok(settings.max_body_bytes)
}

/// Checks that queues and tables answer and are configured as the worker needs them. Returns the largest body of a call.
async fn check(context: &WorkerContext) -> Result<usize, StartError> {
    let mut max_body_bytes = MAX_BODY_BYTES;
    for (priority, queue) in context.queues.all() {
        max_body_bytes = max_body_bytes.min(check_queue(priority, queue).await?);
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
    // A pause that was set before the start holds from its first call on.
    let begun = tokio::time::Instant::now();
    context.gate.control().take(context.fleet.control(context.now()).await?);
    context.gate.control().note_read(begun);
    let check = tokio::time::timeout(BUCKET_CHECK, context.payloads.check());
    let timed_out = |_| Err(AwsError::passing("S3 did not answer in time"));
    match check.await.unwrap_or_else(timed_out) {
        Err(error) if error.kind() == AwsErrorKind::Configuration => return Err(error.into()),
        // Small results do not need it, and large ones wait for it.
        Err(error) => {
            tracing::error!(%error, code = "bucket_error", "the bucket of payloads does not answer")
        }
        Ok(()) => {}
    }
    Ok(max_body_bytes)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_step_is_repeated_for_as_long_as_its_error_is_waited_for() {
        let begun = Instant::now();
        let tries = Cell::new(0);
        let step = || async {
            tries.set(tries.get() + 1);
            if tries.get() < 4 { Err("refused") } else { Ok(()) }
        };
        assert_eq!(wait_out(|_| CREDENTIALS_PATIENCE, step).await, Ok(()));
        assert_eq!(
            wait_out(|_| Duration::ZERO, || async { Err::<(), _>("no such table") }).await,
            Err("no such table")
        );
        assert!(begun.elapsed() < CREDENTIALS_PATIENCE);
        let refused = wait_out(|_| CREDENTIALS_PATIENCE, || async { Err::<(), _>("refused") });
        assert_eq!(refused.await, Err("refused"));
        assert!(begun.elapsed() >= CREDENTIALS_PATIENCE);
    }
}
