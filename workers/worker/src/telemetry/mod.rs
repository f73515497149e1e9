//! Owns what a worker tells of itself: logs to stderr, traces and metrics to an OTLP receiver, metrics to Prometheus.
//!
//! What nobody receives is not made: without an OTLP endpoint there are no spans but the one that names a log line's call, and
//! without a receiver of metrics nothing is counted.
//!
//! **Invariant:** telemetry never holds up a call. Queues are bounded and drop what does not fit; a receiver that is missing,
//! slow or dead costs a worker at most [`FLUSH`] at its very end.

pub(crate) mod meters;
pub(crate) mod trace;

use std::io::IsTerminal as _;
use std::time::Duration;

use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use toolfleet_executors::spans::TARGET;
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, fmt};

pub use meters::Meters;
use toolfleet_config::settings::ConfigError;

/// How long the last traces and metrics may take on their way when the worker leaves.
pub const FLUSH: Duration = Duration::from_secs(3);
/// The scope of spans and metrics.
const SCOPE: &str = "toolfleet-worker";

/// What is told, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// The log filter, in the words of tracing's EnvFilter.
    pub log: String,
    /// How log lines look.
    pub format: LogFormat,
    /// Traces go to an OTLP receiver.
    pub traces: bool,
    /// Metrics go to an OTLP receiver.
    pub metrics: bool,
    /// Metrics are offered to Prometheus.
    pub prometheus: bool,
    /// What the worker is called in traces and metrics.
    pub service: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

impl TelemetryConfig {
    /// Reads the configuration through `var`. The exporters read the rest of the OTEL_ variables themselves: headers, time-outs,
    /// intervals, sampler.
    pub fn read(var: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let set = |name: &str| var(name).is_some_and(|value| !value.trim().is_empty());
        let format = match var("TOOLFLEET_LOG_FORMAT").as_deref() {
            Some("json") => LogFormat::Json,
            Some("text") => LogFormat::Text,
            None | Some("") if std::io::stderr().is_terminal() => LogFormat::Text,
            None | Some("") => LogFormat::Json,
            Some(other) => {
                let text = format!(
                    "is `{other}`; accepted are json and text (unset: text on a terminal, else json)"
                );
                return Err(ConfigError::new("TOOLFLEET_LOG_FORMAT", text));
            }
        };
        if let Some(protocol) = var("OTEL_EXPORTER_OTLP_PROTOCOL").filter(|p| p != "http/protobuf") {
            let text =
                format!("is `{protocol}`; accepted is http/protobuf, usually on port 4318 of the receiver");
            return Err(ConfigError::new("OTEL_EXPORTER_OTLP_PROTOCOL", text));
        }
        let on = !var("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let to_otlp = |signal: &str| {
            let none = var(&format!("OTEL_{signal}_EXPORTER")).is_some_and(|value| value == "none");
            let endpoint = format!("OTEL_EXPORTER_OTLP_{signal}_ENDPOINT");
            on && !none && (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set(&endpoint))
        };
        Ok(Self {
            log: var("TOOLFLEET_LOG").filter(|log| !log.is_empty()).unwrap_or_else(|| "info".into()),
            format,
            traces: to_otlp("TRACES"),
            metrics: to_otlp("METRICS"),
            prometheus: set("TOOLFLEET_HTTP_ADDR"),
            service: var("OTEL_SERVICE_NAME").filter(|n| !n.is_empty()).unwrap_or_else(|| SCOPE.into()),
        })
    }
}

/// What runs on behalf of telemetry, until [`Telemetry::end`].
#[derive(Debug)]
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    registry: Option<prometheus::Registry>,
    meters: Meters,
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
        let lines = lines(config.format).with_filter(log.and(filter_fn(|m| m.target() != TARGET)));
        let installed = tracing_subscriber::registry().with(spans).with(lines).try_init();
        installed.map_err(|e| wrong(&e))?;
        let meters = match &metrics {
            Some(provider) => Meters::new(&provider.meter(SCOPE)),
            None => Meters::none(),
        };
        Ok(Self { traces, metrics, registry, meters })
    }

    /// What the worker counts with.
    pub fn meters(&self) -> Meters {
        self.meters.clone()
    }

    /// The metrics as Prometheus reads them.
    pub fn registry(&self) -> Option<prometheus::Registry> {
        self.registry.clone()
    }

    /// Sends what is left, for [`FLUSH`] at most.
    pub async fn end(self) {
        let flush = tokio::task::spawn_blocking(move || {
            // Whoever does not receive it has been told of in the log before.
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
    // Places in our source say nothing to whoever reads a trace.
    let layer =
        layer.with_location(false).with_threads(false).with_target(false).with_tracked_inactivity(false);
    layer.with_filter(filter_fn(|metadata| metadata.target() == TARGET)).boxed()
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
        LogFormat::Text => fmt::layer().with_writer(std::io::stderr).boxed(),
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn what_is_not_spoken_is_refused_with_what_is() {
        let error = read(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err().to_string();
        assert!(error.contains("OTEL_EXPORTER_OTLP_PROTOCOL: is `grpc`") && error.contains("http/protobuf"));
        let error = read(&[("TOOLFLEET_LOG_FORMAT", "xml")]).unwrap_err().to_string();
        assert!(error.contains("TOOLFLEET_LOG_FORMAT: is `xml`") && error.contains("json"), "{error}");
    }
}
