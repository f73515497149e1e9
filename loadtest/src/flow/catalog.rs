//! A large catalog: what it costs in memory, and how long a reload stops the worker.
//!
//! One worker starts with one tool, reloads to the large catalog, reloads a changed one under load, and then calls every tool once. The
//! longest stop of its runtime is the longest time that its HTTP endpoint took to answer, asked all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use toolfleet_core::request::Priority;

use super::args::CommonArgs;
use super::calls::{FlowCall, Stream};
use super::report::{FlowReport, Goal};
use super::rig::{Rig, Setup, send_all};
use super::server::FlowServer;

/// The most that the catalog may cost, in MiB.
const COST_MIB: f64 = 100.0;
/// The pause between two questions to the worker's HTTP endpoint.
const PROBE_INTERVAL: Duration = Duration::from_millis(2);
/// How long a worker rests before its memory is read, so that its allocator has returned what it can.
const REST: Duration = Duration::from_secs(3);
/// The most that a reload, or the calls of all tools, may take.
const MOST: Duration = Duration::from_secs(180);
/// Patterns of a tool's arguments besides that of `call`.
const PATTERNS: [&str; 9] = [
    "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
    "^\\d{4}-\\d{2}-\\d{2}$",
    "^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,}$",
    "^(https?|ftp)://[^\\s/$.?#].[^\\s]*$",
    "^\\+?[0-9]{7,15}$",
    "^[A-Z]{2}[0-9]{2}[A-Z0-9]{4,30}$",
    "^[a-z][a-z0-9_-]{2,62}$",
    "^(draft|open|closed|archived)-[0-9]+$",
    "^\\w+(\\.\\w+)*$",
];

/// Arguments of `flow catalog`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CatalogCostArgs {
    /// How many servers.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    servers: u32,
    /// How many tools, each with ten patterns of its own.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tools: u32,
    /// Calls a second during the second reload.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// For how long they are sent, in seconds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How many tools are called once, after the reloads; the default is all.
    #[arg(long)]
    called: Option<u32>,
    #[command(flatten)]
    common: CommonArgs,
}

pub(super) async fn run(args: &CatalogCostArgs) -> anyhow::Result<bool> {
    let address = free_address().await?;
    let setup = Setup {
        binary: args.common.worker_bin.as_deref(),
        workers: 1,
        slots: 64,
        lease_ms: args.common.lease_ms,
        environment: &[
            ("TOOLFLEET_HTTP_ADDR", address.clone()),
            // Only SIGHUP reloads.
            ("TOOLFLEET_CATALOG_REFRESH_MS", "86400000".to_owned()),
        ],
        ..Setup::default()
    };
    let mut rig = Rig::start(&setup, |server| catalog(server, 1, 1, "start")).await?;
    let load = format!("{} servers, {} tools with ten patterns each", args.servers, args.tools);
    let mut report = FlowReport::new("catalog", load, args.common.strict);
    tokio::time::sleep(REST).await;
    let before = mib(&mut rig);
    report.figure("memory with one tool", before, "MiB");

    let text = catalog(&rig.server, args.servers, args.tools, "first").to_string();
    report.figure("text of the catalog", text.len() as f64 / f64::from(1 << 20), "MiB");
    let first = reload(&rig, &address, &text).await?;
    report.figure("load, with all schemas checked", first.took.as_secs_f64() * 1e3, "ms");
    tokio::time::sleep(REST).await;
    report.goal("more memory after the load", mib(&mut rig) - before, "MiB", Goal::AtMost(COST_MIB));

    let under_load = reload_under_load(&rig, &address, args).await?;
    report.figure("reload under load, one tool changed", under_load.took.as_secs_f64() * 1e3, "ms");
    report.figure("longest answer before it", under_load.stall_before.as_secs_f64() * 1e3, "ms");
    report.figure("longest answer during it", under_load.stall.as_secs_f64() * 1e3, "ms");
    tokio::time::sleep(REST).await;
    report.goal("more memory after the reload", mib(&mut rig) - before, "MiB", Goal::AtMost(COST_MIB));

    let calls = of_tools(args.called.unwrap_or(args.tools).min(args.tools));
    send_all(&rig.bed.client, &calls).await?;
    anyhow::ensure!(
        rig.until_empty(MOST).await?,
        "the calls of the tools took more than {} s",
        MOST.as_secs()
    );
    tokio::time::sleep(REST).await;
    report.goal(
        format!("more memory after a call of {} tools", calls.len()),
        mib(&mut rig) - before,
        "MiB",
        Goal::AtMost(COST_MIB),
    );
    let page = get(&address, "/metrics").await?;
    for (name, what) in [("compiled", "schemas compiled"), ("dropped", "compiled schemas dropped")] {
        let count = metric(&page, &format!("toolfleet_schemas_{name}"));
        report.figure(what, count.context("the worker's metrics have no count of schemas")?, "");
    }
    let kept = metric(&page, "toolfleet_schemas_bytes").unwrap_or_default();
    report.figure("compiled schemas kept, as estimated", kept / f64::from(1 << 20), "MiB");
    report.figure("highest memory", rig.workers.usage().peak_kib as f64 / 1024.0, "MiB");
    report.violations.extend(rig.verify(&calls, false).await?);
    report.publish(args.common.json.as_deref())
}

/// What a reload did.
struct Reload {
    took: Duration,
    stall_before: Duration,
    stall: Duration,
}

/// Reloads a catalog of which one tool has changed while calls arrive.
async fn reload_under_load(rig: &Rig, address: &str, args: &CatalogCostArgs) -> anyhow::Result<Reload> {
    let tools: Vec<_> = (0..args.tools.min(100)).map(|n| format!("t{n}")).collect();
    let stream = Stream {
        name: "load",
        tenants: &["acme".to_owned()],
        tools: &tools,
        rate: args.rate,
        ms: 5,
        length: Duration::from_secs(args.seconds),
        priority: Priority::Normal,
    };
    let calls = stream.calls(args.common.seed);
    let text = catalog(&rig.server, args.servers, args.tools, "second").to_string();
    let reload = async {
        tokio::time::sleep(REST).await;
        reload(rig, address, &text).await
    };
    let (sent, reload) = tokio::join!(rig.send(&calls), reload);
    sent?;
    reload
}

/// Writes a catalog, and waits until the worker uses it.
async fn reload(rig: &Rig, address: &str, text: &str) -> anyhow::Result<Reload> {
    rig.bed.write_catalog(text)?;
    let taken = |page: String| metric(&page, "toolfleet_catalog_taken").unwrap_or_default();
    let before = taken(get(address, "/metrics").await?);
    let calm = Probe::start(address).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let stall_before = calm.longest().await?;
    let probe = Probe::start(address).await?;
    let start = Instant::now();
    rig.workers.hang_up()?;
    while taken(get(address, "/metrics").await?) <= before {
        if start.elapsed() > MOST {
            bail!("the worker does not use the new catalog after {} s", MOST.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = start.elapsed();
    Ok(Reload { took, stall_before, stall: probe.longest().await? })
}

/// Asks the worker's HTTP endpoint all the time.
struct Probe {
    over: Arc<AtomicBool>,
    asking: JoinHandle<anyhow::Result<Duration>>,
}

impl Probe {
    async fn start(address: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let asking = tokio::spawn(async move {
            let (mut longest, mut answer) = (Duration::ZERO, [0; 4096]);
            while !until.load(Ordering::Relaxed) {
                let asked = Instant::now();
                stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: worker\r\n\r\n").await?;
                anyhow::ensure!(stream.read(&mut answer).await? > 0, "the worker closed the connection");
                longest = longest.max(asked.elapsed());
                tokio::time::sleep(PROBE_INTERVAL).await;
            }
            Ok(longest)
        });
        Ok(Self { over, asking })
    }

    /// Ends it; the longest time that an answer took.
    async fn longest(self) -> anyhow::Result<Duration> {
        self.over.store(true, Ordering::Relaxed);
        self.asking.await?
    }
}

async fn free_address() -> anyhow::Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
    Ok(listener.local_addr()?.to_string())
}

async fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream =
        TcpStream::connect(address).await.context("the worker's HTTP endpoint does not answer")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// The value of a metric without labels of its own.
fn metric(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find(|line| line.starts_with(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn mib(rig: &mut Rig) -> f64 {
    rig.workers.usage().resident_kib as f64 / 1024.0
}

/// The catalog: no two tools have the same schema, and `version` is in that of the first tool alone.
fn catalog(server: &FlowServer, servers: u32, tools: u32, version: &str) -> Value {
    let registered: Vec<_> =
        (0..servers).map(|n| json!({"id": format!("s{n}"), "url": server.url(&format!("s{n}"))})).collect();
    let tool = |n: u32| {
        let mut properties = serde_json::Map::new();
        for (i, pattern) in PATTERNS.iter().enumerate() {
            let property = json!({"type": "string", "pattern": pattern, "maxLength": 100 + n});
            properties.insert(format!("argument_{i}"), property);
        }
        let version = if n == 0 { version } else { "" };
        let call = format!("^(load|t|{version}x{n})[a-z0-9-]+$");
        properties.insert("call".to_owned(), json!({"type": "string", "pattern": call}));
        let schema = json!({"type": "object", "properties": properties, "required": ["call"]});
        json!({"id": format!("t{n}"), "server": format!("s{}", n % servers), "name": "t", "input_schema": schema})
    };
    let tools: Vec<_> = (0..tools).map(tool).collect();
    json!({"servers": registered, "tools": tools, "tenants": {"queue": ["*"]}})
}

/// One call of each of the first tools.
fn of_tools(tools: u32) -> Vec<FlowCall> {
    let call = |n: u32| FlowCall {
        id: format!("t{n}"),
        tenant: "acme".into(),
        tool: format!("t{n}"),
        ms: 1,
        at: Duration::ZERO,
        priority: Priority::Normal,
    };
    (0..tools).map(call).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_read_from_the_page() {
        let page =
            "HTTP/1.1 200 OK\r\n\r\n# HELP a_taken_total x\na_taken_total{otel_scope_name=\"w\"} 3\nb 5\n";
        assert_eq!(
            (metric(page, "a_taken"), metric(page, "b"), metric(page, "c")),
            (Some(3.0), Some(5.0), None)
        );
    }

    #[tokio::test]
    async fn the_versions_of_the_catalog_differ_in_one_tool() {
        let server = FlowServer::start(&[]).await.unwrap();
        let of = |version| catalog(&server, 3, 7, version);
        let (first, second) = (of("first"), of("second"));
        let (first, second) = (first["tools"].as_array().unwrap(), second["tools"].as_array().unwrap());
        assert_eq!(first.len(), 7);
        assert_eq!(first.iter().zip(second).filter(|(a, b)| a != b).count(), 1);
        assert_ne!(first[1]["input_schema"], first[2]["input_schema"]);
    }
}
