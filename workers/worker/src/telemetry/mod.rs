//! Logs to stderr, traces and metrics to an OTLP receiver, metrics to Prometheus.
//!
//! Nothing is produced without a receiver: without an OTLP endpoint there are no spans but the one that names a log line's call, and without a
//! receiver of metrics nothing is counted. Telemetry never delays a call: its queues are bounded and drop what does not fit. A receiver
//! that is missing, slow or unreachable costs a worker at most [`FLUSH`] at its very end.

pub(crate) mod meters;
mod metric_lines;
pub(crate) mod trace;

use std::convert::Infallible;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches as _};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::Semaphore;
use toolfleet_config::settings::{self, ConfigError, Variables};
use toolfleet_executors::spans::TARGET;
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

pub use meters::Meters;
pub(crate) use meters::{CacheUse, MOST_SERVERS, OTHER_SERVERS};
pub use metric_lines::MetricLines;

/// How long the last traces and metrics may take when the worker ends.
pub const FLUSH: Duration = Duration::from_secs(3);
/// The scope of spans and metrics.
const SCOPE: &str = "toolfleet-worker";

/// What is logged, traced and counted, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// The log filter, in the words of tracing's EnvFilter.
    pub log: String,
    /// The format of log lines.
    pub format: LogFormat,
    /// Traces go to an OTLP receiver.
    pub traces: bool,
    /// Metrics go to an OTLP receiver.
    pub metrics: bool,
    /// Metrics are offered to Prometheus.
    pub prometheus: bool,
    /// What the worker is called in traces and metrics.
    pub service: String,
    /// What the fleet is called in CloudWatch, where the log has lines of its metrics.
    pub metric_lines: Option<String>,
    /// The agent that takes these lines in place of the log.
    pub metric_agent: Option<SocketAddr>,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The declarations of these settings.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logs, traces and metrics")]
pub struct TelemetryArgs {
    /// The log filter, for example warn,toolfleet_worker=debug.
    #[arg(
        long,
        env = "TOOLFLEET_LOG",
        hide_env_values = true,
        value_name = "FILTER",
        default_value = "info",
        value_parser = log_filter
    )]
    log: String,
    /// The format of log lines: json or text. Unset, text on a terminal, else json.
    #[arg(
        long,
        env = "TOOLFLEET_LOG_FORMAT",
        hide_env_values = true,
        value_name = "json|text",
        value_parser = log_format
    )]
    log_format: Option<LogFormat>,
    /// The name of the fleet in CloudWatch. The worker that makes the fleet's summary writes metrics of the whole fleet to its log, in the embedded metric format; where that one has no such name, those that have one do. Unset, none.
    #[arg(
        long,
        env = "TOOLFLEET_METRIC_LINES",
        hide_env_values = true,
        value_name = "NAME",
        value_parser = fleet_name
    )]
    metric_lines: Option<String>,
    /// Where an agent of CloudWatch takes these lines by UDP, for example 127.0.0.1:25888. Unset, they are in the log.
    #[arg(
        long,
        env = "TOOLFLEET_METRIC_AGENT",
        hide_env_values = true,
        value_name = "ADDRESS",
        value_parser = agent_address
    )]
    metric_agent: Option<SocketAddr>,
    /// The receiver of traces and metrics over http/protobuf.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", hide_env_values = true, value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// The receiver of traces, if another one.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", hide_env_values = true, value_name = "URL")]
    otlp_traces_endpoint: Option<String>,
    /// The receiver of metrics, if another one.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", hide_env_values = true, value_name = "URL")]
    otlp_metrics_endpoint: Option<String>,
    /// The protocol of the receiver. Accepted is http/protobuf.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_PROTOCOL",
        hide_env_values = true,
        value_name = "PROTOCOL",
        value_parser = otlp_protocol
    )]
    otlp_protocol: Option<String>,
    /// `none` sends no traces.
    #[arg(long, env = "OTEL_TRACES_EXPORTER", hide_env_values = true, value_name = "EXPORTER")]
    traces_exporter: Option<String>,
    /// `none` sends no metrics.
    #[arg(long, env = "OTEL_METRICS_EXPORTER", hide_env_values = true, value_name = "EXPORTER")]
    metrics_exporter: Option<String>,
    /// `true` sends neither traces nor metrics.
    #[arg(long, env = "OTEL_SDK_DISABLED", hide_env_values = true, value_name = "true|false")]
    otel_sdk_disabled: Option<String>,
    /// The worker's name in traces and metrics. Unset, toolfleet-worker.
    #[arg(long, env = "OTEL_SERVICE_NAME", hide_env_values = true, value_name = "NAME")]
    otel_service_name: Option<String>,
}

fn log_filter(text: &str) -> Result<String, Infallible> {
    Ok(if text.is_empty() { "info".to_owned() } else { text.to_owned() })
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        other => {
            Err(format!("is `{other}`; accepted are json and text (unset: text on a terminal, else json)"))
        }
    }
}

fn agent_address(text: &str) -> Result<SocketAddr, String> {
    let parsed = text.trim().parse();
    parsed.map_err(|_| format!("is `{text}`; accepted is an address with a port, as in 127.0.0.1:25888"))
}

/// Part of a namespace of CloudWatch.
fn fleet_name(text: &str) -> Result<String, String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !text.is_empty() && text.len() <= 100 && text.chars().all(is_good) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "is `{text}`; accepted are up to 100 letters, digits, -, _ and ., as in the prefix of the tables"
    ))
}

fn otlp_protocol(text: &str) -> Result<String, String> {
    match text {
        "http/protobuf" => Ok(text.to_owned()),
        other => {
            Err(format!("is `{other}`; accepted is http/protobuf, usually on port 4318 of the receiver"))
        }
    }
}

impl TelemetryConfig {
    /// Reads the settings through `variables`. The exporters read the other OTEL_ variables themselves: headers, time-outs, intervals,
    /// sampler.
    ///
    /// # Errors
    /// The first variable that is wrong.
    pub fn read(variables: Variables<'_>) -> Result<Self, ConfigError> {
        let prometheus = variables("TOOLFLEET_HTTP_ADDR").is_some_and(|value| !value.trim().is_empty());
        Ok(Self::of(settings::read(variables)?, prometheus))
    }

    /// The settings of a command line.
    ///
    /// # Errors
    /// The matches are not those of the worker's command.
    pub fn of_matches(matches: &ArgMatches) -> Result<Self, ConfigError> {
        let args = TelemetryArgs::from_arg_matches(matches);
        let prometheus = matches!(matches.try_get_one::<SocketAddr>("http_addr"), Ok(Some(_)));
        Ok(Self::of(args.map_err(|error| ConfigError::new("settings", error.to_string()))?, prometheus))
    }

    fn of(args: TelemetryArgs, prometheus: bool) -> Self {
        let format = args.log_format.unwrap_or_else(|| {
            if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json }
        });
        let on = !args.otel_sdk_disabled.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let to_otlp = |exporter: Option<&str>, endpoint: bool| {
            on && exporter != Some("none") && (args.otlp_endpoint.is_some() || endpoint)
        };
        Self {
            traces: to_otlp(args.traces_exporter.as_deref(), args.otlp_traces_endpoint.is_some()),
            metrics: to_otlp(args.metrics_exporter.as_deref(), args.otlp_metrics_endpoint.is_some()),
            log: args.log,
            format,
            prometheus,
            metric_lines: args.metric_lines,
            metric_agent: args.metric_agent,
            service: args.otel_service_name.unwrap_or_else(|| SCOPE.into()),
        }
    }
}

/// The providers of traces and metrics, until [`Telemetry::end`].
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    registry: Option<prometheus::Registry>,
    meters: Meters,
}

/// Sends the traces and metrics gathered so far, of a worker that may be frozen or ended without notice.
#[derive(Debug, Clone)]
pub struct Flush {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    /// Held while something is sent: a receiver that does not answer keeps one thread, however often it is tried.
    under_way: Arc<Semaphore>,
}

impl Flush {
    fn new(traces: Option<SdkTracerProvider>, metrics: Option<SdkMeterProvider>) -> Self {
        Self { traces, metrics, under_way: Arc::new(Semaphore::new(1)) }
    }

    /// Sends them, for [`FLUSH`] at most; nothing while an earlier sending is under way, the next one has it. A receiver that fails is logged
    /// by the exporter.
    pub async fn send(&self) {
        let Self { traces, metrics, under_way } = self.clone();
        let Ok(alone) = under_way.try_acquire_owned() else { return };
        let flush = tokio::task::spawn_blocking(move || {
            let _traces = traces.map(|provider| provider.force_flush());
            let _metrics = metrics.map(|provider| provider.force_flush());
            drop(alone);
        });
        let _late = tokio::time::timeout(FLUSH, flush).await;
    }
}

/// Telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("telemetry cannot be set up: {0}; correct the OTEL_ variables, or unset them to go without")]
pub struct TelemetryError(String);

impl Telemetry {
    /// Sets up logs, traces and metrics for this process. To be called once, at its start.
    pub fn start(config: &TelemetryConfig) -> Result<Self, TelemetryError> {
        let wrong = |error: &dyn std::fmt::Display| TelemetryError(error.to_string());
        let log = EnvFilter::builder().parse(&config.log).map_err(|e| {
            TelemetryError(format!("TOOLFLEET_LOG is `{}`, which is no filter ({e})", config.log))
        })?;
        let resource = Resource::builder()
            .with_service_name(config.service.clone())
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let resource = resource.build();
        let traces = config.traces.then(|| SpanExporter::builder().with_http().build()).transpose();
        let traces = traces.map_err(|e| wrong(&e))?.map(|exporter| {
            SdkTracerProvider::builder().with_resource(resource.clone()).with_batch_exporter(exporter).build()
        });
        let (metrics, registry) = metrics(config, resource).map_err(|e| wrong(&e))?;
        let spans = traces.as_ref().map(spans);
        // The hint lets the log's level be that of the process: the SDK's events below it cost a comparison each.
        let no_spans_of_calls = filter_fn(|m| m.target() != TARGET).with_max_level_hint(LevelFilter::TRACE);
        let lines = lines(config.format).with_filter(log.and(no_spans_of_calls));
        let installed = tracing_subscriber::registry().with(spans).with(lines).try_init();
        installed.map_err(|e| wrong(&e))?;
        let meters = match &metrics {
            Some(provider) => Meters::new(&provider.meter(SCOPE)),
            None => Meters::none(),
        };
        let meters = match &config.metric_lines {
            Some(fleet) => meters.with_lines(match config.metric_agent {
                Some(agent) => MetricLines::to_agent(fleet, agent).map_err(|e| wrong(&e))?,
                None => MetricLines::to_stderr(fleet),
            }),
            None => meters,
        };
        Ok(Self { traces, metrics, registry, meters })
    }

    /// What the worker counts with.
    pub fn meters(&self) -> Meters {
        self.meters.clone()
    }

    /// What sends what was gathered so far; nothing where nothing goes to a receiver.
    pub fn flush(&self) -> Option<Flush> {
        let (traces, metrics) = (self.traces.clone(), self.metrics.clone());
        (traces.is_some() || metrics.is_some()).then(|| Flush::new(traces, metrics))
    }

    /// The metrics as Prometheus reads them.
    pub fn registry(&self) -> Option<prometheus::Registry> {
        self.registry.clone()
    }

    /// Sends what is left, for [`FLUSH`] at most. The thread that waits for the receiver may go on for longer: the program ends without it.
    pub async fn end(self) {
        let flush = tokio::task::spawn_blocking(move || {
            // A receiver that fails has been logged before.
            let _traces = self.traces.map(|provider| provider.shutdown_with_timeout(FLUSH));
            let _metrics = self.metrics.map(|provider| provider.shutdown_with_timeout(FLUSH));
        });
        let _late = tokio::time::timeout(FLUSH, flush).await;
    }
}

/// Sends the spans of calls to `provider`.
pub fn spans<S>(provider: &SdkTracerProvider) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    global::set_text_map_propagator(TraceContextPropagator::new());
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer(SCOPE));
    // Source locations are of no use in a trace.
    let layer =
        layer.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
    let of_calls =
        filter_fn(|metadata| *metadata.level() <= LevelFilter::INFO && metadata.target() == TARGET);
    layer.with_filter(of_calls.with_max_level_hint(LevelFilter::INFO)).boxed()
}

type Metrics = (Option<SdkMeterProvider>, Option<prometheus::Registry>);

fn metrics(config: &TelemetryConfig, resource: Resource) -> Result<Metrics, String> {
    if !config.metrics && !config.prometheus {
        return Ok((None, None));
    }
    let mut provider = SdkMeterProvider::builder().with_resource(resource);
    if config.metrics {
        let exporter = MetricExporter::builder().with_http().build().map_err(|e| e.to_string())?;
        provider = provider.with_periodic_exporter(exporter);
    }
    let registry = config.prometheus.then(prometheus::Registry::new);
    if let Some(registry) = &registry {
        let exporter = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
        provider = provider.with_reader(exporter.map_err(|e| e.to_string())?);
    }
    Ok((Some(provider.build()), registry))
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    match format {
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(std::io::stderr).boxed()
        }
        LogFormat::Text => {
            let is_terminal = std::io::stderr().is_terminal();
            fmt::layer().with_ansi(settings::is_coloured(is_terminal)).with_writer(std::io::stderr).boxed()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, mpsc};

    use futures::FutureExt as _;
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};
    use tokio::sync::Notify;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<TelemetryConfig, ConfigError> {
        let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        TelemetryConfig::read(&find)
    }

    #[test]
    fn nothing_is_made_that_nobody_asked_for() {
        let config = read(&[]).unwrap();
        assert!(!config.traces && !config.metrics && !config.prometheus);
    }

    #[test]
    fn one_endpoint_serves_traces_and_metrics_and_each_can_be_switched_off() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        let config = read(&[endpoint]).unwrap();
        assert!(config.traces && config.metrics);
        let config = read(&[endpoint, ("OTEL_METRICS_EXPORTER", "none")]).unwrap();
        assert!(config.traces && !config.metrics);
        let config = read(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).unwrap();
        assert!(!config.traces && !config.metrics);
    }

    /// A receiver that does not answer until it is told to.
    #[derive(Debug)]
    struct Stuck {
        asked: AtomicUsize,
        began: Notify,
        answers: Mutex<mpsc::Receiver<()>>,
    }

    #[derive(Debug)]
    struct Processor(Arc<Stuck>);

    impl SpanProcessor for Processor {
        fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

        fn on_end(&self, _: SpanData) {}

        fn force_flush(&self) -> OTelSdkResult {
            self.0.asked.fetch_add(1, Ordering::SeqCst);
            self.0.began.notify_one();
            let _told = self.0.answers.lock().unwrap().recv();
            Ok(())
        }

        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_receiver_that_does_not_answer_keeps_one_thread() {
        let (answer, answers) = mpsc::channel();
        let stuck = Stuck { asked: AtomicUsize::new(0), began: Notify::new(), answers: Mutex::new(answers) };
        let stuck = Arc::new(stuck);
        let provider =
            SdkTracerProvider::builder().with_span_processor(Processor(Arc::clone(&stuck))).build();
        let flush = Flush::new(Some(provider), None);
        let first = tokio::spawn({
            let flush = flush.clone();
            async move { flush.send().await }
        });
        stuck.began.notified().await;
        for _ in 0..20 {
            assert!(flush.send().now_or_never().is_some(), "it waits for the first one");
        }
        tokio::time::pause();
        tokio::time::advance(FLUSH * 2).await;
        first.await.unwrap();
        assert!(flush.send().now_or_never().is_some(), "the first one was given up, and still waits");
        assert_eq!(stuck.asked.load(Ordering::SeqCst), 1);

        answer.send(()).unwrap();
        drop(answer);
        tokio::time::resume();
        drop(flush.under_way.acquire().await.unwrap());
        flush.send().await;
        assert_eq!(stuck.asked.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn what_is_not_spoken_is_refused_with_what_is() {
        let error = read(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err().to_string();
        assert!(error.contains("OTEL_EXPORTER_OTLP_PROTOCOL: is `grpc`") && error.contains("http/protobuf"));
        let error = read(&[("TOOLFLEET_LOG_FORMAT", "xml")]).unwrap_err().to_string();
        assert!(error.contains("TOOLFLEET_LOG_FORMAT: is `xml`") && error.contains("json"), "{error}");
    }
}
