//! The command `mcp-cost`: CPU time of one tool call in our MCP client and in rmcp's, on the same server, in alternation.
//!
//! Both clients run in this process, on the same runtime and allocator, and keep their connections. rmcp's server is a separate process.
//! A round is a number of calls of `echo` by one client, from tasks like those of a worker, while the other client is idle. Rounds
//! alternate, so other load on the machine affects both. The conversions that a worker would need for rmcp (arguments into a map, results
//! into JSON) are left out: arguments are made before the round, and results are checked and dropped.
//!
//! **Invariant:** a figure is printed only if every answer belonged to its call.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_egress::EgressPolicy;
use toolfleet_mcp::{ClientOptions, Endpoint, EndpointTransport, McpClient, ToolCall};
use toolfleet_mcp_protocol::ProtocolVersion;
use toolfleet_peer::Generation;
use toolfleet_peer::client::RmcpClient;

use crate::helper::{self, Helper};

/// The goal: our CPU time in percent of rmcp's, at most.
const GOAL_PERCENT: f64 = 60.0;

/// Arguments of `mcp-cost`.
#[derive(Debug, Clone, clap::Args)]
pub struct McpCostArgs {
    /// Calls of each client in a round.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub calls: u32,
    /// Rounds of each client.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Calls at once; rmcp's client makes no more than 16.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub slots: u32,
    /// Bytes of text in the arguments and in the answer.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub bytes: u32,
    /// Write the figures as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// CPU time of a call in each client, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct McpCost {
    /// One for each revision of the protocol.
    pub revisions: Vec<RevisionCost>,
    /// Calls of each client in each revision.
    pub calls: u32,
    /// Calls at once.
    pub slots: u32,
    /// Whether this program is a debug build.
    pub debug_build: bool,
}

/// CPU time of a call in one revision of the protocol.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevisionCost {
    /// The newest version of it.
    pub version: String,
    /// In our client, in microseconds.
    pub ours_us: f64,
    /// In rmcp's client, in microseconds.
    pub rmcp_us: f64,
    /// Ours in percent of rmcp's.
    pub percent: f64,
}

/// Measures and prints. It does not check the goal, because a debug build or a busy machine proves little.
///
/// # Errors
/// A call failed, or an answer belongs to another call.
pub async fn run(args: &McpCostArgs) -> anyhow::Result<bool> {
    let mut revisions = Vec::new();
    for (version, generation) in [
        (ProtocolVersion::MODERN, Generation::Newest),
        (ProtocolVersion::LATEST_LEGACY, Generation::Sessions),
    ] {
        let (ours, rmcp) = Box::pin(measure(args, generation)).await?;
        let per_call = |cpu: Duration| cpu.as_secs_f64() * 1e6 / f64::from(args.calls * args.rounds);
        revisions.push(RevisionCost {
            version: version.to_string(),
            ours_us: per_call(ours),
            rmcp_us: per_call(rmcp),
            percent: 100.0 * ours.as_secs_f64() / rmcp.as_secs_f64(),
        });
    }
    let (calls, slots) = (args.calls * args.rounds, args.slots);
    let cost = McpCost { revisions, calls, slots, debug_build: cfg!(debug_assertions) };
    print!("{cost}");
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_string_pretty(&cost)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(true)
}

/// Serves rmcp's server until stdin closes.
///
/// # Errors
/// There is no free port.
pub async fn serve(sessions: bool) -> anyhow::Result<bool> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port for rmcp's server")?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    let generation = if sessions { Generation::Sessions } else { Generation::Newest };
    tokio::spawn(toolfleet_peer::server::serve(listener, generation));
    helper::serve_until_stdin_closes(&url).await
}

async fn measure(args: &McpCostArgs, generation: Generation) -> anyhow::Result<(Duration, Duration)> {
    let flag = (generation == Generation::Sessions).then_some("--sessions");
    let arguments: Vec<&OsStr> = ["rmcp-server"].into_iter().chain(flag).map(OsStr::new).collect();
    let (_server, url): (Helper, String) = Helper::start(&arguments)?;
    let ours = Arc::new(Ours {
        client: McpClient::new(ClientOptions {
            reach: EgressPolicy::with_loopback(),
            ..ClientOptions::default()
        })?,
        endpoint: Endpoint {
            server: ServerId::parse("peer")?,
            url: url.parse()?,
            headers: http::HeaderMap::new(),
            auth: None,
            tenant: Some(Tenant::parse("cost")?),
            transport: EndpointTransport::Http,
        },
    });
    let rmcp = Arc::new(RmcpClient::connect(&url, generation).await?);
    // Connections, sessions and caches exist before anything is measured.
    let warm = McpCostArgs { calls: args.calls.min(200), ..args.clone() };
    round(&warm, &ours).await?;
    round(&warm, &rmcp).await?;
    let mut sums = (Duration::ZERO, Duration::ZERO);
    for turn in 0..args.rounds {
        // The order changes, because the first client affects the caches of the second.
        if turn % 2 == 0 {
            sums.0 += round(args, &ours).await?;
            sums.1 += round(args, &rmcp).await?;
        } else {
            sums.1 += round(args, &rmcp).await?;
            sums.0 += round(args, &ours).await?;
        }
    }
    Ok(sums)
}

/// A client that is measured.
trait Caller: Send + Sync + 'static {
    /// A call, prepared before the measurement.
    type Call: Send + 'static;

    fn prepared(mark: String, text: &str) -> anyhow::Result<Self::Call>;

    /// Makes the call, and fails if the answer belongs to another call.
    fn make(&self, call: Self::Call) -> impl Future<Output = anyhow::Result<()>> + Send;
}

struct Ours {
    client: McpClient,
    endpoint: Endpoint,
}

impl Caller for Ours {
    type Call = (Box<RawValue>, String);

    fn prepared(mark: String, text: &str) -> anyhow::Result<Self::Call> {
        Ok((to_raw_value(&json!({ "text": text }))?, mark))
    }

    async fn make(&self, (arguments, mark): Self::Call) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        let call = ToolCall::new(&self.endpoint, "echo", &arguments, deadline);
        let answer = self.client.call_tool(call).await?;
        check_contains(&mark, answer.result.get())
    }
}

impl Caller for RmcpClient {
    type Call = (Map<String, Value>, String);

    fn prepared(_: String, text: &str) -> anyhow::Result<Self::Call> {
        Ok((json!({ "text": text }).as_object().cloned().unwrap_or_default(), text.to_owned()))
    }

    async fn make(&self, (arguments, text): Self::Call) -> anyhow::Result<()> {
        let answer = self.echo(arguments).await?;
        check_equal(&text, answer.as_deref())
    }
}

/// Checks that an answer has the mark of its own call.
fn check_contains(expected: &str, answer: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        answer.contains(expected),
        "the answer to `{expected}` belongs to another call: {answer}"
    );
    Ok(())
}

/// Checks that an answer is the text of its own call.
fn check_equal(expected: &str, answer: Option<&str>) -> anyhow::Result<()> {
    anyhow::ensure!(
        answer == Some(expected),
        "the answer to `{expected}` belongs to another call: {answer:?}"
    );
    Ok(())
}

/// Makes all calls, from as many tasks as there are slots, and returns their CPU time.
async fn round<C: Caller>(args: &McpCostArgs, caller: &Arc<C>) -> anyhow::Result<Duration> {
    let made = (0..args.calls).map(|n| C::prepared(mark(n), &text(args, n)));
    let made: Vec<C::Call> = made.collect::<anyhow::Result<_>>()?;
    let left = Arc::new(Mutex::new(made.into_iter()));
    let next = move || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let before = cpu();
    let mut running = JoinSet::new();
    for _ in 0..args.slots {
        let (caller, next) = (Arc::clone(caller), next.clone());
        running.spawn(async move {
            while let Some(call) = next() {
                caller.make(call).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    Ok(cpu().saturating_sub(before))
}

/// The start of a call's text, which no other call has. It is short, because searching for it is part of the measurement.
fn mark(n: u32) -> String {
    format!("call-{n}-")
}

fn text(args: &McpCostArgs, n: u32) -> String {
    format!("{:x<width$}", mark(n), width = usize::try_from(args.bytes).unwrap_or(usize::MAX))
}

/// The CPU time of all threads of this process.
fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

impl fmt::Display for McpCost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "CPU of one `tools/call` in the client, {} calls of each, {} at once{}",
            self.calls,
            self.slots,
            if self.debug_build { " (debug build: only the release figures count)" } else { "" }
        )?;
        for RevisionCost { version, ours_us, rmcp_us, percent } in &self.revisions {
            writeln!(
                f,
                "  {version}  toolfleet {ours_us:>6.1} us   rmcp {rmcp_us:>6.1} us   {percent:>5.1} % (goal: at most {GOAL_PERCENT:.0} %)"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_to_another_call_is_an_error() {
        assert!(check_contains(&mark(1), &format!("{}xxx", mark(1))).is_ok());
        assert!(check_equal("call-1-x", Some("call-1-x")).is_ok());
        assert!(check_equal("call-1-x", None).is_err());
        for other in [mark(11), mark(21), String::new()] {
            let contains = check_contains(&mark(1), &other).unwrap_err().to_string();
            let equal = check_equal(&mark(1), Some(&other)).unwrap_err().to_string();
            assert!(
                contains.contains("belongs to another call") && equal.contains("belongs to another call")
            );
        }
    }
}
