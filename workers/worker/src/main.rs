//! `toolfleet-worker`: reads its environment, starts, and leaves cleanly at SIGTERM.
//!
//! **Invariant:** links no local endpoint; what it talks to is AWS, or whatever stands behind the SDK's endpoint variables.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::net::TcpListener;
use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_worker::config;
use toolfleet_worker::services::http;
use toolfleet_worker::shutdown::{self, ServiceFailed};
use toolfleet_worker::telemetry::{Telemetry, TelemetryConfig};
use toolfleet_worker::{ServiceOptions, Worker, WorkerConfig, start};

/// A call allocates and frees many small things on several threads, at which the system's allocator spends a fifth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HELP: &str = "toolfleet-worker: executes tool-call requests from an SQS queue on MCP servers.

Without arguments it works; `toolfleet-worker health` asks the worker at TOOLFLEET_HTTP_ADDR whether it is ready.
The environment configures both:
  TOOLFLEET_QUEUE_URL            URL of the calls queue (required)
  TOOLFLEET_DEAD_LETTER_QUEUE_URL  URL of the dead-letter queue whose calls it ends (none)
  TOOLFLEET_REAP_AFTER_MS        how long after its sending a dead letter is left to operators (900000)
  TOOLFLEET_CATALOG              path of the catalog, secret://NAME or table://KEY (required)
  TOOLFLEET_CATALOG_REFRESH_MS   how often it is looked at again; SIGHUP does at once (30000)
  TOOLFLEET_ALLOW_STDIO          whether the catalog may name programs to be started (only one in a file may)
  TOOLFLEET_STDIO_MAX_PROGRAMS   programs of one server that is a program, on this worker (16)
  TOOLFLEET_STDIO_START_MS       how long a program may take from its start to its first answer (60000)
  TOOLFLEET_STDIO_IDLE_MS        how long a program that nobody uses is kept (600000)
  TOOLFLEET_TENANTS              tenants of a catalog that names none: a,b or * (none)
  TOOLFLEET_TABLE_PREFIX         prefix of the tables' names (toolfleet)
  TOOLFLEET_HISTORY_SHARDS       partitions per tenant and hour of history (1)
  TOOLFLEET_PAYLOAD_BUCKET       bucket of results that are too large for a record (none)
  TOOLFLEET_PAYLOAD_THRESHOLD_BYTES  compressed bytes above which a result goes there (9216)
  TOOLFLEET_PAYLOAD_SOURCES      other buckets that requests may refer to: BUCKET, BUCKET/PREFIX/, BUCKET/{tenant}/ (none)
  TOOLFLEET_SLOTS                calls of one tenant to one server at once; a quarter more is left to others (64)
  TOOLFLEET_LEASE_MS             how long a claim holds without a heartbeat (30000)
  TOOLFLEET_CLOCK_SKEW_MS        allowed difference between workers' clocks (2000)
  TOOLFLEET_DEFAULT_DEADLINE_MS  deadline of a call that names none (3600000)
  TOOLFLEET_DRAIN_MS             time for running calls after SIGTERM (100000)
  TOOLFLEET_MAX_ANSWER_BYTES     largest answer of a server (16777216)
  TOOLFLEET_UNREACHABLE_WAIT_MS  how long a call waits for a server that never answered (120000)
  TOOLFLEET_ALLOW_PRIVATE_ADDRESSES
                                 networks beside the public ones that may be called, e.g. 10.0.0.0/8,127.0.0.0/8 (none)
  TOOLFLEET_ALLOW_HTTP           whether servers may be called without TLS (false)
  TOOLFLEET_EXTRA_ROOTS          PEM file of certificate authorities beside the system's (none)
  TOOLFLEET_COGNITO_ENDPOINT     Cognito's address in place of each region's, e.g. a VPC endpoint (none)
  TOOLFLEET_WORKER_ID            name in audit records (random)
  TOOLFLEET_LOG                  log filter (info), e.g. warn,toolfleet_worker=debug
  TOOLFLEET_LOG_FORMAT           json or text (text on a terminal, else json)
  TOOLFLEET_HTTP_ADDR            where /health/live, /health/ready and /metrics are answered, e.g. 0.0.0.0:9464 (nowhere)
  OTEL_EXPORTER_OTLP_ENDPOINT    receiver of traces and metrics over http/protobuf (none), and OpenTelemetry's other variables
HTTPS_PROXY, HTTP_PROXY, NO_PROXY for requests to servers, and the AWS SDK's own variables: AWS_REGION, AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL_S3, ...";

fn main() -> ExitCode {
    toolfleet_mcp::launched().unwrap_or_else(asked)
}

#[tokio::main]
async fn asked() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (argument, more) = (arguments.next(), arguments.next());
    match (argument.as_deref(), more) {
        (None, _) => work().await,
        (Some("--version" | "-V"), None) => {
            println!("toolfleet-worker {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        (Some("--help" | "-h"), None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        (Some("health"), None) => health().await,
        (Some(argument), _) => {
            eprintln!("toolfleet-worker takes no argument `{argument}`\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

/// Whether the worker beside this process is ready, by its exit code.
async fn health() -> ExitCode {
    let asked = match config::http_address(&variable) {
        Ok(Some(address)) => http::ask(address).await,
        Ok(None) => Err("TOOLFLEET_HTTP_ADDR: is not set; the worker answers nowhere".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match asked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn work() -> ExitCode {
    let started = TelemetryConfig::read(&variable).map_err(anyhow::Error::from);
    let telemetry = match started.and_then(|config| Ok(Telemetry::start(&config)?)) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("toolfleet-worker cannot start: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let worked = run(&telemetry).await;
    let code = match &worked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ServiceFailed>() => {
            tracing::error!(code = "service_failed", "{error:#}");
            eprintln!("toolfleet-worker has ended: {error:#}");
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(code = "start_failed", "{error:#}");
            eprintln!("toolfleet-worker cannot start: {error:#}");
            ExitCode::FAILURE
        }
    };
    telemetry.end().await;
    code
}

async fn run(telemetry: &Telemetry) -> anyhow::Result<()> {
    let config = WorkerConfig::read(&variable)?;
    // A store of another make has no names of hosts for its buckets, so that they are asked for by path.
    let s3_endpoint = variable("AWS_ENDPOINT_URL_S3").filter(|url| !url.is_empty());
    let aws = Aws::connect(AwsOptions { s3_endpoint, ..AwsOptions::default() }).await;
    let catalog = start::read_catalog(&config, &aws).await?;
    let listener = match config.http {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("TOOLFLEET_HTTP_ADDR: cannot listen on {address}"))?)
        }
    };
    let services = ServiceOptions {
        reload: Some((config.catalog.clone(), true)),
        http: listener.map(|listener| (listener, telemetry.registry())),
    };
    let mut worker = Worker::start(&config, aws, catalog, telemetry.meters(), services).await?;
    tokio::select! {
        signal = shutdown::signal() => {
            tracing::info!(signal = signal?, "the worker drains: it takes nothing new and finishes what runs");
        }
        // A service kept failing, and the worker has drained.
        ended = worker.ended() => return Ok(ended?),
    }
    worker.drain();
    Ok(worker.ended().await?)
}

#[expect(clippy::disallowed_methods, reason = "the environment is read here and injected")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
