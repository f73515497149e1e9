//! Owns the worker's configuration: read once from injected variables into typed, cross-checked values.
//!
//! **Invariant:** a configuration that exists can run; what cannot run is refused with the variable and the remedy.

use std::net::SocketAddr;
use std::time::Duration;

use toolfleet_config::catalog::{CatalogConfig, Place};
use toolfleet_config::egress::EgressConfig;
use toolfleet_config::payload::PayloadConfig;
use toolfleet_config::settings::{ConfigError, flag, number};
use toolfleet_core::ids::WorkerId;

/// A message older than this is refused: its row may have expired.
pub const OLDEST_MESSAGE_MS: u64 = 28 * 24 * 60 * 60 * 1000;

/// The longest time for which SQS hides a received message.
const LONGEST_HIDDEN: Duration = Duration::from_secs(12 * 60 * 60);

/// How long after its first sending a dead letter is left to operators unless the configuration says otherwise: a quarter of an hour.
pub const REAP_AFTER_MS: u64 = 15 * 60 * 1000;

/// All that a worker needs to know before it starts.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The queue it reads.
    pub queue_url: String,
    /// The dead-letter queue whose messages it ends; without it they lie there for an operator.
    pub dead_letter_queue_url: Option<String>,
    /// How long after its first sending a dead letter is left to operators, unless its call's deadline passes before.
    pub reap_after: Duration,
    /// The prefix of its tables' names.
    pub table_prefix: String,
    /// Over how many partitions an hour of one tenant's history is spread.
    pub history_shards: u32,
    /// Where results and arguments by reference are.
    pub payloads: PayloadConfig,
    /// Where the catalog is, and how often it is looked at.
    pub catalog: CatalogConfig,
    /// The name it signs with.
    pub worker: WorkerId,
    /// Where it answers those who watch it, if anywhere.
    pub http: Option<SocketAddr>,
    /// How many calls it runs at once.
    pub limits: Limits,
    /// What it may call, and how.
    pub egress_config: EgressConfig,
}

/// The numbers a worker works by.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many calls of one tenant to one server run at once.
    pub slots: u32,
    /// How long a claim and a message's invisibility hold without a heartbeat.
    pub lease: Duration,
    /// Allowed difference between two workers' clocks.
    pub skew: Duration,
    /// A call's deadline after it was sent, where it names none.
    pub default_deadline: Duration,
    /// How long running calls may take after SIGTERM.
    pub drain: Duration,
    /// The largest answer of a server.
    pub max_answer_bytes: u64,
    /// How long a call waits for a server that never answered.
    pub unreachable_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            slots: 64,
            lease: Duration::from_secs(30),
            skew: Duration::from_secs(2),
            default_deadline: Duration::from_secs(3600),
            drain: Duration::from_secs(100),
            max_answer_bytes: 16 * 1024 * 1024,
            unreachable_wait: Duration::from_secs(120),
        }
    }
}

impl WorkerConfig {
    /// Reads the configuration through `var`, which gives a variable's value if it is set.
    pub fn read(var: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let need = |variable: &'static str, what: &str| {
            var(variable)
                .filter(|v| !v.is_empty())
                .ok_or_else(|| ConfigError::new(variable, format!("is not set; {what}")))
        };
        let queue_url = need(
            "TOOLFLEET_QUEUE_URL",
            "give the URL of the calls queue (output CallsQueueUrl of data.yaml)",
        )?;
        if !queue_url.starts_with("http") {
            return Err(ConfigError::new(
                "TOOLFLEET_QUEUE_URL",
                format!("is `{queue_url}`; give the whole URL, not a name"),
            ));
        }
        let dead_letter_queue_url = dead_letter_queue(var, &queue_url)?;
        let catalog = need(
            "TOOLFLEET_CATALOG",
            "give the path of the catalog file, secret://NAME or table://KEY (servers, tools, tenants)",
        )?;
        let tenants = var("TOOLFLEET_TENANTS").map(|list| {
            list.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
        });
        let refresh_ms = number(var, "TOOLFLEET_CATALOG_REFRESH_MS", 30_000, 100, 86_400_000)?;
        let worker = match var("TOOLFLEET_WORKER_ID") {
            Some(id) => {
                WorkerId::parse(id).map_err(|e| ConfigError::new("TOOLFLEET_WORKER_ID", e.to_string()))?
            }
            None => WorkerId::parse(format!("w-{}", uuid::Uuid::new_v4().simple()))
                .map_err(|e| ConfigError::new("TOOLFLEET_WORKER_ID", e.to_string()))?,
        };
        Ok(Self {
            queue_url,
            dead_letter_queue_url,
            reap_after: Duration::from_millis(number(
                var,
                "TOOLFLEET_REAP_AFTER_MS",
                REAP_AFTER_MS,
                0,
                OLDEST_MESSAGE_MS / 2,
            )?),
            table_prefix: var("TOOLFLEET_TABLE_PREFIX").unwrap_or_else(|| "toolfleet".into()),
            history_shards: number(var, "TOOLFLEET_HISTORY_SHARDS", 1, 1, 1000)?,
            payloads: PayloadConfig::read(var)?,
            catalog: CatalogConfig {
                place: Place::of(&catalog),
                refresh: Duration::from_millis(refresh_ms),
                tenants,
                stdio: flag(var, "TOOLFLEET_ALLOW_STDIO")?,
                local_environment: None,
            },
            worker,
            http: http_address(var)?,
            limits: Limits::read(var)?,
            egress_config: EgressConfig::read(var)?,
        })
    }
}

/// Where the worker answers health checks and Prometheus.
pub fn http_address(var: &dyn Fn(&str) -> Option<String>) -> Result<Option<SocketAddr>, ConfigError> {
    const VARIABLE: &str = "TOOLFLEET_HTTP_ADDR";
    let Some(text) = var(VARIABLE).filter(|text| !text.trim().is_empty()) else {
        return Ok(None);
    };
    let parsed = text.trim().parse().map(Some);
    parsed.map_err(|_| {
        ConfigError::new(
            VARIABLE,
            format!("is `{text}`; accepted is an address with a port, as in 0.0.0.0:9464"),
        )
    })
}

/// The dead-letter queue, if one is named. Reaping the calls themselves would end every call unmade.
fn dead_letter_queue(
    var: &dyn Fn(&str) -> Option<String>,
    queue_url: &str,
) -> Result<Option<String>, ConfigError> {
    const VARIABLE: &str = "TOOLFLEET_DEAD_LETTER_QUEUE_URL";
    let Some(url) = var(VARIABLE).filter(|url| !url.is_empty()) else {
        return Ok(None);
    };
    if !url.starts_with("http") {
        return Err(ConfigError::new(VARIABLE, format!("is `{url}`; give the whole URL, not a name")));
    }
    if url == queue_url {
        let text = "is the calls queue itself; give the URL of its dead-letter queue (output CallsDeadLetterQueueUrl of data.yaml)";
        return Err(ConfigError::new(VARIABLE, text.to_owned()));
    }
    Ok(Some(url))
}

impl Limits {
    /// Reads the numbers through `var`, which gives a variable's value if it is set.
    pub fn read(var: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let standard = Self::default();
        let ms = |variable, standard: Duration, min, max| {
            let standard = u64::try_from(standard.as_millis()).unwrap_or(u64::MAX);
            number(var, variable, standard, min, max).map(Duration::from_millis)
        };
        let limits = Self {
            slots: number(var, "TOOLFLEET_SLOTS", standard.slots, 1, 10_000)?,
            lease: ms("TOOLFLEET_LEASE_MS", standard.lease, 1_000, u64::MAX)?,
            skew: ms("TOOLFLEET_CLOCK_SKEW_MS", standard.skew, 0, 60_000)?,
            default_deadline: ms(
                "TOOLFLEET_DEFAULT_DEADLINE_MS",
                standard.default_deadline,
                1,
                1_209_600_000,
            )?,
            drain: ms("TOOLFLEET_DRAIN_MS", standard.drain, 0, 3_600_000)?,
            max_answer_bytes: number(
                var,
                "TOOLFLEET_MAX_ANSWER_BYTES",
                standard.max_answer_bytes,
                1_024,
                1_073_741_824,
            )?,
            unreachable_wait: ms(
                "TOOLFLEET_UNREACHABLE_WAIT_MS",
                standard.unreachable_wait,
                0,
                1_209_600_000,
            )?,
        };
        // A heartbeat comes after a third of the lease and asks for the whole lease anew, counted from then.
        let hidden = limits.lease + limits.heartbeat();
        if hidden > LONGEST_HIDDEN {
            let text = format!(
                "is {}; a message would have to stay hidden for {} ms, a lease and the third of it before its first heartbeat, and \
                 SQS hides a message for at most 12 hours. Accepted is at most {}",
                limits.lease.as_millis(),
                hidden.as_millis(),
                (LONGEST_HIDDEN * 3 / 4).as_millis()
            );
            return Err(ConfigError::new("TOOLFLEET_LEASE_MS", text));
        }
        if limits.skew >= limits.lease {
            let text =
                "is not smaller than TOOLFLEET_LEASE_MS; an expired lease would never be believed in time"
                    .to_owned();
            return Err(ConfigError::new("TOOLFLEET_CLOCK_SKEW_MS", text));
        }
        Ok(limits)
    }

    /// Slots beside those that one tenant can hold at one server. They are left to others of either, and as many again to all others.
    pub const fn reserve(&self) -> u32 {
        let eighth = self.slots / 8;
        if eighth == 0 { 1 } else { eighth }
    }

    /// How often a running call renews lease and visibility: three times within the lease.
    pub fn heartbeat(&self) -> Duration {
        self.lease / 3
    }

    /// The shortest time from a claim, or from one of its writes, to one that is made for notes alone: a call that is quicker costs
    /// no write more.
    pub fn notes_pace(&self) -> Duration {
        (self.lease / 10).min(Duration::from_secs(3))
    }

    /// The lease in whole seconds, as a visibility timeout wants it; at least as long as the lease.
    pub fn visibility_s(&self) -> u32 {
        u32::try_from(self.lease.as_millis().div_ceil(1000)).unwrap_or(43_200).clamp(1, 43_200)
    }

    /// The lease in milliseconds.
    pub fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long a call waits for a server that never answered, in milliseconds.
    pub fn unreachable_wait_ms(&self) -> u64 {
        u64::try_from(self.unreachable_wait.as_millis()).unwrap_or(u64::MAX)
    }

    /// The allowance for clock skew in milliseconds.
    pub fn skew_ms(&self) -> u64 {
        u64::try_from(self.skew.as_millis()).unwrap_or(u64::MAX)
    }

    /// The deadline of a call that names none, in milliseconds after it was sent.
    pub fn default_deadline_ms(&self) -> u64 {
        u64::try_from(self.default_deadline.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<WorkerConfig, ConfigError> {
        let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
        WorkerConfig::read(&find)
    }

    const NEEDED: [(&str, &str); 2] =
        [("TOOLFLEET_QUEUE_URL", "http://127.0.0.1:1/0/q"), ("TOOLFLEET_CATALOG", "catalog.json")];

    #[test]
    fn a_missing_variable_is_named_with_its_remedy() {
        let error = read(&[]).unwrap_err().to_string();
        assert!(
            error.starts_with("TOOLFLEET_QUEUE_URL: is not set") && error.contains("data.yaml"),
            "{error}"
        );
    }

    #[test]
    fn what_is_needed_is_enough() {
        let config = read(&NEEDED).unwrap();
        assert_eq!(config.limits.slots, 64);
        assert_eq!(config.limits.visibility_s(), 30);
        assert_eq!(config.limits.heartbeat(), Duration::from_secs(10));
    }

    #[test]
    fn the_calls_queue_is_not_taken_for_its_own_dead_letter_queue() {
        let pairs = |url| [NEEDED[0], NEEDED[1], ("TOOLFLEET_DEAD_LETTER_QUEUE_URL", url)];
        let error = read(&pairs("http://127.0.0.1:1/0/q")).unwrap_err().to_string();
        assert!(error.contains("CallsDeadLetterQueueUrl"), "{error}");
        let config = read(&pairs("http://127.0.0.1:1/0/q-dlq")).unwrap();
        assert_eq!(config.dead_letter_queue_url.as_deref(), Some("http://127.0.0.1:1/0/q-dlq"));
        assert_eq!(config.reap_after, Duration::from_secs(900));
    }

    #[test]
    fn a_number_out_of_range_names_what_is_accepted() {
        let error = read(&[NEEDED[0], NEEDED[1], ("TOOLFLEET_SLOTS", "many")]).unwrap_err().to_string();
        assert!(error.contains("TOOLFLEET_SLOTS: is `many`") && error.contains("1 to 10000"), "{error}");
    }

    #[test]
    fn whether_programs_may_be_started_is_true_or_false_or_not_said() {
        for (text, said) in [("true", Some(true)), ("0", Some(false)), ("", None)] {
            let config = read(&[NEEDED[0], NEEDED[1], ("TOOLFLEET_ALLOW_STDIO", text)]).unwrap();
            assert_eq!(config.catalog.stdio, said, "{text}");
        }
        let error = read(&[NEEDED[0], NEEDED[1], ("TOOLFLEET_ALLOW_STDIO", "yes")]).unwrap_err().to_string();
        assert!(error.contains("TOOLFLEET_ALLOW_STDIO: is `yes`"), "{error}");
    }

    #[test]
    fn a_lease_that_sqs_cannot_hide_a_message_for_refuses_to_start() {
        let lease = |ms| read(&[NEEDED[0], NEEDED[1], ("TOOLFLEET_LEASE_MS", ms)]);
        assert!(lease("32400000").is_ok());
        for ms in ["32400001", "43200000", "999999999999"] {
            let error = lease(ms).unwrap_err().to_string();
            assert!(error.contains("TOOLFLEET_LEASE_MS") && error.contains("32400000"), "{error}");
        }
    }

    #[test]
    fn an_allowance_for_skew_as_long_as_the_lease_refuses_to_start() {
        let pairs =
            [NEEDED[0], NEEDED[1], ("TOOLFLEET_LEASE_MS", "5000"), ("TOOLFLEET_CLOCK_SKEW_MS", "5000")];
        assert!(read(&pairs).unwrap_err().to_string().contains("TOOLFLEET_LEASE_MS"));
    }
}
