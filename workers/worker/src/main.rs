//! `toolfleet-worker`: reads its settings, starts the worker, and drains it at SIGTERM.
//!
//! It links no local endpoint: it uses AWS, or what the SDK's endpoint variables name.

use std::io::{ErrorKind, Write as _};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::ArgMatches;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_config::settings::{ConfigError, SettingsError};
use toolfleet_worker::WorkerConfig;
use toolfleet_worker::config::command_line::{Invocation, reference};
use toolfleet_worker::config::http_address;
use toolfleet_worker::services::http;
use toolfleet_worker::services::invocations::RuntimeApi;
use toolfleet_worker::shutdown::{self, ServiceFailed};
use toolfleet_worker::start::{self, Starting};
use toolfleet_worker::telemetry::{Telemetry, TelemetryConfig};

/// A call allocates and frees many small objects on several threads; with the system's allocator that takes a fifth of the CPU time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// So long a thread for blocking work waits for more. What it has freed, such as a catalog's text, returns to the system when it ends.
const BLOCKING_THREAD: Duration = Duration::from_secs(1);

/// How long the end waits for what the runtime still does, after all calls have ended and telemetry has been sent: a receiver or a name server
/// that does not answer keeps a thread for longer, which nobody waits for.
const LEFT_OVER: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    toolfleet_mcp::launched().unwrap_or_else(|| match runtime() {
        Ok(runtime) => {
            let code = runtime.block_on(invoked());
            runtime.shutdown_timeout(LEFT_OVER);
            code
        }
        Err(error) => {
            eprintln!("toolfleet-worker cannot start its runtime: {error}");
            ExitCode::FAILURE
        }
    })
}

/// A thread for each core of this process. With one core, tasks run on the main thread: no other has to be woken for them.
fn runtime() -> std::io::Result<Runtime> {
    let one_core = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    let mut builder = if one_core { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().thread_keep_alive(BLOCKING_THREAD).build()
}

async fn invoked() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    match Invocation::read(&arguments, &variable) {
        Ok(Invocation::Work(matches)) => work(Ok(matches)).await,
        Ok(Invocation::Health) => health().await,
        Ok(Invocation::Settings) => print(&reference()),
        Err(SettingsError::Value(error)) => work(Err(error)).await,
        Err(SettingsError::CommandLine(error)) => error.exit(),
    }
}

/// Prints it. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("toolfleet-worker cannot write: {error}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Whether the worker beside this process is ready, by its exit code.
async fn health() -> ExitCode {
    let answer = match http_address(&variable) {
        Ok(Some(address)) => http::ask(address).await,
        Ok(None) => Err("TOOLFLEET_HTTP_ADDR: is not set; the worker answers nowhere".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    match answer {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn work(matches: Result<ArgMatches, ConfigError>) -> ExitCode {
    let config = match &matches {
        Ok(matches) => TelemetryConfig::of_matches(matches),
        // The log is set up all the same, so that the wrong setting is in it.
        Err(_) => TelemetryConfig::read(&variable),
    };
    let started = config.map_err(anyhow::Error::from);
    let telemetry = match started.and_then(|config| Ok(Telemetry::start(&config)?)) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("toolfleet-worker cannot start: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let worked = Box::pin(run(matches, &telemetry)).await;
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
            tell_lambda(error).await;
            ExitCode::FAILURE
        }
    };
    telemetry.end().await;
    code
}

/// Tells Lambda why the worker cannot start, where it is a function: Lambda shows it to whoever invokes.
async fn tell_lambda(why: &anyhow::Error) {
    let Some(address) = variable("AWS_LAMBDA_RUNTIME_API") else { return };
    let told = match RuntimeApi::at(&address) {
        Ok(api) => api.fail_start(&format!("{why:#}")).await,
        Err(error) => Err(error),
    };
    if let Err(error) = told {
        tracing::error!(%error, code = "runtime_api_failed", "Lambda is not told why the worker cannot start");
    }
}

async fn run(matches: Result<ArgMatches, ConfigError>, telemetry: &Telemetry) -> anyhow::Result<()> {
    let config = WorkerConfig::of_matches(&matches?)?;
    // Other S3 implementations have no host name per bucket, so the path names the bucket.
    let s3_endpoint = variable("AWS_ENDPOINT_URL_S3").filter(|url| !url.is_empty());
    let aws = Aws::connect(AwsOptions { s3_endpoint, ..AwsOptions::default() }).await;
    let listener = match config.http {
        None => None,
        Some(address) => {
            let listener = TcpListener::bind(address).await;
            Some(listener.with_context(|| format!("TOOLFLEET_HTTP_ADDR: cannot listen on {address}"))?)
        }
    };
    let http = listener.map(|listener| (listener, telemetry.registry()));
    let starting = Starting::new(config.limits.drain, http)?.with_flush(telemetry.flush());
    let shutdown = starting.shutdown();
    let start = async {
        let catalog = start::read_catalog(&config, &aws).await?;
        let reload = Some((config.catalog.clone(), true));
        starting.start(&config, aws.clone(), catalog, telemetry.meters(), reload).await
    };
    let mut signal = pin!(shutdown::signal());
    let mut worker = tokio::select! {
        signal = &mut signal => {
            tracing::info!(signal = signal?, "the worker ends: it has not started and has no call");
            return Ok(());
        }
        started = start => started?,
        // The endpoint kept failing.
        () = shutdown.draining() => return Err(shutdown.failed().unwrap_or(ServiceFailed("HTTP endpoint")).into()),
    };
    tokio::select! {
        signal = signal => {
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
