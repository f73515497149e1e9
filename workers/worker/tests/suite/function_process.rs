//! The worker's program as the runtime of a Lambda function: a process with Lambda's variables.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};
use toolfleet_aws::queue::Depth;
use toolfleet_core::outcome::OutcomeKind;
use toolfleet_testkit::{MockRuntimeApi, RuntimeAnswer};

use crate::event_source::{BATCH, EventSource};
use crate::rig::{Rig, SENDER, START_MS, request};

/// The program, as Lambda starts it: its settings and the address of the runtime API, no arguments.
struct Program {
    process: Child,
    catalog: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _absent = std::fs::remove_file(&self.catalog);
    }
}

fn start(rig: &Rig, api: &MockRuntimeApi, catalog: &Value, variables: &[(&str, &str)]) -> Program {
    let path = std::env::temp_dir().join(format!("toolfleet-{}.json", uuid::Uuid::new_v4().simple()));
    std::fs::write(&path, catalog.to_string()).unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_toolfleet-worker"))
        .env_clear()
        .envs([("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", SENDER), ("AWS_SECRET_ACCESS_KEY", "b")])
        .env("AWS_ENDPOINT_URL_SQS", rig.local.sqs_url())
        .env("AWS_ENDPOINT_URL_DYNAMODB", rig.local.dynamodb_url())
        .env("AWS_ENDPOINT_URL_S3", rig.local.s3_url())
        .env("AWS_LAMBDA_RUNTIME_API", api.address())
        .env("TOOLFLEET_QUEUE_URL", rig.queue().url())
        .env("TOOLFLEET_DEAD_LETTER_QUEUE_URL", rig.local.queue_url("toolfleet-calls-dlq"))
        .env("TOOLFLEET_CATALOG", &path)
        .envs([("TOOLFLEET_ALLOW_HTTP", "true"), ("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "127.0.0.0/8")])
        .envs(variables.iter().copied())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    Program { process, catalog: path }
}

/// The clock of the endpoints is that of the process.
async fn rig() -> Rig {
    let rig = Rig::new().await;
    let now_ms = toolfleet_local::Clock::system().now_ms();
    rig.clock.advance_ms(now_ms - START_MS);
    rig
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_runs_batches_as_a_functions_runtime() {
    for at_once in [None, Some("4")] {
        let (rig, api) = (rig().await, MockRuntimeApi::start().await);
        let variables: Vec<_> =
            at_once.map(|count| ("AWS_LAMBDA_MAX_CONCURRENCY", count)).into_iter().collect();
        let mut program = start(&rig, &api, &rig.catalog(), &variables);
        let source = EventSource::of(&rig);
        api.polls(at_once.map_or(1, |count| count.parse().unwrap())).await;
        for round in 0..2 {
            for n in 0..3 {
                rig.send(request(&format!("c{round}-{n}"), "unsafe").to_string()).await;
            }
            let batch = source.receive(BATCH).await;
            let deadline = i64::try_from(rig.clock.now_ms() + 60_000).unwrap();
            let answer = api.answer(&api.invoke(source.event(&batch), deadline)).await;
            assert_eq!(answer, RuntimeAnswer::Response(json!({"batchItemFailures": []})));
            assert!(source.settle(&batch, &answer).await.is_empty());
            for n in 0..3 {
                assert_eq!(rig.outcome(&format!("c{round}-{n}")).await.kind, OutcomeKind::Succeeded);
            }
        }
        assert_eq!(rig.mcp.executions("unsafe"), 6);
        assert_eq!(rig.queue().depth().await.unwrap(), Depth { visible: 0, in_flight: 0, delayed: 0 });
        // Lambda asks an environment with managed instances to end.
        let pid = program.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        assert!(program.process.wait().await.unwrap().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_is_told_to_lambda_with_the_remedy() {
    let (rig, api) = (rig().await, MockRuntimeApi::start().await);
    let mut program = start(&rig, &api, &json!({"servers": 1}), &[("TOOLFLEET_LOG", "off")]);
    let error = api.start_error().await;
    let text = error["errorMessage"].as_str().unwrap();
    assert!(text.starts_with("TOOLFLEET_CATALOG: "), "{text}");
    assert_eq!(error["errorType"], "Toolfleet.StartFailed");
    assert_eq!(program.process.wait().await.unwrap().code(), Some(1));
}
