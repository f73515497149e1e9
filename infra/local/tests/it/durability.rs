//! Tests of durability: what was acknowledged is there after the process has ended.
//!
//! **Invariant:** endpoints are dropped, never shut down, except where a test says so.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName, QueueAttributeName};
use toolfleet_local::{Clock, DATA_YAML, LocalEndpoints, LocalError, LocalOptions};

use crate::harness::{Local, START_MS, clients};

const CALLS: &str = "toolfleet-calls";

/// A directory of its own for each test, removed at its end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("toolfleet-local-{name}-{}", std::process::id()));
        let _absent = std::fs::remove_dir_all(&path);
        Self(path)
    }

    pub(crate) fn options(&self) -> LocalOptions {
        LocalOptions { data_dir: Some(self.0.join("data")), ..LocalOptions::default() }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_dir_all(&self.0);
    }
}

async fn send(local: &Local, body: &str) {
    local.sqs.send_message().queue_url(local.url(CALLS)).message_body(body).send().await.unwrap();
}

async fn receive(local: &Local) -> Vec<Message> {
    let ask = local
        .sqs
        .receive_message()
        .queue_url(local.url(CALLS))
        .max_number_of_messages(10)
        .wait_time_seconds(0);
    let ask = ask.message_system_attribute_names(MessageSystemAttributeName::All);
    ask.send().await.unwrap().messages.unwrap_or_default()
}

#[tokio::test]
async fn an_acknowledged_send_is_received_after_the_endpoints_were_dropped() {
    let scratch = Scratch::new("send");
    let local = Local::start_with(scratch.options()).await;
    send(&local, "kept").await;
    drop(local);
    let local = Local::start_with(scratch.options()).await;
    assert_eq!(receive(&local).await[0].body(), Some("kept"));
}

/// Not a test: what `what_was_acknowledged_survives_kill_9` starts and kills.
#[tokio::test]
#[ignore = "a process for another test to kill"]
async fn endpoints_to_be_killed() {
    let Some(directory) = std::env::var_os(KILLED_DIRECTORY) else {
        return;
    };
    let options = LocalOptions { data_dir: Some(directory.into()), ..LocalOptions::default() };
    let endpoints = LocalEndpoints::start(options).await.unwrap();
    println!("\nserving {} {}", endpoints.sqs_url(), endpoints.dynamodb_url());
    std::future::pending::<()>().await;
}

const KILLED_DIRECTORY: &str = "TOOLFLEET_TEST_KILLED_DIRECTORY";

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    use std::io::{BufRead as _, BufReader};
    let scratch = Scratch::new("kill");
    let data_dir = scratch.options().data_dir.unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "durability::endpoints_to_be_killed"])
        .env(KILLED_DIRECTORY, &data_dir)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.starts_with("serving ")).unwrap();
    let urls: Vec<_> = line.split(' ').collect();
    let (sqs, dynamodb, _secrets) = clients(urls[1], urls[2]);
    let url = format!("{}/000000000000/{CALLS}", urls[1]);
    for at in 0..50 {
        let body = at.to_string();
        sqs.send_message().queue_url(&url).message_body(&body).send().await.unwrap();
        dynamodb.put_item().table_name(CALLS).item("pk", AttributeValue::S(body)).send().await.unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();

    // The killed process lived by the system's clock, and retention is counted by it.
    let local = Local::start_at(Clock::system(), scratch.options()).await;
    let mut received = 0;
    while let count @ 1.. = receive(&local).await.len() {
        received += count;
    }
    let rows = local.dynamodb.scan().table_name(CALLS).send().await.unwrap();
    assert_eq!((received, rows.count()), (50, 50));
}

#[tokio::test]
async fn deletes_receives_and_handles_are_kept_too() {
    let scratch = Scratch::new("receipts");
    let clock = Clock::manual(START_MS);
    let local = Local::start_at(clock.clone(), scratch.options()).await;
    for body in ["deleted", "held", "waiting"] {
        send(&local, body).await;
    }
    let received = receive(&local).await;
    let handle = |at: usize| received[at].receipt_handle().unwrap();
    let delete = async |local: &Local, handle: &str| {
        local.sqs.delete_message().queue_url(local.url(CALLS)).receipt_handle(handle).send().await.unwrap();
    };
    delete(&local, handle(0)).await;
    let release = local.sqs.change_message_visibility().queue_url(local.url(CALLS)).receipt_handle(handle(2));
    release.visibility_timeout(0).send().await.unwrap();
    drop(local);

    let local = Local::start_at(clock.clone(), scratch.options()).await;
    let again = receive(&local).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].body(), Some("waiting"));
    let system = again[0].attributes().unwrap();
    assert_eq!(system[&MessageSystemAttributeName::ApproximateReceiveCount], "2");
    assert_eq!(system[&MessageSystemAttributeName::SentTimestamp], START_MS.to_string());
    delete(&local, handle(1)).await;
    drop(local);

    clock.advance_ms(30_000);
    let local = Local::start_at(clock, scratch.options()).await;
    let left = receive(&local).await;
    assert_eq!(left.iter().map(|message| message.body().unwrap()).collect::<Vec<_>>(), ["waiting"]);
}

#[tokio::test]
async fn a_journal_cut_off_in_its_last_line_loses_that_line_alone() {
    let scratch = Scratch::new("torn");
    let local = Local::start_with(scratch.options()).await;
    send(&local, "whole").await;
    send(&local, "torn").await;
    drop(local);
    let path = scratch.0.join("data/sqs.journal");
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() - 10]).unwrap();
    for _ in 0..2 {
        let local = Local::start_with(scratch.options()).await;
        let shown = local
            .sqs
            .get_queue_attributes()
            .queue_url(local.url(CALLS))
            .attribute_names(QueueAttributeName::All);
        let shown = shown.send().await.unwrap().attributes.unwrap();
        assert_eq!(shown[&QueueAttributeName::ApproximateNumberOfMessages], "1");
    }
}

#[tokio::test]
async fn secrets_and_rows_and_queues_made_by_hand_are_kept() {
    let scratch = Scratch::new("rest");
    let local = Local::start_with(scratch.options()).await;
    local.secrets.create_secret().name("s").secret_string("1").send().await.unwrap();
    local.secrets.put_secret_value().secret_id("s").secret_string("2").send().await.unwrap();
    local.sqs.create_queue().queue_name("by-hand").send().await.unwrap();
    let pk = AttributeValue::S("a".to_owned());
    local.dynamodb.put_item().table_name(CALLS).item("pk", pk.clone()).send().await.unwrap();
    drop(local);
    let local = Local::start_with(scratch.options()).await;
    let got = local.secrets.get_secret_value().secret_id("s").send().await.unwrap();
    assert_eq!(got.secret_string(), Some("2"));
    assert!(local.sqs.get_queue_url().queue_name("by-hand").send().await.is_ok());
    let row = local.dynamodb.get_item().table_name(CALLS).key("pk", pk).send().await.unwrap();
    assert!(row.item().is_some());
}

#[tokio::test]
async fn a_queue_that_was_kept_takes_the_attributes_of_a_changed_template() {
    let scratch = Scratch::new("changed");
    let local = Local::start_with(scratch.options()).await;
    send(&local, "kept").await;
    drop(local);
    let parameters = BTreeMap::from([("VisibilityTimeoutSeconds".to_owned(), "77".to_owned())]);
    let local = Local::start_with(LocalOptions { parameters, ..scratch.options() }).await;
    let ask = local.sqs.get_queue_attributes().queue_url(local.url(CALLS));
    let shown = ask.attribute_names(QueueAttributeName::VisibilityTimeout).send().await.unwrap();
    assert_eq!(shown.attributes().unwrap()[&QueueAttributeName::VisibilityTimeout], "77");
    assert_eq!(receive(&local).await.len(), 1);
}

#[tokio::test]
async fn a_directory_in_use_is_refused_until_it_is_free() {
    let scratch = Scratch::new("lock");
    let local = Local::start_with(scratch.options()).await;
    let error = LocalEndpoints::start(scratch.options()).await.unwrap_err();
    assert!(matches!(error, LocalError::DataDirInUse { .. }), "{error}");
    local.endpoints.shutdown().await;
    LocalEndpoints::start(scratch.options()).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let scratch = Scratch::new("file");
    std::fs::create_dir_all(&scratch.0).unwrap();
    std::fs::write(scratch.0.join("data"), "a file").unwrap();
    let error = LocalEndpoints::start(scratch.options()).await.unwrap_err();
    assert!(matches!(error, LocalError::DataDir { .. }));
    assert!(error.to_string().contains("data cannot be used; give a directory"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_what_is_kept() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new("private");
    let local = Local::start_with(scratch.options()).await;
    let mode = |name: &str| std::fs::metadata(scratch.0.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("data"), mode("data/secrets.journal"), mode("data/sqs.journal")), (0o700, 0o600, 0o600));
    drop(local);
}

#[tokio::test]
async fn a_kept_table_with_other_indexes_than_the_template_is_named_and_left_alone() {
    let scratch = Scratch::new("table");
    drop(Local::start_with(scratch.options()).await);
    let template = Some(DATA_YAML.replace("by_failure", "by_fault"));
    let error = LocalEndpoints::start(LocalOptions { template, ..scratch.options() }).await.unwrap_err();
    assert!(
        error.to_string().starts_with("table toolfleet-history: it exists with other keys or indexes"),
        "{error}"
    );
    drop(Local::start_with(scratch.options()).await);
}
