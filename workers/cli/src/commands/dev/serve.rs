//! Owns `toolfleet dev` without the tour: start, say how to join, run until a signal, drain, stop.
//!
//! **Invariant:** signals are listened to before the first line says that it runs; the endpoints outlive the worker.

use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::stage::{Options, Stage};
use crate::ending::{Ending, Failure};
use crate::output::Output;

/// Runs.
pub(super) async fn run(options: Options, output: &Output) -> Result<Ending, Failure> {
    let mut signals = Signals::listen().map_err(|e| Failure::Ours(e.into()))?;
    let mut stage = Box::pin(Stage::start(options)).await?;
    announce(&stage, output)?;
    let told = tokio::select! {
        name = signals.next() => Some(name),
        () = stage.worker_ended() => None,
    };
    match told {
        Some(name) => {
            output.note(&format!("{name}: the worker finishes what runs; once more to stop at once"))
        }
        None => output.note("error: the worker has ended by itself; see the lines above"),
    }
    tokio::select! {
        () = stage.stop() => {}
        _ = signals.next() => output.note("stopped at once; the next start finds what was under way"),
    }
    match told {
        Some(_) => Ok(Ending::Done),
        None => Err(Failure::Ours(anyhow::anyhow!("the worker has ended by itself"))),
    }
}

fn announce(stage: &Stage, output: &Output) -> Result<(), Failure> {
    let environment = stage.environment();
    if output.is_json() {
        output.document(&json!({
            "ready": true,
            "sqs_url": stage.sqs_url(),
            "dynamodb_url": stage.dynamodb_url(),
            "mcp_url": stage.mcp_url(),
            "queue_url": stage.queue_url(),
            "worker": stage.worker_id(),
            "env": environment.to_json(),
        }))?;
    }
    let who = match stage.worker_id() {
        Some(id) => format!("worker {id} takes calls"),
        None => "no worker; start one with: toolfleet-worker".to_owned(),
    };
    let lines = [
        format!("# SQS, Secrets Manager and S3 {}, DynamoDB {}", stage.sqs_url(), stage.dynamodb_url()),
        format!("# demo MCP server {}; {who}", stage.mcp_url()),
        "#".to_owned(),
        "# Paste this into other terminals; the aws command, boto3, toolfleet and toolfleet-worker join with it:".to_owned(),
        environment.exports(),
        "#".to_owned(),
        "# Effect try:".to_owned(),
        r#"#   toolfleet call --tenant demo --tool echo --arguments '{"text": "hello"}'"#.to_owned(),
        r#"#   toolfleet call --tenant demo --tool flaky --arguments '{"key": "k1", "failures": 2}' --json"#.to_owned(),
        "#   toolfleet history --tenant demo".to_owned(),
        "#   toolfleet queue status".to_owned(),
        r#"#   aws sqs send-message --endpoint-url "$AWS_ENDPOINT_URL_SQS" --queue-url "$TOOLFLEET_QUEUE_URL" \"#.to_owned(),
        r##"#     --message-body '{"v": 1, "call_id": "c1", "tenant": "demo", "tool": "add", "arguments": {"a": 1, "b": 2}}'"##.to_owned(),
        "#   toolfleet result demo c1".to_owned(),
    ];
    output.line(&lines.join("\n"))?;
    output.note("ready; Ctrl-C stops it");
    Ok(())
}

/// SIGTERM and SIGINT, heard from the moment this exists.
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
