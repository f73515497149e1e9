//! What every kind of load needs: embedded endpoints, a client, the folder of the run, and the command that starts a worker.
//!
//! **Invariant:** everything belongs to this run and is removed with it, except a folder that is kept on purpose.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use toolfleet_client::{Aws, AwsOptions, Client, Now, Tables, system_clock};

use crate::endpoints::{Addresses, Endpoints};
use crate::proxy::CountingProxy;
use crate::receives::Receive;
use crate::run_args::CLOCK_SKEW_MS;
use crate::traffic::{Counts, Traffic};
use crate::worker::WorkerCommand;

/// The endpoints of a run and everything that its workers need.
pub(crate) struct Bed {
    pub(crate) client: Client,
    pub(crate) clock: Now,
    pub(crate) folder: Folder,
    pub(crate) addresses: Addresses,
    /// A mutex, because the run kills and restarts them through a shared reference.
    endpoints: Mutex<Endpoints>,
    counting: Option<Counting>,
}

/// The settings of a worker that differ between loads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerSettings<'a> {
    /// The binary; the default is the one in this program's folder.
    pub(crate) binary: Option<&'a Path>,
    pub(crate) slots: u32,
    pub(crate) lease_ms: u32,
}

/// What stands between the workers and the endpoints: requests are counted, and those to SQS may take longer.
#[derive(Debug, Default)]
pub(crate) struct Front {
    pub(crate) counts: Counts,
    /// How much longer a request to SQS takes to arrive, and its answer.
    pub(crate) sqs_one_way: Duration,
}

struct Counting {
    counts: Counts,
    sqs: CountingProxy,
    dynamodb: CountingProxy,
}

impl Bed {
    /// Starts endpoints in memory, or in a process that can be killed. With `front`, the workers' requests go through it.
    pub(crate) async fn create(in_process: bool, front: Option<Front>) -> anyhow::Result<Self> {
        let folder = Folder::new()?;
        let (endpoints, addresses) =
            if in_process { Endpoints::in_process(&folder.data())? } else { Endpoints::embedded().await? };
        let clock = system_clock();
        let client = client(&addresses, clock.clone()).await;
        let counting = match front {
            Some(Front { counts, sqs_one_way }) => {
                let sqs = CountingProxy::start(&addresses.sqs, counts.clone(), sqs_one_way).await?;
                let dynamodb =
                    CountingProxy::start(&addresses.dynamodb, counts.clone(), Duration::ZERO).await?;
                Some(Counting { counts, sqs, dynamodb })
            }
            None => None,
        };
        Ok(Self { client, clock, folder, addresses, endpoints: Mutex::new(endpoints), counting })
    }

    /// Writes the catalog of the workers.
    pub(crate) fn write_catalog(&self, catalog: &str) -> anyhow::Result<()> {
        let file = self.folder.catalog();
        std::fs::write(&file, catalog).with_context(|| format!("cannot write {}", file.display()))
    }

    /// The command that starts a worker on the queue of calls.
    pub(crate) fn worker(&self, settings: WorkerSettings<'_>) -> anyhow::Result<WorkerCommand> {
        let binary = settings.binary.map_or_else(default_worker, |binary| Ok(binary.to_owned()))?;
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
            ("TOOLFLEET_SLOTS", settings.slots.to_string()),
            ("TOOLFLEET_LEASE_MS", settings.lease_ms.to_string()),
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
            logs: self.folder.logs(),
        })
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

    /// The receives so far, if they are recorded.
    pub(crate) fn receives(&self) -> Vec<Receive> {
        self.counting.as_ref().map_or_else(Vec::new, |counting| counting.counts.receives())
    }
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
        ..AwsOptions::default()
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
        let folder = Self { path, kept: false };
        std::fs::create_dir_all(folder.logs())
            .with_context(|| format!("cannot create the folder {}", folder.path.display()))?;
        Ok(folder)
    }

    pub(crate) fn catalog(&self) -> PathBuf {
        self.path.join("catalog.json")
    }

    /// The file of the catalog of one worker, for loads whose workers have catalogs of their own.
    pub(crate) fn catalog_of(&self, worker: &str) -> PathBuf {
        self.path.join(format!("catalog-{worker}.json"))
    }

    /// The folder of the endpoints' data.
    fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// The folder of what workers write to stderr: a file of each.
    fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// All lines that workers have logged, by time: each line begins with it.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        let mut lines = Vec::new();
        for file in std::fs::read_dir(self.logs()).context("cannot read the workers' logs")? {
            let text = std::fs::read_to_string(file?.path()).context("cannot read a worker's log")?;
            lines.extend(text.lines().map(str::to_owned));
        }
        lines.sort();
        Ok(lines.join("\n"))
    }

    /// The last lines that a worker has logged.
    pub(crate) fn last_lines(&self, worker: &str, count: usize) -> String {
        let log = std::fs::read_to_string(self.logs().join(format!("{worker}.log"))).unwrap_or_default();
        last_lines(&log, count)
    }

    /// Keeps the folder, and returns the path of the workers' logs and their last lines.
    pub(crate) fn keep(&mut self) -> String {
        self.kept = true;
        let (log, path) = (self.log().unwrap_or_default(), self.logs());
        if log.is_empty() {
            return format!("the workers logged nothing ({})", path.display());
        }
        let (count, end) = (log.lines().count(), last_lines(&log, 10));
        format!("the workers logged {count} lines ({}), the last:\n  {end}", path.display())
    }
}

fn last_lines(log: &str, count: usize) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n  ")
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // A folder that cannot be removed does no harm.
            let _ignored = std::fs::remove_dir_all(&self.path);
        }
    }
}
