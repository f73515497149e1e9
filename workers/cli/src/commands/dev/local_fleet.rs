//! The fleet of `toolfleet dev`: the local endpoints, the demo MCP server, and a worker in this process.
//!
//! The worker is stopped before the endpoints, so that it can finish or requeue its calls.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;
use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_catalog::Catalog;
use toolfleet_client::{Client, system_clock};
use toolfleet_config::catalog::{CatalogConfig, LoadError, Stores, Texts, report, store_written};
use toolfleet_config::payload::PayloadConfig;
use toolfleet_config::settings::ConfigError;
use toolfleet_core::ids::WorkerId;
use toolfleet_local::demo::DemoServer;
use toolfleet_local::{LocalEndpoints, LocalError, LocalOptions, REGION};
use toolfleet_worker::queues::QueueUrls;
use toolfleet_worker::telemetry::Meters;
use toolfleet_worker::{Limits, ServiceOptions, StartError, Worker, WorkerConfig};

use super::environment::{CREDENTIAL, Environment, PREFIX, payload_bucket};
use super::gateway::DevGateway;
use crate::connect::tables;
use crate::demo_catalog;
use crate::exit::CommandError;
use crate::network::{egress, http_clients, local_environment, variable};

/// The drain time after a signal; short, because a person waits for it.
const DRAIN: Duration = Duration::from_secs(10);

/// The four ports; 0 is any.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ports {
    pub(super) sqs: u16,
    pub(super) dynamodb: u16,
    pub(super) mcp: u16,
    pub(super) gateway: u16,
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
    gateway: Option<DevGateway>,
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
            gateway: None,
        };
        store_written(&fleet.aws().await.secrets(), &mut catalog).await?;
        let (client, config) = (fleet.client().await, fleet.catalog.clone());
        fleet.gateway = Some(DevGateway::start(listener, client, catalog.clone(), config).await?);
        if options.worker {
            fleet.worker = Some(Box::pin(fleet.start_worker(catalog, options.slots)).await?);
        }
        Ok(fleet)
    }

    async fn start_worker(&self, catalog: Catalog, slots: u32) -> Result<Worker, CommandError> {
        let config = WorkerConfig {
            http: None,
            queue_urls: QueueUrls {
                normal: self.queue_url.clone(),
                high: Some(format!("{}-high", self.queue_url)),
                low: Some(format!("{}-low", self.queue_url)),
            },
            dead_letter_queue_url: Some(self.local.queue_url(&format!("{PREFIX}-calls-dlq"))),
            // Nobody redrives messages here, so a dead-lettered call ends at once.
            reap_after: Duration::ZERO,
            table_prefix: PREFIX.to_owned(),
            history_shards: 1,
            payloads: payloads().map_err(|e| CommandError::usage(e.to_string()))?,
            catalog: self.catalog.clone(),
            worker: WorkerId::parse(format!("dev-{}", std::process::id()))
                .map_err(|e| CommandError::Unavailable(e.into()))?,
            limits: Limits { slots, drain: DRAIN, ..limits()? },
            egress_config: egress()?.with_loopback(),
        };
        // The catalog is not reloaded at SIGHUP: a terminal that closes ends this command.
        let services = ServiceOptions { reload: Some((self.catalog.clone(), false)), http: None };
        let worker = Worker::start(&config, self.aws().await, catalog, Meters::none(), services).await;
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

    /// A client of the fleet, for the gateway.
    async fn client(&self) -> Client {
        let client =
            Client::new(&self.aws().await, self.queue_url.clone(), &tables(PREFIX, 1), system_clock());
        client.with_payload_bucket(payload_bucket())
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

    /// Ends when the worker has ended by itself, which is a defect.
    pub(super) async fn worker_ended(&mut self) {
        match &mut self.worker {
            Some(worker) => {
                let ended = worker.ended().await;
                tracing::error!(?ended, "the worker has ended");
                self.worker = None;
            }
            None => std::future::pending().await,
        }
    }

    /// Stops the gateway, then the worker after its running calls, then the endpoints.
    pub(super) async fn stop(self) {
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

/// The numbers a worker works by, as its environment says them.
fn limits() -> Result<Limits, CommandError> {
    Limits::read(&variable).map_err(|error| CommandError::usage(error.to_string()))
}

/// A wrong variable is a usage error.
fn not_started(error: StartError) -> CommandError {
    match error {
        StartError::Config(error) => CommandError::usage(error.to_string()),
        other @ (StartError::Catalog { .. }
        | StartError::Endpoint(_)
        | StartError::Http(_)
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
         or choose another port with {option} PORT, where 0 takes any that is free"
    ))
}
