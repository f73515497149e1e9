//! The settings of a worker: declared with clap, read once, and checked together. A worker with wrong settings does not start; the error
//! names the variable and the remedy.

pub mod command_line;
pub mod limits;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{ArgMatches, Args, FromArgMatches as _};
use toolfleet_config::catalog::{CatalogArgs, CatalogConfig};
use toolfleet_config::egress::{EgressArgs, EgressConfig};
use toolfleet_config::payload::{PayloadArgs, PayloadConfig};
use toolfleet_config::settings::{self, ConfigError, Variables, milliseconds, number};
use toolfleet_core::ids::WorkerId;
use toolfleet_core::request::Priority;
use url::Url;

use crate::queues::{QueueUrls, variable};
use limits::Limits;

pub use toolfleet_core::retention::OLDEST_MESSAGE_MS;

/// The settings of a worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The queues it reads.
    pub queue_urls: QueueUrls,
    /// The dead-letter queue whose calls it ends; without it they stay there for an operator.
    pub dead_letter_queue_url: Option<String>,
    /// How long after its first sending a dead letter is left to operators, unless its call's deadline passes before.
    pub reap_after: Duration,
    /// The prefix of its tables' names.
    pub table_prefix: String,
    /// Over how many partitions an hour of one tenant's history is spread.
    pub history_shards: u32,
    /// Where results and arguments by reference are.
    pub payloads: PayloadConfig,
    /// Where the catalog is, and how often it is read.
    pub catalog: CatalogConfig,
    /// The id of this worker in rows and records.
    pub worker: WorkerId,
    /// Where it answers health checks and Prometheus, if anywhere.
    pub http: Option<SocketAddr>,
    /// How its ECS task is protected while it has calls that take long, if at all.
    pub protection: Option<Protection>,
    /// Where it takes messages from invocations of a Lambda function, in place of receiving them.
    pub lambda: Option<LambdaConfig>,
    /// Slots, lease, deadlines, sizes.
    pub limits: Limits,
    /// Where requests may go, and how.
    pub egress_config: EgressConfig,
}

/// The Lambda function that the worker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LambdaConfig {
    /// Host and port of its runtime API.
    pub runtime_api: String,
    /// The most invocations at once, where Lambda manages instances. None where the environment is frozen between two invocations.
    pub at_once: Option<u32>,
}

/// How the worker's ECS task is protected from scale-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// The address of the task's agent.
    pub agent: Url,
    /// A call that has run for so long protects the task.
    pub after: Duration,
}

/// The declarations of the worker's own settings.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// The URL of the calls queue (output CallsQueueUrl of data.yaml; required).
    #[arg(
        long,
        env = "TOOLFLEET_QUEUE_URL",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Queue and tables"
    )]
    queue_url: Option<String>,
    /// The URL of the queue of calls with the priority high (output HighCallsQueueUrl of data.yaml). Unset, such calls are refused.
    #[arg(
        long,
        env = "TOOLFLEET_QUEUE_URL_HIGH",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Queue and tables"
    )]
    queue_url_high: Option<String>,
    /// The URL of the queue of calls with the priority low (output LowCallsQueueUrl of data.yaml). Unset, such calls are refused.
    #[arg(
        long,
        env = "TOOLFLEET_QUEUE_URL_LOW",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Queue and tables"
    )]
    queue_url_low: Option<String>,
    /// The URL of the dead-letter queue whose calls the worker ends (output CallsDeadLetterQueueUrl of data.yaml).
    #[arg(
        long,
        env = "TOOLFLEET_DEAD_LETTER_QUEUE_URL",
        hide_env_values = true,
        value_name = "URL",
        help_heading = "Queue and tables"
    )]
    dead_letter_queue_url: Option<String>,
    /// How long a dead letter is left to operators after its call's latest message was sent, in milliseconds, unless its deadline passes before.
    #[arg(
        long = "reap-after-ms",
        env = "TOOLFLEET_REAP_AFTER_MS",
        hide_env_values = true,
        value_name = "MS",
        default_value = "900000",
        value_parser = milliseconds(0, OLDEST_MESSAGE_MS / 2),
        help_heading = "Queue and tables"
    )]
    reap_after: Duration,
    /// The prefix of the tables' names.
    #[arg(
        long,
        env = "TOOLFLEET_TABLE_PREFIX",
        hide_env_values = true,
        value_name = "PREFIX",
        default_value = "toolfleet",
        help_heading = "Queue and tables"
    )]
    table_prefix: String,
    /// The partitions of one tenant's history per hour.
    #[arg(
        long,
        env = "TOOLFLEET_HISTORY_SHARDS",
        hide_env_values = true,
        value_name = "COUNT",
        default_value = "1",
        value_parser = number(1_u32, 1_000),
        help_heading = "Queue and tables"
    )]
    history_shards: u32,
    #[command(flatten)]
    catalog: CatalogArgs,
    #[command(flatten)]
    payloads: PayloadArgs,
    #[command(flatten)]
    limits: Limits,
    #[command(flatten)]
    egress: EgressArgs,
    #[command(flatten)]
    process: ProcessArgs,
}

/// The declarations of the settings of the process.
#[derive(Debug, Args)]
#[command(next_help_heading = "Process")]
struct ProcessArgs {
    /// The worker's name in audit records. Unset, a random one.
    #[arg(long, env = "TOOLFLEET_WORKER_ID", hide_env_values = true, value_name = "ID", value_parser = worker_id)]
    worker_id: Option<WorkerId>,
    /// Where /health/live, /health/ready, /health/services and /metrics are answered, for example 0.0.0.0:9464. Unset, nowhere.
    #[arg(
        long,
        env = "TOOLFLEET_HTTP_ADDR",
        hide_env_values = true,
        value_name = "ADDRESS",
        value_parser = socket_address
    )]
    http_addr: Option<SocketAddr>,
    /// On ECS: a call that has run for so long protects the worker's task from scale-in and deployments until it has ended, in milliseconds. Unset, none does. A worker that is protected for 15 to 20 minutes without a break receives nothing until such calls have ended.
    #[arg(
        long = "protect-after-ms",
        env = "TOOLFLEET_PROTECT_AFTER_MS",
        hide_env_values = true,
        value_name = "MS",
        value_parser = milliseconds(1_000, 86_400_000)
    )]
    protect_after: Option<Duration>,
    /// The address of the ECS agent; ECS sets it.
    #[arg(long, env = "ECS_AGENT_URI", hide_env_values = true, value_name = "URL", value_parser = agent_url)]
    ecs_agent_uri: Option<Url>,
    /// In a Lambda function: where invocations are taken, whose messages the worker runs in place of receiving them; Lambda sets it.
    #[arg(
        long,
        env = "AWS_LAMBDA_RUNTIME_API",
        hide_env_values = true,
        value_name = "ADDRESS",
        value_parser = runtime_api
    )]
    lambda_runtime_api: Option<String>,
    /// In a Lambda function with managed instances: the most invocations at once; Lambda sets it.
    #[arg(
        long,
        env = "AWS_LAMBDA_MAX_CONCURRENCY",
        hide_env_values = true,
        value_name = "COUNT",
        value_parser = number(1_u32, 10_000)
    )]
    lambda_max_concurrency: Option<u32>,
}

impl WorkerConfig {
    /// Reads the settings through `variables`.
    ///
    /// # Errors
    /// The first variable that is wrong, and the remedy.
    pub fn read(variables: Variables<'_>) -> Result<Self, ConfigError> {
        Self::of(settings::read(variables)?)
    }

    /// The settings of a command line.
    ///
    /// # Errors
    /// The first setting that is wrong, and the remedy.
    pub fn of_matches(matches: &ArgMatches) -> Result<Self, ConfigError> {
        let args = WorkerArgs::from_arg_matches(matches);
        Self::of(args.map_err(|error| ConfigError::new("settings", error.to_string()))?)
    }

    fn of(args: WorkerArgs) -> Result<Self, ConfigError> {
        const QUEUE: &str = "TOOLFLEET_QUEUE_URL";
        let WorkerArgs { queue_url, queue_url_high, queue_url_low, dead_letter_queue_url, .. } = args;
        let WorkerArgs { limits, process, .. } = args;
        let queue_url = queue_url.ok_or_else(|| {
            ConfigError::new(
                QUEUE,
                "is not set; give the URL of the calls queue (output CallsQueueUrl of data.yaml)",
            )
        })?;
        let queue_urls = QueueUrls { normal: queue_url, high: queue_url_high, low: queue_url_low };
        check_queues(&queue_urls, dead_letter_queue_url.as_deref())?;
        limits.check()?;
        let worker = match process.worker_id {
            Some(id) => id,
            None => WorkerId::parse(format!("w-{}", uuid::Uuid::new_v4().simple()))
                .map_err(|error| ConfigError::new("TOOLFLEET_WORKER_ID", error.to_string()))?,
        };
        Ok(Self {
            queue_urls,
            dead_letter_queue_url,
            reap_after: args.reap_after,
            table_prefix: args.table_prefix,
            history_shards: args.history_shards,
            payloads: PayloadConfig::of(args.payloads)?,
            catalog: CatalogConfig::of(args.catalog)?,
            worker,
            http: process.http_addr,
            protection: process
                .ecs_agent_uri
                .zip(process.protect_after)
                .map(|(agent, after)| Protection { agent, after }),
            lambda: process
                .lambda_runtime_api
                .map(|runtime_api| LambdaConfig { runtime_api, at_once: process.lambda_max_concurrency }),
            limits,
            egress_config: args.egress.into(),
        })
    }
}

/// Where the worker answers health checks and Prometheus.
///
/// # Errors
/// The variable is no address.
pub fn http_address(variables: Variables<'_>) -> Result<Option<SocketAddr>, ConfigError> {
    settings::read::<ProcessArgs>(variables).map(|process| process.http_addr)
}

fn worker_id(text: &str) -> Result<WorkerId, String> {
    WorkerId::parse(text).map_err(|error| error.to_string())
}

fn runtime_api(text: &str) -> Result<String, String> {
    let url = Url::parse(&format!("http://{text}/")).ok();
    if url.is_some_and(|url| url.host_str().is_some() && url.path() == "/" && url.query().is_none()) {
        return Ok(text.to_owned());
    }
    Err(format!("is `{text}`; accepted is the host and port that Lambda gives, as in 127.0.0.1:9001"))
}

fn agent_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).ok().filter(|url| url.scheme() == "http" && url.host_str().is_some());
    url.ok_or_else(|| {
        format!("is `{text}`; accepted is the address that ECS gives, http://169.254.170.2/api/..")
    })
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let parsed = text.trim().parse();
    parsed.map_err(|_| format!("is `{text}`; accepted is an address with a port, as in 0.0.0.0:9464"))
}

/// Each URL is whole, and no queue has two roles: a calls queue as its own dead-letter queue would end every call unexecuted, and one queue
/// under two priorities would have two shares of the slots.
fn check_queues(urls: &QueueUrls, dead_letters: Option<&str>) -> Result<(), ConfigError> {
    const DEAD_LETTERS: &str = "TOOLFLEET_DEAD_LETTER_QUEUE_URL";
    let QueueUrls { normal, high, low } = urls;
    let named = [
        (variable(Priority::Normal), Some(normal.as_str())),
        (variable(Priority::High), high.as_deref()),
        (variable(Priority::Low), low.as_deref()),
        (DEAD_LETTERS, dead_letters),
    ];
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (variable, url) in named.into_iter().filter_map(|(variable, url)| Some((variable, url?))) {
        if !url.starts_with("http") {
            return Err(ConfigError::new(variable, format!("is `{url}`; give the whole URL, not a name")));
        }
        match seen.iter().find(|(_, other)| *other == url) {
            Some(_) if variable == DEAD_LETTERS => {
                let text = "is the calls queue itself; give the URL of its dead-letter queue (output CallsDeadLetterQueueUrl of data.yaml)";
                return Err(ConfigError::new(variable, text));
            }
            Some((other, _)) => {
                let text = format!(
                    "is the queue of {other} too; give each priority a queue of its own, or leave it unset"
                );
                return Err(ConfigError::new(variable, text));
            }
            None => seen.push((variable, url)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
