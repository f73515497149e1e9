//! The test bed of a load: embedded endpoints, the MCP server, the catalog and the environment of the workers.
//!
//! **Invariant:** everything belongs to this run and is removed with it, except a folder that is kept on purpose.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};
use serde_json::json;
use toolfleet_catalog::DEFAULT_ATTEMPT_MS;
use toolfleet_client::{Aws, AwsOptions, Client, Now, Tables, system_clock};

use crate::distribution::Distribution;
use crate::endpoints::{Addresses, Endpoints};
use crate::faults::FaultKind;
use crate::proxy::CountingProxy;
use crate::run_args::{CLOCK_SKEW_MS, RunArgs};
use crate::server::LoadServer;
use crate::tool::Tool;
use crate::traffic::{Counts, Traffic};
use crate::worker::WorkerCommand;

/// The tenant of all calls.
pub(crate) const TENANT: &str = "load";

/// The test bed of one run.
pub(crate) struct TestBed {
    pub(crate) client: Client,
    pub(crate) clock: Now,
    pub(crate) server: LoadServer,
    pub(crate) folder: Folder,
    /// A mutex, because the run kills and restarts them through a shared reference.
    endpoints: Mutex<Endpoints>,
    addresses: Addresses,
    counting: Option<Counting>,
}

struct Counting {
    counts: Counts,
    sqs: CountingProxy,
    dynamodb: CountingProxy,
}

impl TestBed {
    pub(crate) async fn create(args: &RunArgs) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let server = LoadServer::start(!args.hold).await?;
        let (endpoints, addresses) = if args.faults.contains(FaultKind::Endpoints) {
            Endpoints::in_process(&folder.data())?
        } else {
            Endpoints::embedded().await?
        };
        let clock = system_clock();
        let client = client(&addresses, clock.clone()).await;
        let counting = if args.count_requests {
            let counts = Counts::default();
            let sqs = CountingProxy::start(&addresses.sqs, counts.clone()).await?;
            let dynamodb = CountingProxy::start(&addresses.dynamodb, counts.clone()).await?;
            Some(Counting { counts, sqs, dynamodb })
        } else {
            None
        };
        std::fs::write(folder.catalog(), catalog(&server.url, &args.slow))?;
        Ok(Self { client, clock, server, folder, endpoints: Mutex::new(endpoints), addresses, counting })
    }

    /// The command that starts a worker of the load.
    pub(crate) fn worker(&self, args: &RunArgs) -> anyhow::Result<WorkerCommand> {
        let binary = args.worker_bin.clone().map_or_else(default_worker, Ok)?;
        if !binary.is_file() {
            bail!(
                "there is no worker binary at {}; build it (cargo build -p toolfleet-worker, with --release if this program is) \
                 or name it with --worker-bin",
                binary.display()
            );
        }
        let (sqs, dynamodb) = match &self.counting {
            Some(counting) => (counting.sqs.url.as_str(), counting.dynamodb.url.as_str()),
            None => (self.addresses.sqs.as_str(), self.addresses.dynamodb.as_str()),
        };
        let variables = [
            ("TOOLFLEET_QUEUE_URL", self.addresses.calls_queue.clone()),
            ("TOOLFLEET_CATALOG", self.folder.catalog().display().to_string()),
            ("TOOLFLEET_SLOTS", args.slots.to_string()),
            ("TOOLFLEET_LEASE_MS", args.lease_ms.to_string()),
            ("TOOLFLEET_CLOCK_SKEW_MS", CLOCK_SKEW_MS.to_string()),
            ("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "127.0.0.0/8".to_owned()),
            ("TOOLFLEET_ALLOW_HTTP", "true".to_owned()),
            ("TOOLFLEET_LOG", "warn".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "loadtest".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "loadtest".to_owned()),
            ("AWS_ENDPOINT_URL_SQS", sqs.to_owned()),
            ("AWS_ENDPOINT_URL_DYNAMODB", dynamodb.to_owned()),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", self.addresses.secrets.clone()),
        ];
        Ok(WorkerCommand {
            binary,
            environment: variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            log: self.folder.log(),
        })
    }

    /// The command of a worker on a queue that stays empty.
    pub(crate) fn idle_worker(&self, args: &RunArgs) -> anyhow::Result<WorkerCommand> {
        let mut command = self.worker(args)?;
        command.environment.push(("TOOLFLEET_QUEUE_URL".to_owned(), self.addresses.idle_queue.clone()));
        Ok(command)
    }

    /// Kills queues and tables. Their data stays on disk.
    pub(crate) fn kill_endpoints(&self) -> anyhow::Result<()> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).kill()
    }

    /// Starts them again on the same ports.
    pub(crate) fn start_endpoints_again(&self) -> anyhow::Result<()> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).start_again()
    }

    /// Starts to count requests.
    pub(crate) fn start_counting(&self) {
        if let Some(counting) = &self.counting {
            counting.counts.reset();
        }
    }

    /// The workers' requests to AWS so far, if they are counted.
    pub(crate) fn counted(&self) -> Option<Traffic> {
        self.counting.as_ref().map(|counting| counting.counts.now())
    }
}

fn catalog(url: &str, slow: &Distribution) -> String {
    let tool = |tool: &Tool| {
        // The attempt must last longer than its tool, or the load would measure repeats.
        let timeout_ms = DEFAULT_ATTEMPT_MS + if tool.is_slow() { slow.longest_ms() } else { 0 };
        // A pause that a server asks for delays all its calls, so this tool has a server of its own.
        let server = if *tool == Tool::Busy { "load-busy" } else { "load" };
        json!({"id": tool.name(), "server": server, "idempotent": tool.is_safe(), "timeout_ms": timeout_ms})
    };
    json!({
        "servers": [{"id": "load", "url": url}, {"id": "load-busy", "url": url}],
        "tools": Tool::ALL.iter().map(tool).collect::<Vec<_>>(),
        "tenants": {"queue": [TENANT]},
    })
    .to_string()
}

async fn client(addresses: &Addresses, clock: Now) -> Client {
    let aws = Aws::connect(aws_options(addresses)).await;
    Client::new(&aws, &addresses.calls_queue, &Tables::with_prefix("toolfleet"), clock)
}

/// The AWS client options for the endpoints of a load.
pub(crate) fn aws_options(addresses: &Addresses) -> AwsOptions {
    AwsOptions {
        region: Some("us-east-1".into()),
        sqs_endpoint: Some(addresses.sqs.clone()),
        dynamodb_endpoint: Some(addresses.dynamodb.clone()),
        secrets_endpoint: Some(addresses.secrets.clone()),
        s3_endpoint: None,
        static_credentials: Some(("loadtest".into(), "loadtest".into())),
    }
}

fn default_worker() -> anyhow::Result<PathBuf> {
    let ours = std::env::current_exe().context("the path of this program is unknown; use --worker-bin")?;
    Ok(ours.with_file_name("toolfleet-worker"))
}

/// The folder of this run. It is removed at the end unless it is kept.
pub(crate) struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    fn new() -> anyhow::Result<Self> {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("toolfleet-loadtest-{}-{}", std::process::id(), FOLDERS.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create the folder {}", path.display()))?;
        Ok(Self { path, kept: false })
    }

    fn catalog(&self) -> PathBuf {
        self.path.join("catalog.json")
    }

    /// The folder of the endpoints' data.
    fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// The file of the workers' stderr.
    fn log(&self) -> PathBuf {
        self.path.join("workers.log")
    }

    /// Keeps the folder, and returns the path of the workers' log and its last lines.
    pub(crate) fn keep(&mut self) -> String {
        self.kept = true;
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        if log.is_empty() {
            return format!("the workers logged nothing ({})", self.log().display());
        }
        let lines: Vec<_> = log.lines().collect();
        let end = lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n  ");
        format!("the workers logged {} lines ({}), the last:\n  {end}", lines.len(), self.log().display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // A folder that cannot be removed does no harm.
            let _ignored = std::fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    #[test]
    fn an_attempt_lasts_longer_than_the_slowest_tool() {
        for slow in ["60000", "lognormal:50000:2", "p0=5,p50=20,p100=90000"] {
            let slow: Distribution = slow.parse().unwrap();
            let catalog: serde_json::Value =
                serde_json::from_str(&catalog("http://127.0.0.1:1/mcp", &slow)).unwrap();
            let tools = catalog["tools"].as_array().unwrap();
            let timeout_ms =
                |name: &str| tools.iter().find(|t| t["id"] == name).unwrap()["timeout_ms"].as_u64();
            let mut rng = Rng::with_seed(7);
            let longest_ms = (0..10_000).map(|_| slow.sample(&mut rng)).max().unwrap();
            assert!(timeout_ms("slow").unwrap() > longest_ms && timeout_ms("payment").unwrap() > longest_ms);
            assert_eq!(timeout_ms("echo"), Some(DEFAULT_ATTEMPT_MS));
        }
    }
}
