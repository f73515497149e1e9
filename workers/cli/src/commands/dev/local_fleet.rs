//! The fleet of `toolfleet dev`: the local endpoints, the demo MCP server, and a worker in this process; more workers are processes (`pool`).
//!
//! The workers are stopped before the endpoints, so that it can finish or requeue its calls.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_catalog::Catalog;
use toolfleet_client::{Client, system_clock};
use toolfleet_config::catalog::{CatalogConfig, LoadError, Place, Stores, Texts, report, store_written};
use toolfleet_config::payload::PayloadConfig;
use toolfleet_config::settings::ConfigError;
use toolfleet_core::ids::WorkerId;
use toolfleet_local::demo::DemoServer;
use toolfleet_local::{LocalEndpoints, LocalError, LocalOptions, REGION};
use toolfleet_worker::queues::QueueUrls;
use toolfleet_worker::telemetry::Meters;
use toolfleet_worker::{Limits, ServiceOptions, StartError, Worker, WorkerConfig};

use super::console::DevConsole;
use super::environment::{CREDENTIAL, Environment, PREFIX, payload_bucket};
use super::gateway::DevGateway;
use super::pool::Shared;
use super::scaling::DevWorker;
use crate::connect::tables;
use crate::demo_catalog;
use crate::exit::CommandError;
use crate::network::{egress, http_clients, local_environment, variable};

/// The drain time after a signal; short, because a person waits for it.
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// The five ports; 0 is any.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ports {
    pub(super) sqs: u16,
    pub(super) dynamodb: u16,
    pub(super) mcp: u16,
    pub(super) gateway: u16,
    pub(super) console: u16,
}

/// The options of a local fleet.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) ports: Ports,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) worker: bool,
    pub(super) catalog: Option<PathBuf>,
    pub(super) slots: u32,
}

/// A running fleet.
pub(super) struct LocalFleet {
    local: LocalEndpoints,
    demo: DemoServer,
    queue_url: String,
    catalog: CatalogConfig,
    /// The demo's catalog as a file; its folder is removed with it, unless the fleet has a data directory.
    _demo_catalog: Option<CatalogFile>,
    worker: Option<Worker>,
    /// The worker has been told to drain.
    draining: bool,
    slots: u32,
    gateway: Option<DevGateway>,
    console: Option<DevConsole>,
}

impl LocalFleet {
    /// Starts endpoints, demo server and worker.
    pub(super) async fn start(options: Options) -> Result<Self, CommandError> {
        let own = match &options.catalog {
            Some(path) => Some(own_catalog(path).await?),
            None => None,
        };
        let demo = DemoServer::start(options.ports.mcp).await.map_err(|error| {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            port_taken("--mcp-port", options.ports.mcp, "the demo MCP server", &why)
        })?;
        let port = options.ports.gateway;
        let listener = TcpListener::bind(("127.0.0.1", port)).await;
        let listener = listener
            .map_err(|error| port_taken("--gateway-port", port, "the MCP gateway", &error.to_string()))?;
        let port = options.ports.console;
        let pages = TcpListener::bind(("127.0.0.1", port)).await;
        let pages =
            pages.map_err(|error| port_taken("--console-port", port, "the console", &error.to_string()))?;
        let local = LocalEndpoints::start(LocalOptions {
            sqs_port: options.ports.sqs,
            dynamodb_port: options.ports.dynamodb,
            data_dir: options.data_dir.clone(),
            prefix: PREFIX.to_owned(),
            parameters: [("PriorityQueues".to_owned(), "true".to_owned())].into(),
            ..LocalOptions::default()
        })
        .await
        .map_err(endpoints_failed)?;
        let queue_url = local.queue_url(&format!("{PREFIX}-calls"));
        let (catalog, config, file) = match own {
            Some((catalog, config)) => (catalog, config, None),
            None => {
                let replies = local.queue_url(&format!("{PREFIX}-replies"));
                let text = format!("{:#}\n", demo_catalog::demo(&demo.url(), &replies));
                let file = CatalogFile::write(&text, options.data_dir.as_deref())
                    .map_err(|e| CommandError::Unavailable(e.into()))?;
                let catalog = Catalog::parse(&text).map_err(|e| CommandError::Unavailable(e.into()))?;
                (catalog, watched(file.path.clone()), Some(file))
            }
        };
        let mut catalog = catalog;
        let mut fleet = Self {
            local,
            demo,
            queue_url,
            catalog: config,
            _demo_catalog: file,
            worker: None,
            draining: false,
            slots: options.slots,
            gateway: None,
            console: None,
        };
        store_written(&fleet.aws().await.secrets(), &mut catalog).await?;
        let (client, config) = (fleet.client().await, fleet.catalog.clone());
        fleet.console = Some(DevConsole::start(pages, client.clone())?);
        fleet.gateway = Some(DevGateway::start(listener, client, catalog.clone(), config).await?);
        if options.worker {
            fleet.worker = Some(Box::pin(fleet.start_worker(catalog)).await?);
        }
        Ok(fleet)
    }

    async fn start_worker(&self, catalog: Catalog) -> Result<Worker, CommandError> {
        let id = format!("dev-{}", std::process::id());
        let config = worker_config(&self.queue_url, self.catalog.clone(), &id, self.slots)?;
        // The catalog is not reloaded at SIGHUP: a terminal that closes ends this command.
        let services = ServiceOptions { reload: Some((self.catalog.clone(), false)), http: None };
        let worker =
            Box::pin(Worker::start(&config, self.aws().await, catalog, Meters::none(), services)).await;
        worker.map_err(not_started)
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
            ..AwsOptions::default()
        })
        .await
    }

    /// A client of the fleet, for the gateway and the console.
    async fn client(&self) -> Client {
        let client =
            Client::new(&self.aws().await, self.queue_url.clone(), &tables(PREFIX, 1), system_clock());
        let (high, low) = (format!("{}-high", self.queue_url), format!("{}-low", self.queue_url));
        client.with_payload_bucket(payload_bucket()).with_priority_queues(Some(&high), Some(&low))
    }

    /// The variables for other programs.
    pub(super) fn environment(&self) -> Environment {
        let environment = Environment::new(self.sqs_url(), self.dynamodb_url(), &self.queue_url);
        environment.with_catalog(self.catalog.place.to_string())
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
        self.worker.as_ref().map(Worker::id)
    }

    /// The address of the gateway.
    pub(super) fn gateway_url(&self) -> &str {
        self.gateway.as_ref().map_or("", DevGateway::url)
    }

    /// The address of the console, which logs in by itself.
    pub(super) fn console_url(&self) -> &str {
        self.console.as_ref().map_or("", DevConsole::url)
    }

    /// What processes of workers need.
    pub(super) fn shared(&self) -> Option<Shared> {
        let Place::File(catalog) = &self.catalog.place else { return None };
        Some(Shared { env: self.environment().variables(), catalog: catalog.clone(), slots: self.slots })
    }

    /// The worker in this process.
    pub(super) fn worker(&self) -> Option<DevWorker> {
        let worker = self.worker.as_ref()?;
        Some(DevWorker { id: worker.id().to_owned(), pid: std::process::id(), draining: self.draining })
    }

    /// Whether the worker in this process takes calls.
    pub(super) const fn has_worker(&self) -> bool {
        self.worker.is_some() && !self.draining
    }

    /// Lets the worker finish its calls and take no more.
    pub(super) fn drain_worker(&mut self) -> Result<(), CommandError> {
        if let Some(worker) = &self.worker {
            worker.drain_within(limits()?.drain);
            self.draining = true;
        }
        Ok(())
    }

    /// Ends when the worker has ended. Returns whether it did so by itself, which is a defect.
    pub(super) async fn worker_ended(&mut self) -> bool {
        match &mut self.worker {
            Some(worker) => {
                let ended = worker.ended().await;
                if !self.draining {
                    tracing::error!(?ended, "the worker has ended");
                }
                self.worker = None;
                !std::mem::take(&mut self.draining)
            }
            None => std::future::pending().await,
        }
    }

    /// Stops the console and the gateway, then the worker after its running calls, then the endpoints.
    pub(super) async fn stop(self) {
        if let Some(console) = self.console {
            console.stop().await;
        }
        if let Some(gateway) = self.gateway {
            gateway.stop().await;
        }
        if let Some(mut worker) = self.worker {
            worker.drain();
            if let Err(error) = worker.ended().await {
                tracing::error!(%error, "the worker did not drain");
            }
        }
        self.local.shutdown().await;
    }
}

/// Starts a worker of the fleet whose variables are in the environment.
pub(super) async fn join(id: &str, catalog: &Path, slots: u32) -> Result<Worker, CommandError> {
    let queue_url = variable("TOOLFLEET_QUEUE_URL").unwrap_or_default();
    let s3_endpoint = variable("AWS_ENDPOINT_URL_S3");
    let aws = Aws::connect(AwsOptions { s3_endpoint, ..AwsOptions::default() }).await;
    let (mut catalog, config) = own_catalog(catalog).await?;
    store_written(&aws.secrets(), &mut catalog).await?;
    let services = ServiceOptions { reload: Some((config.clone(), false)), http: None };
    let config = worker_config(&queue_url, config, id, slots)?;
    Box::pin(Worker::start(&config, aws, catalog, Meters::none(), services)).await.map_err(not_started)
}

/// The configuration of a worker of this machine.
fn worker_config(
    queue_url: &str,
    catalog: CatalogConfig,
    id: &str,
    slots: u32,
) -> Result<WorkerConfig, CommandError> {
    Ok(WorkerConfig {
        http: None,
        protection: None,
        lambda: None,
        queue_urls: QueueUrls {
            normal: queue_url.to_owned(),
            high: Some(format!("{queue_url}-high")),
            low: Some(format!("{queue_url}-low")),
        },
        dead_letter_queue_url: Some(format!("{queue_url}-dlq")),
        // Nobody redrives messages here, so a dead-lettered call ends at once.
        reap_after: Duration::ZERO,
        table_prefix: PREFIX.to_owned(),
        history_shards: 1,
        payloads: payloads().map_err(|e| CommandError::usage(e.to_string()))?,
        catalog,
        worker: WorkerId::parse(id).map_err(|e| CommandError::Unavailable(e.into()))?,
        limits: Limits { slots, drain: DRAIN, ..limits()? },
        egress_config: egress()?.with_loopback(),
    })
}

/// The numbers a worker works by, as its environment says them.
pub(super) fn limits() -> Result<Limits, CommandError> {
    Limits::read(&variable).map_err(|error| CommandError::usage(error.to_string()))
}

/// A wrong variable is a usage error.
fn not_started(error: StartError) -> CommandError {
    match error {
        StartError::Config(error) => CommandError::usage(error.to_string()),
        other @ (StartError::Catalog { .. }
        | StartError::Endpoint(_)
        | StartError::Http(_)
        | StartError::RuntimeApi(_)
        | StartError::Aws(_)) => CommandError::Unavailable(other.into()),
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
    /// The folder that was made for this run, and is removed after it.
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
            // A folder that is left in the temporary directory does no harm.
            let _left = std::fs::remove_dir_all(directory);
        }
    }
}

/// The user's own catalog file. An error in it is reported before any port is opened.
async fn own_catalog(path: &Path) -> Result<(Catalog, CatalogConfig), CommandError> {
    let config = watched(std::path::absolute(path).map_err(|e| CommandError::Unavailable(e.into()))?);
    let stores = Stores::files(http_clients().await?);
    let texts = Texts::read(&config, &stores, false).await;
    let catalog = texts.and_then(|texts| Ok(texts.catalog()?));
    let catalog = catalog.map_err(|error| match error {
        LoadError::NoText { .. } => CommandError::usage(format!("--catalog: {error}")),
        LoadError::File { .. }
        | LoadError::Stored(_)
        | LoadError::OnlyFiles(_)
        | LoadError::Interrupted
        | LoadError::Wrong(_)
        | LoadError::NamesNobody => CommandError::usage(format!("--catalog: {}: {error}", path.display())),
    })?;
    report(&catalog);
    Ok((catalog, config))
}

/// The configuration of a catalog that is reloaded each second and allows every tenant.
fn watched(path: PathBuf) -> CatalogConfig {
    let local_environment = Some(local_environment(path.parent()));
    let tenants = Some(vec!["*".to_owned()]);
    CatalogConfig { refresh: Duration::from_secs(1), tenants, local_environment, ..path.into() }
}

fn endpoints_failed(error: LocalError) -> CommandError {
    match &error {
        LocalError::Port { service, port, source } => {
            let option = if *service == "DynamoDB" { "--dynamodb-port" } else { "--sqs-port" };
            port_taken(option, *port, service, &source.to_string())
        }
        LocalError::DataDir { source, .. } => CommandError::usage(format!("--data-dir: {error}: {source}")),
        LocalError::DataDirInUse { .. } => CommandError::usage(format!("--data-dir: {error}")),
        LocalError::Journal(_)
        | LocalError::Template(_)
        | LocalError::Database { .. }
        | LocalError::Table { .. }
        | LocalError::Queue { .. }
        | LocalError::Thread { .. }
        | _ => CommandError::Unavailable(error.into()),
    }
}

fn port_taken(option: &str, port: u16, what: &str, why: &str) -> CommandError {
    CommandError::usage(format!(
        "{option}: port {port} of 127.0.0.1 cannot be used for {what} ({why}); stop what uses it (another `toolfleet dev`?), \
         or choose another port with {option} PORT, or five others with --port-base PORT, where 0 takes any that is free"
    ))
}
