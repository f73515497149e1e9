//! Starts and stops the endpoints: opens the data, creates the template's resources, serves.
//!
//! **Invariant:** when `start` returns a value, every queue, table and bucket exists and both ports answer. When it fails, nothing runs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::serve::ListenerExt as _;
use dynoxide::Database;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::dynamodb;
use crate::error::LocalError;
use crate::http::{Services, router};
use crate::s3::service::S3Service;
use crate::secrets::SecretsService;
use crate::server::{ServerThread, bind, url_of};
use crate::sqs::service::SqsService;
use crate::template::error::TemplateError;
use crate::template::{DATA_YAML, Template};

/// Options of the endpoints. The default: free ports, data in memory, the system's clock, the product's own template.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Port of SQS, Secrets Manager and S3 on 127.0.0.1; 0 takes any that is free.
    pub sqs_port: u16,
    /// Port of DynamoDB on 127.0.0.1; 0 takes any that is free.
    pub dynamodb_port: u16,
    /// Where data is kept; without it everything is gone when the endpoints stop.
    pub data_dir: Option<PathBuf>,
    /// The clock of queues, and of tables in memory.
    pub clock: Clock,
    /// First part of every queue's and table's name: the template's parameter `Prefix`.
    pub prefix: String,
    /// Other parameters of the template, such as `MaxReceiveCount`.
    pub parameters: BTreeMap<String, String>,
    /// Text of another template than the product's own.
    pub template: Option<String>,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            sqs_port: 0,
            dynamodb_port: 0,
            data_dir: None,
            clock: Clock::system(),
            prefix: "toolfleet".to_owned(),
            parameters: BTreeMap::new(),
            template: None,
        }
    }
}

const SQS: &str = "SQS";
const DYNAMODB: &str = "DynamoDB";

/// The running endpoints. [`LocalEndpoints::shutdown`] lets running requests finish; dropping stops them at once.
#[derive(Debug)]
pub struct LocalEndpoints {
    sqs: ServerThread,
    dynamodb: ServerThread,
    sqs_url: String,
    dynamodb_url: String,
    service: Arc<SqsService>,
    database: DatabaseHandle,
    template: Template,
    /// Held as long as the endpoints run, released by the system even after `kill -9`.
    _data_dir_lock: Option<File>,
}

/// The database, and its path for error messages.
struct DatabaseHandle {
    database: Database,
    path: PathBuf,
}

impl std::fmt::Debug for DatabaseHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("DatabaseHandle").field("path", &self.path).finish_non_exhaustive()
    }
}

impl LocalEndpoints {
    /// Starts the endpoints and creates the template's queues and tables that are not there yet.
    ///
    /// # Errors
    /// See [`LocalError`]: ports, the data directory, damaged files, the template.
    pub async fn start(options: LocalOptions) -> Result<Self, LocalError> {
        // Opening files and creating tables blocks the thread.
        match tokio::task::spawn_blocking(move || Self::start_blocking(options)).await {
            Ok(started) => started,
            Err(error) => Err(LocalError::Thread { service: SQS, source: io::Error::other(error) }),
        }
    }

    /// As [`LocalEndpoints::start`], for a caller without a runtime. It takes some milliseconds.
    ///
    /// # Errors
    /// As [`LocalEndpoints::start`].
    pub fn start_blocking(options: LocalOptions) -> Result<Self, LocalError> {
        let template = read_template(&options)?;
        let lock = options.data_dir.as_deref().map(claim_directory).transpose()?;
        let file = |name: &str| options.data_dir.as_ref().map(|directory| directory.join(name));
        let sqs_listener = bind(SQS, options.sqs_port)?;
        let dynamodb_listener = bind(DYNAMODB, options.dynamodb_port)?;
        let sqs_url = url_of(SQS, options.sqs_port, &sqs_listener)?;
        let dynamodb_url = url_of(DYNAMODB, options.dynamodb_port, &dynamodb_listener)?;

        let stopping = CancellationToken::new();
        let database_file = file("dynamodb.sqlite");
        let database = dynamodb::open(database_file.as_deref(), &options.clock)?;
        dynamodb::create_tables(&database, &template.tables)?;
        let journal = file("sqs.journal");
        let service =
            SqsService::open(journal.as_deref(), options.clock.clone(), sqs_url.clone(), stopping.clone())?;
        create_queues(&service, &template)?;
        let service = Arc::new(service);
        let secrets = SecretsService::open(file("secrets.journal").as_deref(), options.clock.clone())?;
        let s3 = open_s3(file("s3"), options.clock, &template)?;
        let services = Services { sqs: Arc::clone(&service), secrets: Arc::new(secrets), s3: Arc::new(s3) };

        let stop = stopping.clone();
        let sqs =
            ServerThread::spawn("local-sqs", stopping.clone(), move || serve(sqs_listener, services, stop))
                .map_err(|source| LocalError::Thread { service: SQS, source })?;
        let (stop, served) = (stopping.clone(), database.clone());
        let dynamodb = ServerThread::spawn("local-dynamodb", stopping, move || {
            dynamodb::serve(dynamodb_listener, served, stop)
        })
        .map_err(|source| LocalError::Thread { service: DYNAMODB, source })?;
        let path = database_file.unwrap_or_else(|| dynamodb::IN_MEMORY.into());
        let database = DatabaseHandle { database, path };
        Ok(Self { sqs, dynamodb, sqs_url, dynamodb_url, service, database, template, _data_dir_lock: lock })
    }

    /// Endpoint URL of SQS. The same port serves Secrets Manager, selected by `X-Amz-Target`, and S3.
    #[must_use]
    pub fn sqs_url(&self) -> &str {
        &self.sqs_url
    }

    /// Endpoint URL of Secrets Manager.
    #[must_use]
    pub fn secretsmanager_url(&self) -> &str {
        &self.sqs_url
    }

    /// Endpoint URL of S3, whose buckets are parts of the path.
    #[must_use]
    pub fn s3_url(&self) -> &str {
        &self.sqs_url
    }

    /// Endpoint URL of DynamoDB.
    #[must_use]
    pub fn dynamodb_url(&self) -> &str {
        &self.dynamodb_url
    }

    /// URL of a queue, whether it exists or not.
    #[must_use]
    pub fn queue_url(&self, name: &str) -> String {
        self.service.queue_url(name)
    }

    /// The queues and tables that were created at start, or found there.
    #[must_use]
    pub fn template(&self) -> &Template {
        &self.template
    }

    /// Deletes the rows whose time to live is over, and returns how many. The endpoints do this every minute by themselves.
    /// It blocks for some milliseconds.
    ///
    /// # Errors
    /// If the database cannot be written.
    pub fn delete_expired_rows(&self) -> Result<usize, LocalError> {
        let DatabaseHandle { database, path } = &self.database;
        database.sweep_ttl().map_err(|source| LocalError::Database { path: path.clone(), source })
    }

    /// Stops the endpoints: waiting receives are answered empty, running requests finish.
    pub async fn shutdown(self) {
        self.sqs.shutdown().await;
        self.dynamodb.shutdown().await;
    }
}

fn read_template(options: &LocalOptions) -> Result<Template, TemplateError> {
    let mut parameters = options.parameters.clone();
    parameters.insert("Prefix".to_owned(), options.prefix.clone());
    Template::parse(options.template.as_deref().unwrap_or(DATA_YAML), &parameters)
}

/// Creates the directory if it does not exist, and locks it against other processes.
fn claim_directory(path: &Path) -> Result<File, LocalError> {
    let failed = |source| LocalError::DataDir { path: path.to_owned(), source };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed)?;
    let lock = File::create(path.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(LocalError::DataDirInUse { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// The buckets, those of the template among them.
fn open_s3(directory: Option<PathBuf>, clock: Clock, template: &Template) -> Result<S3Service, LocalError> {
    let path = directory.clone().unwrap_or_default();
    let failed = |source| LocalError::DataDir { path: path.clone(), source };
    let service = S3Service::open(directory, clock).map_err(failed)?;
    for bucket in &template.buckets {
        service.create_bucket(&bucket.name).map_err(failed)?;
        service.expire_after(&bucket.name, bucket.expires_after_days);
    }
    Ok(service)
}

/// A queue kept from an earlier start gets the template's attributes, as a stack update would give them to it.
fn create_queues(service: &SqsService, template: &Template) -> Result<(), LocalError> {
    for queue in &template.queues {
        let created = service.run(|queues, now_ms| match queues.queue(&queue.name) {
            Ok(existing) if existing.attributes.first_difference(&queue.attributes).is_none() => Ok(()),
            Ok(_) => queues.set_attributes(&queue.name, queue.attributes.clone(), now_ms),
            Err(_) => queues.create(&queue.name, queue.attributes.clone(), BTreeMap::new(), now_ms),
        });
        created
            .map_err(|error| LocalError::Queue { queue: queue.name.clone(), problem: error.to_string() })?;
    }
    Ok(())
}

async fn serve(listener: std::net::TcpListener, services: Services, stopping: CancellationToken) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener.tap_io(|stream| {
            // Small answers must not wait for the acknowledgement of the one before.
            let _only_slower_if_refused = stream.set_nodelay(true);
        }),
        Err(error) => return tracing::error!(%error, "the SQS endpoint could not listen"),
    };
    let service = Arc::clone(&services.sqs);
    let served = axum::serve(listener, router(services)).with_graceful_shutdown(stopping.cancelled_owned());
    tokio::select! {
        result = async { served.await } => {
            if let Err(error) = result {
                tracing::error!(%error, "the SQS endpoint ended");
            }
        }
        // The timekeeper ends when the endpoint stops; the server still finishes its requests then.
        () = async { service.keep_time().await; std::future::pending().await } => {}
    }
}
