//! The command `console`: how long each page of the console takes over a large fleet, from the request to the whole page.
//!
//! Queues and tables are a process of their own, and the console is the program `toolfleet console`, of the same build as this one. What workers
//! would have written is written first: counts of tools by minute, a summary of the fleet, and audit records of one tenant, a thousand an hour.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::header::{COOKIE, SET_COOKIE};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use toolfleet_aws::Aws;
use toolfleet_aws::fleet::rollups::{RolledUpTool, ToolRollup};
use toolfleet_client::{Tables, system_clock};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::fleet::{BreakerState, FleetSummary, Minute, Rollup, ServerSummary, WorkerRow};
use toolfleet_core::ids::{Nonce, ServerId, WorkerId};
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_core::time::Timestamp;
use toolfleet_egress::{EgressPolicy, HttpClients};
use toolfleet_mcp::ClientOptions;

use crate::bed::aws_options;
use crate::endpoints::{self, Addresses};
use crate::helper::Helper;

/// Records of an hour, and how many are written at once.
const IN_HOUR: u32 = 1_000;
const AT_ONCE: usize = 200;
/// A summary holds so many servers at most.
const IN_SUMMARY: u32 = 300;
/// Hours of counts that are taken for added up, as a worker does it.
const HOURS_ADDED_UP: i64 = 200;
/// How long a page may take before the run is given up.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Each page, over what is written.
const PAGES: [&str; 20] = [
    "/",
    "/servers",
    "/servers?page=20",
    "/servers?q=s-09",
    "/server?id=s-0001&last=7d",
    "/tools",
    "/tools?last=7d&page=50",
    "/tool?name=t-0001&last=1h",
    "/tool?name=t-0001&last=7d",
    "/history?tenant=acme&since=60d",
    "/history?tenant=acme&since=60d&failed=1",
    "/history?tenant=acme&since=60d&session=s-1",
    "/history?tenant=acme&since=60d&tool=t-0001",
    "/history?tenant=acme&since=60d&tool=none",
    "/history?tenant=acme&since=60d&tool=none&failed=1",
    "/history?tenant=acme&since=60d&tool=none&session=s-1",
    "/history?tenant=nobody&since=60d",
    "/call?tenant=acme&call=h0-0",
    "/dead-letters",
    "/group?tenant=acme&group=none",
];

/// Arguments of `console`.
#[derive(Debug, Clone, clap::Args)]
pub struct ConsoleArgs {
    /// Servers, each with a tool.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub servers: u32,
    /// Audit records of one tenant, by whole hours of a thousand.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_400_000))]
    pub records: u32,
    /// How often each page is asked for.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// How long 95 of 100 requests of a page may take, in milliseconds.
    #[arg(long, default_value_t = 300)]
    pub most_ms: u64,
    /// The program; without it `toolfleet` beside this one.
    #[arg(long, value_name = "FILE")]
    pub toolfleet_bin: Option<PathBuf>,
}

/// Measures and prints. False if a page takes longer than it may.
///
/// # Errors
/// The data cannot be written, the console does not start, or a page is not answered with 200.
pub async fn run(args: &ConsoleArgs) -> anyhow::Result<bool> {
    let (_endpoints, addresses) = endpoints::start(None, [0, 0])?;
    let aws = Aws::connect(aws_options(&addresses)).await;
    let begun = Instant::now();
    fleet(&aws, args.servers).await?;
    let records = records(&aws, args.records.div_ceil(IN_HOUR)).await?;
    let took = begun.elapsed().as_secs();
    println!("{} servers and tools, {records} records of one tenant, written in {took} s", args.servers);
    let (_console, visitor) = Visitor::log_in(args, &addresses).await?;
    println!("{:>10} {:>10}  page", "median ms", "p95 ms");
    let mut slow = 0;
    for page in PAGES {
        let mut times = Vec::new();
        for _ in 0..args.rounds {
            times.push(visitor.look(page).await?.as_millis());
        }
        times.sort_unstable();
        let at =
            |percent: usize| times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or(0);
        let (median, p95) = (at(50), at(95));
        let is_slow = p95 > u128::from(args.most_ms);
        slow += u32::from(is_slow);
        println!("{median:>10} {p95:>10}  {page}{}", if is_slow { "   SLOW" } else { "" });
    }
    println!("{slow} of {} pages take longer than {} ms{}", PAGES.len(), args.most_ms, build());
    Ok(slow == 0)
}

const fn build() -> &'static str {
    if cfg!(debug_assertions) { " (debug build)" } else { "" }
}

/// The counts of each tool within this minute, and a summary with servers of which every other one is in trouble.
async fn fleet(aws: &Aws, servers: u32) -> anyhow::Result<()> {
    let fleet = aws.fleet(&Tables::with_prefix("toolfleet"));
    let (now, boot) = (system_clock()(), Nonce::parse("boot")?);
    let minute = Minute::of(now);
    let (mut names, mut rollups) = (Vec::new(), Vec::new());
    for number in 0..servers {
        let (tool, server) = (format!("t-{number:04}"), Some(ServerId::parse(format!("s-{number:04}"))?));
        names.push(RolledUpTool { tool: tool.clone(), server: server.clone() });
        let mut rollup = Rollup::default();
        for call in 0..30 {
            let kind = if call % 5 == 0 { OutcomeKind::TimedOut } else { OutcomeKind::Succeeded };
            rollup.add(kind, 1, Some(10_000 + call * 1_000));
        }
        rollups.push(ToolRollup { tool, server, minute, rollup });
    }
    fleet.put_rolled_up_tools(minute, &names).await?;
    fleet.put_rollups(&boot, &rollups).await?;
    for back in 2..HOURS_ADDED_UP {
        fleet.put_compacted(minute.hour().plus(-60 * back)).await?;
    }
    let until = now.plus_ms(3_600_000);
    anyhow::ensure!(fleet.lease_summary(&boot, now, until).await?, "the summary is not ours to write");
    let written = fleet.put_summary(&summary(servers.min(IN_SUMMARY), now)?, &boot, until).await?;
    anyhow::ensure!(written, "the summary is not written");
    Ok(())
}

fn summary(servers: u32, now: Timestamp) -> anyhow::Result<FleetSummary> {
    let row: WorkerRow = serde_json::from_value(json!({
        "id": "w-1", "boot": "b", "version": "0.1.0", "started_at": now, "reported_at": now, "beat_ms": 5000, "slots": 64, "busy": 7,
    }))?;
    let mut summary = FleetSummary::of(&[row], now, WorkerId::parse("w-1")?);
    for number in 0..servers {
        let mut server = ServerSummary::default();
        server.seen.attempts = 100;
        server.seen.latency.add(20_000);
        if number % 2 == 0 {
            server.seen.breaker = BreakerState::Open;
            server.seen.failures = 50;
            server.seen.last_failure = Some("connection refused (os error 111)".to_owned());
        }
        summary.servers.insert(ServerId::parse(format!("s-{number:04}"))?, server);
    }
    Ok(summary)
}

/// Writes the records of so many hours before now; returns how many they are.
async fn records(aws: &Aws, hours: u32) -> anyhow::Result<u64> {
    let history = aws.history(&Tables::with_prefix("toolfleet"));
    let now = system_clock()();
    let all = (0..hours).flat_map(|hour| (0..IN_HOUR).map(move |number| record(hour, number, now)));
    let writes =
        all.map(|record| {
            let history = &history;
            async move {
                history.insert(&record?, now.plus_ms(86_400_000)).await.context("a record is not written")
            }
        });
    // A write whose first try was stored and not answered finds its record there.
    let written: Vec<bool> = stream::iter(writes).buffer_unordered(AT_ONCE).try_collect().await?;
    Ok(u64::try_from(written.len())?)
}

fn record(hour: u32, number: u32, now: Timestamp) -> anyhow::Result<AuditRecord> {
    let back_ms = i64::from(hour) * 3_600_000 + i64::from(number) * 1_000;
    let at = Timestamp::from_ms(now.as_ms().saturating_sub(back_ms));
    let failed = number.is_multiple_of(5);
    Ok(serde_json::from_value(json!({
        "kind": "call", "tenant": "acme", "call_id": format!("h{hour}-{number}"), "at": at, "digest": "d", "attempts": 1, "fence": 1,
        "outcome": if failed { "failed" } else { "succeeded" }, "tool": format!("t-{:04}", number % 7), "session": "s-1",
        "enqueued_at": at, "started_at": at,
    }))?)
}

/// What the console prints when it serves.
#[derive(Deserialize)]
struct Ready {
    url: String,
}

/// A browser that has logged in.
struct Visitor {
    http: HttpClients,
    origin: String,
    cookie: String,
}

impl Visitor {
    /// Starts the console, and opens the address that it prints.
    async fn log_in(args: &ConsoleArgs, addresses: &Addresses) -> anyhow::Result<(Helper, Self)> {
        let beside = || Ok::<_, anyhow::Error>(std::env::current_exe()?.with_file_name("toolfleet"));
        let program = args.toolfleet_bin.clone().map_or_else(beside, Ok)?;
        let mut command = Command::new(program);
        command.args(["console", "--json", "--listen", "127.0.0.1:0"]).envs([
            ("TOOLFLEET_QUEUE_URL", addresses.calls_queue.as_str()),
            ("TOOLFLEET_LOG", "warn"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "loadtest"),
            ("AWS_SECRET_ACCESS_KEY", "loadtest"),
            ("AWS_ENDPOINT_URL_SQS", &addresses.sqs),
            ("AWS_ENDPOINT_URL_DYNAMODB", &addresses.dynamodb),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &addresses.secrets),
            ("AWS_ENDPOINT_URL_S3", &addresses.sqs),
        ]);
        let (console, ready): (Helper, Ready) = Helper::ready("toolfleet console", &mut command)?;
        let options = ClientOptions { reach: EgressPolicy::anywhere(), ..ClientOptions::default() };
        let http = HttpClients::new(options.http())?;
        let answer = http.plain().get(&ready.url).timeout(GIVE_UP).send().await?;
        let cookie = answer.headers().get(SET_COOKIE).and_then(|value| value.to_str().ok());
        let cookie =
            cookie.and_then(|value| value.split(';').next()).context("the console gave no cookie")?;
        let origin = ready.url.split("/?").next().unwrap_or_default().to_owned();
        let cookie = cookie.to_owned();
        Ok((console, Self { http, origin, cookie }))
    }

    /// How long that page takes, with its last byte.
    async fn look(&self, page: &str) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let request = self.http.plain().get(format!("{}{page}", self.origin)).header(COOKIE, &self.cookie);
        let answer = request.timeout(GIVE_UP).send().await?;
        let status = answer.status();
        let bytes = answer.bytes().await?.len();
        anyhow::ensure!(status == 200 && bytes > 0, "{page} is answered with {status} and {bytes} bytes");
        Ok(begun.elapsed())
    }
}
