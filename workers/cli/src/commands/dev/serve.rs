//! `toolfleet dev` without the demo: start, print the variables, run until a signal, drain, stop.

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::environment::Environment;
use super::local_fleet::{DRAIN, LocalFleet, Options};
use super::pool::Pool;
use super::scaling::{MOST_WORKERS, Socket, Told};
use crate::context::chosen::{Chosen, choose};
use crate::context::dev_fleet;
use crate::context::wish::Wish;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Runs.
pub(super) async fn run(options: Options, output: &Output) -> Result<Exit, CommandError> {
    let mut signals = Signals::listen().map_err(|e| CommandError::Unavailable(e.into()))?;
    let own_catalog = options.catalog.is_some();
    let wants_worker = options.worker;
    let mut fleet = Box::pin(LocalFleet::start(options)).await?;
    let socket = Socket::open().map_err(|e| CommandError::Unavailable(e.into()))?;
    let environment = fleet.environment().with_scale(socket.place());
    let joined = dev_fleet::announce(environment.variables());
    if let Err(error) = &joined {
        output.note(&format!(
            "commands do not find this fleet by themselves; they need the variables: {error}"
        ));
    }
    announce(&fleet, &environment, own_catalog, output)?;
    let mut workers = Workers { desired: u64::from(wants_worker), pool: fleet.shared().map(Pool::new) };
    let signal = loop {
        tokio::select! {
            name = signals.next() => break Some(name),
            is_defect = fleet.worker_ended() => if is_defect { break None },
            asking = socket.next() => {
                if let Some(count) = asking.asked.workers {
                    output.note(&format!("workers: {count} wanted"));
                    workers.set(count.min(MOST_WORKERS), &mut fleet, output)?;
                }
                asking.tell(&workers.told(&fleet)).await;
            }
            lost = workers.lost() => {
                if let Some(id) = lost {
                    output.note(&format!("worker {id} has ended by itself; another one is started"));
                }
                workers.set(workers.desired, &mut fleet, output)?;
            }
        }
    };
    match signal {
        Some(name) => output
            .note(&format!("{name}: the workers finish their running calls; send it again to stop at once")),
        None => output.note("error: the worker has ended by itself; see the lines above"),
    }
    tokio::select! {
        () = async { workers.stop().await; fleet.stop().await } => {}
        _ = signals.next() => output.note("stopped at once; running calls are continued after the next start"),
    }
    match signal {
        Some(_) => Ok(Exit::Done),
        None => Err(CommandError::Unavailable(anyhow::anyhow!("the worker has ended by itself"))),
    }
}

/// What to try with the demo server's tools.
const TRY_DEMO: &str = r##"#   toolfleet call --tenant demo --tool echo --arguments '{"text": "hello"}'
#   toolfleet call --tenant demo --tool flaky --arguments '{"key": "k1", "failures": 2}' --json
#   toolfleet history demo
#   toolfleet tools list
#   aws sqs send-message --endpoint-url "$AWS_ENDPOINT_URL_SQS" --queue-url "$TOOLFLEET_QUEUE_URL" \
#     --message-body '{"v": 1, "call_id": "c1", "tenant": "demo", "tool": "add", "arguments": {"a": 1, "b": 2}}'
#   toolfleet result demo c1"##;

/// What to try with the tools of a catalog.
const TRY_OWN: &str =
    "#   toolfleet tools list --live    (once the lines above are pasted; else with --catalog FILE)
#   toolfleet call --tenant TENANT --server SERVER --operation tools/list
#   toolfleet call --tenant TENANT --server SERVER --name TOOL --arguments '{}'
#   toolfleet history TENANT";

/// How many workers there should be, and those beside the one of this process.
struct Workers {
    desired: u64,
    /// None where the catalog is no file, which other processes could read.
    pool: Option<Pool>,
}

impl Workers {
    /// Runs so many workers from now on. The worker of this process is the last to go, and does not come back.
    fn set(&mut self, count: u64, fleet: &mut LocalFleet, output: &Output) -> Result<(), CommandError> {
        self.desired = count;
        if count == 0 && fleet.has_worker() {
            fleet.drain_worker()?;
        }
        let others = count.saturating_sub(u64::from(fleet.has_worker()));
        if let Some(Err(error)) = self.pool.as_mut().map(|pool| pool.set(others)) {
            output.note(&format!("a worker cannot be started: {error}"));
        }
        Ok(())
    }

    fn told(&self, fleet: &LocalFleet) -> Told {
        let others = self.pool.iter().flat_map(Pool::workers);
        Told { desired: self.desired, workers: fleet.worker().into_iter().chain(others).collect() }
    }

    /// Waits until a process has ended; gives its worker if it ended by itself.
    async fn lost(&mut self) -> Option<String> {
        match &mut self.pool {
            Some(pool) => pool.ended().await,
            None => std::future::pending().await,
        }
    }

    async fn stop(self) {
        if let Some(pool) = self.pool {
            pool.stop(DRAIN).await;
        }
    }
}

fn announce(
    fleet: &LocalFleet,
    environment: &Environment,
    own_catalog: bool,
    output: &Output,
) -> Result<(), CommandError> {
    if output.is_json() {
        output.document(&json!({
            "ready": true,
            "sqs_url": fleet.sqs_url(),
            "dynamodb_url": fleet.dynamodb_url(),
            "mcp_url": fleet.mcp_url(),
            "gateway_url": fleet.gateway_url(),
            "console_url": fleet.console_url(),
            "queue_url": fleet.queue_url(),
            "worker": fleet.worker_id(),
            "env": environment.to_json(),
        }))?;
    }
    let who = match fleet.worker_id() {
        Some(id) => format!("worker {id} takes calls"),
        None => "no worker; start one with: toolfleet-worker".to_owned(),
    };
    let lines = [
        format!("# SQS, Secrets Manager and S3 {}, DynamoDB {}", fleet.sqs_url(), fleet.dynamodb_url()),
        format!("# demo MCP server {}; {who}", fleet.mcp_url()),
        format!("# console {}", fleet.console_url()),
        format!("# MCP gateway {}: connect an MCP client to it", fleet.gateway_url()),
        "#".to_owned(),
        format!("# {}", found_by_commands()),
        "# For the aws command, boto3, toolfleet-worker and other shells, paste this:".to_owned(),
        environment.exports(),
        "#".to_owned(),
        "# Then try:".to_owned(),
        if own_catalog { TRY_OWN } else { TRY_DEMO }.to_owned(),
    ];
    output.line(&lines.join("\n"))?;
    output.note("ready; Ctrl-C stops it");
    Ok(())
}

/// Whether `toolfleet` commands find this fleet, or use another one.
fn found_by_commands() -> String {
    match choose(&Wish::default()) {
        Ok(Chosen::Dev(dev)) if dev.pid == std::process::id() => {
            "toolfleet commands of this user find this fleet by themselves.".to_owned()
        }
        Ok(Chosen::Context { name, .. }) => {
            format!("toolfleet commands use context {name}, not this fleet, until you paste this.")
        }
        Ok(Chosen::Environment) => {
            "toolfleet commands use the fleet of TOOLFLEET_QUEUE_URL, not this one, until you paste this."
                .to_owned()
        }
        Ok(Chosen::Dev(_) | Chosen::Nothing) | Err(_) => {
            "toolfleet commands do not find this fleet by themselves.".to_owned()
        }
    }
}

/// SIGTERM and SIGINT, listened for from the moment this exists: before `ready` is printed.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
