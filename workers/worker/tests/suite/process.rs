//! The worker's program as a process: what it prints, and how it ends.

use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::net::TcpListener;

use crate::rig::{Rig, SENDER, START_MS};

const PROGRAM: &str = env!("CARGO_BIN_EXE_toolfleet-worker");

#[test]
fn a_log_for_people_in_a_file_has_no_escapes() {
    let ran = Command::new(PROGRAM).env_clear().env("TOOLFLEET_LOG_FORMAT", "text").output().unwrap();
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("start_failed") && !said.contains('\u{1b}'), "{said}");
}

#[test]
fn a_reader_that_has_seen_enough_of_the_settings_is_no_failure() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut program = Command::new(PROGRAM);
    let ran = program.arg("settings").env_clear().stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let ran = ran.wait_with_output().unwrap();
    assert_eq!((ran.status.code(), String::from_utf8(ran.stderr).unwrap().as_str()), (Some(0), ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_answer_costs_three_seconds_at_the_end() {
    let rig = Rig::new().await;
    // The clock of the endpoints is that of the process.
    rig.clock.advance_ms(toolfleet_local::Clock::system().now_ms() - START_MS);
    // It accepts connections, and reads nothing of them.
    let receiver = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let catalog = std::env::temp_dir().join(format!("toolfleet-{}.json", uuid::Uuid::new_v4().simple()));
    std::fs::write(&catalog, rig.catalog().to_string()).unwrap();
    let mut process = tokio::process::Command::new(PROGRAM)
        .env_clear()
        .envs([("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", SENDER), ("AWS_SECRET_ACCESS_KEY", "b")])
        .env("AWS_ENDPOINT_URL_SQS", rig.local.sqs_url())
        .env("AWS_ENDPOINT_URL_DYNAMODB", rig.local.dynamodb_url())
        .env("TOOLFLEET_QUEUE_URL", rig.queue().url())
        .env("TOOLFLEET_CATALOG", &catalog)
        .envs([("TOOLFLEET_ALLOW_HTTP", "true"), ("TOOLFLEET_ALLOW_PRIVATE_ADDRESSES", "127.0.0.0/8")])
        .env("TOOLFLEET_HTTP_ADDR", free.to_string())
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", receiver.local_addr().unwrap()))
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ready = format!("http://{free}/health/ready");
    while !reqwest::get(&ready).await.is_ok_and(|answer| answer.status().is_success()) {
        tokio::task::yield_now().await;
        assert_eq!(process.try_wait().unwrap(), None, "it has ended");
    }
    std::fs::remove_file(&catalog).unwrap();
    let pid = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    // Three seconds for telemetry; the SDK's own wait for its receiver takes it to eight.
    let ended = tokio::time::timeout(Duration::from_secs(6), process.wait()).await;
    assert!(ended.expect("it ends in time").unwrap().success());
}
