//! Owns what `toolfleet dev` runs: the local endpoints, the demo MCP server, and a worker in this process.
//!
//! **Invariant:** what is started here is stopped here, the worker first, so that it can still give back what it holds.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_catalog::Catalog;
use toolfleet_config::catalog::{CatalogConfig, LoadError, Texts, report, store_written};
use toolfleet_config::payload::PayloadConfig;
use toolfleet_config::settings::ConfigError;
use toolfleet_core::ids::WorkerId;
use toolfleet_local::demo::DemoServer;
use toolfleet_local::{LocalEndpoints, LocalError, LocalOptions, REGION};
use toolfleet_worker::catalog_reload::Watcher;
use toolfleet_worker::config::{Limits, WorkerConfig};
use toolfleet_worker::context::WorkerContext;
use toolfleet_worker::services::ServiceFailed;
use toolfleet_worker::start::{self, StartError};
use toolfleet_worker::telemetry::Meters;

use super::environment::{CREDENTIAL, Environment, PREFIX, payload_bucket};
use crate::ending::Failure;
use crate::fleet_file;
use crate::network::{laptop, outbound, variable};

/// How long calls that run may take after a signal. People wait for this one.
const DRAIN: Duration = Duration::from_secs(10);

/// The three ports; 0 is any.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ports {
    pub(super) sqs: u16,
    pub(super) dynamodb: u16,
    pub(super) mcp: u16,
}

/// What to start.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) ports: Ports,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) worker: bool,
    pub(super) catalog: Option<PathBuf>,
    pub(super) slots: u32,
}

/// What runs.
pub(super) struct Stage {
    local: LocalEndpoints,
    demo: DemoServer,
    queue_url: String,
    catalog: CatalogConfig,
    /// The demo's catalog as a file; its folder goes with it unless the fleet is kept.
    _demo_catalog: Option<CatalogFile>,
    worker: Option<Worker>,
}

struct Worker {
    fleet: Arc<WorkerContext>,
    running: tokio::task::JoinHandle<Result<(), ServiceFailed>>,
}

impl Stage {
    /// Starts it all.
    pub(super) async fn start(options: Options) -> Result<Self, Failure> {
        let own = match &options.catalog {
            Some(path) => Some(own_catalog(path).await?),
            None => None,
        };
        let demo = DemoServer::start(options.ports.mcp).await.map_err(|error| {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            port_taken("--mcp-port", options.ports.mcp, "the demo MCP server", &why)
        })?;
        let local = LocalEndpoints::start(LocalOptions {
            sqs_port: options.ports.sqs,
            dynamodb_port: options.ports.dynamodb,
            data_dir: options.data_dir.clone(),
            prefix: PREFIX.to_owned(),
            ..LocalOptions::default()
        })
        .await
        .map_err(endpoints_failed)?;
        let queue_url = local.queue_url(&format!("{PREFIX}-calls"));
        let (catalog, config, file) = match own {
            Some((catalog, config)) => (catalog, config, None),
            None => {
                let replies = local.queue_url(&format!("{PREFIX}-replies"));
                let text = format!("{:#}\n", fleet_file::demo(&demo.url(), &replies));
                let file = CatalogFile::write(&text, options.data_dir.as_deref())
                    .map_err(|e| Failure::Ours(e.into()))?;
                let catalog = Catalog::parse(&text).map_err(|e| Failure::Ours(e.into()))?;
                (catalog, watched(file.path.clone()), Some(file))
            }
        };
        let mut catalog = catalog;
        let mut stage = Self { local, demo, queue_url, catalog: config, _demo_catalog: file, worker: None };
        store_written(&stage.aws().await.secrets(), &mut catalog).await?;
        if options.worker {
            stage.worker = Some(stage.start_worker(catalog, options.slots).await?);
        }
        Ok(stage)
    }

    async fn start_worker(&self, catalog: Catalog, slots: u32) -> Result<Worker, Failure> {
        let config = WorkerConfig {
            http: None,
            queue_url: self.queue_url.clone(),
            dead_letter_queue_url: Some(self.local.queue_url(&format!("{PREFIX}-calls-dlq"))),
            // Nobody moves messages back here: whoever waits shall see the end soon.
            reap_after: Duration::ZERO,
            table_prefix: PREFIX.to_owned(),
            history_shards: 1,
            payloads: payloads().map_err(|e| Failure::usage(e.to_string()))?,
            catalog: self.catalog.clone(),
            worker: WorkerId::parse(format!("dev-{}", std::process::id()))
                .map_err(|e| Failure::Ours(e.into()))?,
            limits: Limits { slots, drain: DRAIN, ..limits()? },
            egress_config: outbound()?.with_loopback(),
        };
        let fleet =
            start::context(&config, self.aws().await, catalog, Meters::none()).await.map_err(not_started)?;
        let fleet = Arc::new(fleet);
        let running = tokio::spawn(start::run(fleet.clone()));
        tokio::spawn(follow(fleet.clone(), self.catalog.clone()));
        Ok(Worker { fleet, running })
    }

    /// A connection to the endpoints, through the same SDK as in an account.
    pub(super) async fn aws(&self) -> Aws {
        Aws::connect(AwsOptions {
            region: Some(REGION.to_owned()),
            sqs_endpoint: Some(self.local.sqs_url().to_owned()),
            dynamodb_endpoint: Some(self.local.dynamodb_url().to_owned()),
            secrets_endpoint: Some(self.local.secretsmanager_url().to_owned()),
            s3_endpoint: Some(self.local.s3_url().to_owned()),
            static_credentials: Some((CREDENTIAL.to_owned(), CREDENTIAL.to_owned())),
        })
        .await
    }

    /// The variables with which others join.
    pub(super) fn environment(&self) -> Environment {
        let environment = Environment::new(self.sqs_url(), self.dynamodb_url(), &self.queue_url);
        if self.worker.is_some() {
            environment
        } else {
            environment.with_catalog(self.catalog.place.to_string())
        }
    }

    pub(super) fn sqs_url(&self) -> &str {
        self.local.sqs_url()
    }

    pub(super) fn dynamodb_url(&self) -> &str {
        self.local.dynamodb_url()
    }

    pub(super) fn mcp_url(&self) -> String {
        self.demo.url()
    }

    pub(super) fn queue_url(&self) -> &str {
        &self.queue_url
    }

    /// How often a tool of the demo server ran.
    pub(super) fn executions(&self, tool: &str) -> u64 {
        self.demo.executions(tool)
    }

    /// The worker's name, if one runs.
    pub(super) fn worker_id(&self) -> Option<&str> {
        self.worker.as_ref().map(|worker| worker.fleet.worker.as_str())
    }

    /// Ends when the worker has ended, which it does by itself only after a defect.
    pub(super) async fn worker_ended(&mut self) {
        match &mut self.worker {
            Some(worker) => {
                let ended = (&mut worker.running).await;
                tracing::error!(?ended, "the worker has ended");
                self.worker = None;
            }
            None => std::future::pending().await,
        }
    }

    /// Stops it all: the worker finishes what runs, then the endpoints go.
    pub(super) async fn stop(self) {
        if let Some(worker) = self.worker {
            worker.fleet.shutdown.begin(worker.fleet.limits.drain);
            match worker.running.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "the worker did not end well"),
                Err(error) => tracing::error!(%error, "the worker did not end well"),
            }
        }
        self.local.shutdown().await;
    }
}

/// The numbers a worker works by, as its environment says them.
fn limits() -> Result<Limits, Failure> {
    Limits::read(&variable).map_err(|error| Failure::usage(error.to_string()))
}

/// A wrong variable is a usage error.
fn not_started(error: StartError) -> Failure {
    match error {
        StartError::Config(error) => Failure::usage(error.to_string()),
        other @ (StartError::Catalog { .. } | StartError::Http(_) | StartError::Aws(_)) => {
            Failure::Ours(other.into())
        }
    }
}

/// The local bucket, and the sources and the threshold that the environment names.
fn payloads() -> Result<PayloadConfig, ConfigError> {
    PayloadConfig::read(&|name| match name {
        "TOOLFLEET_PAYLOAD_BUCKET" => Some(payload_bucket()),
        _ => variable(name),
    })
}

/// The catalog as a file, for workers in processes of their own.
struct CatalogFile {
    path: PathBuf,
    /// Made for this run alone, and removed with it.
    temporary: Option<PathBuf>,
}

impl CatalogFile {
    fn write(text: &str, data_dir: Option<&Path>) -> std::io::Result<Self> {
        let (directory, temporary) = match data_dir {
            Some(directory) => (std::path::absolute(directory)?, None),
            None => {
                let name = format!("toolfleet-dev-{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
                let directory = std::env::temp_dir().join(name);
                std::fs::create_dir(&directory)?;
                (directory.clone(), Some(directory))
            }
        };
        let path = directory.join("catalog.json");
        let file = Self { path, temporary };
        std::fs::write(&file.path, text)?;
        Ok(file)
    }
}

impl Drop for CatalogFile {
    fn drop(&mut self) {
        if let Some(directory) = &self.temporary {
            // What is left in the temporary directory does no harm.
            let _left = std::fs::remove_dir_all(directory);
        }
    }
}

/// The user's own catalog, where it stands. What is wrong with it is said before any port is taken.
async fn own_catalog(path: &Path) -> Result<(Catalog, CatalogConfig), Failure> {
    let config = watched(std::path::absolute(path).map_err(|e| Failure::Ours(e.into()))?);
    let texts = Texts::read(&config, None, false).await;
    let catalog = texts.and_then(|texts| Ok(texts.catalog()?));
    let catalog = catalog.map_err(|error| match error {
        LoadError::NoText { .. } => Failure::usage(format!("--catalog: {error}")),
        LoadError::File { .. }
        | LoadError::Stored(_)
        | LoadError::OnlyFiles(_)
        | LoadError::Wrong(_)
        | LoadError::NamesNobody => Failure::usage(format!("--catalog: {}: {error}", path.display())),
    })?;
    report(&catalog);
    Ok((catalog, config))
}

/// People who try things out look at once whether they worked, and speak for whom they like.
fn watched(path: PathBuf) -> CatalogConfig {
    let laptop = Some(laptop(path.parent()));
    let tenants = Some(vec!["*".to_owned()]);
    CatalogConfig { refresh: Duration::from_secs(1), tenants, laptop, ..path.into() }
}

/// Goes by the catalog as it changes. Not by signals: a terminal that closes shall end this command.
async fn follow(fleet: Arc<WorkerContext>, config: CatalogConfig) {
    let mut ticks = tokio::time::interval(config.refresh);
    let mut watcher = Watcher::new(fleet.clone(), config);
    loop {
        tokio::select! {
            () = fleet.shutdown.draining() => return,
            _ = ticks.tick() => watcher.look(false).await,
        }
    }
}

fn endpoints_failed(error: LocalError) -> Failure {
    match &error {
        LocalError::Port { service, port, source } => {
            let option = if *service == "DynamoDB" { "--dynamodb-port" } else { "--sqs-port" };
            port_taken(option, *port, service, &source.to_string())
        }
        LocalError::DataDir { source, .. } => Failure::usage(format!("--data-dir: {error}: {source}")),
        LocalError::DataDirInUse { .. } => Failure::usage(format!("--data-dir: {error}")),
        LocalError::Journal(_)
        | LocalError::Template(_)
        | LocalError::Database { .. }
        | LocalError::Table { .. }
        | LocalError::Queue { .. }
        | LocalError::Thread { .. }
        | _ => Failure::Ours(error.into()),
    }
}

fn port_taken(option: &str, port: u16, what: &str, why: &str) -> Failure {
    Failure::usage(format!(
        "{option}: port {port} of 127.0.0.1 cannot be used for {what} ({why}); stop what uses it (another `toolfleet dev`?), \
         or choose another port with {option} PORT, where 0 takes any that is free"
    ))
}
