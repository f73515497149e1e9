//! Dead letters: listed, shown without values, and moved back to the calls.

use serde_json::Value;
use toolfleet_aws::queue::Queue;
use toolfleet_aws::{Aws, AwsOptions};

use crate::run::{Dev, toolfleet};

/// Receives the calls of the queue until they are in the dead-letter queue; hides one of them there if that is asked for.
fn give_up(dev: &Dev, calls: usize, hide_one: bool) {
    let env = |name: &str| dev.ready["env"][name].as_str().unwrap().to_owned();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let aws = Aws::connect(AwsOptions {
            region: Some(env("AWS_REGION")),
            sqs_endpoint: Some(env("AWS_ENDPOINT_URL_SQS")),
            static_credentials: Some(("toolfleet".into(), "toolfleet".into())),
            ..AwsOptions::default()
        })
        .await;
        let queue: Queue = aws.queue(env("TOOLFLEET_QUEUE_URL"));
        let dead = aws.queue(env("TOOLFLEET_DEAD_LETTER_QUEUE_URL"));
        while dead.depth().await.unwrap().visible < u64::try_from(calls).unwrap() {
            for delivery in queue.receive(10, 0, 30).await.unwrap() {
                queue.change_visibility(&delivery.receipt, 0).await.unwrap();
            }
        }
        if hide_one {
            assert_eq!(dead.receive(1, 0, 600).await.unwrap().len(), 1);
        }
    });
}

fn send(dev: &Dev, id: &str, tool: &str) {
    let arguments = r#"{"text": "value-of-ann", "name": "n"}"#;
    let args = ["send", "--tenant", "acme", "--tool", tool, "--call-id", id, "--arguments", arguments];
    dev.toolfleet(&args).exits(0);
}

/// The calls queue, or the dead-letter queue.
fn queue(dev: &Dev, name: &str) -> Value {
    let status = dev.toolfleet(&["queue", "status", "--json"]).exits(0).json();
    let queues = status["queues"].as_array().unwrap();
    queues.iter().find(|queue| queue["queue"] == name).unwrap_or_else(|| panic!("{name}: {status}")).clone()
}

const CALLS: &str = "toolfleet-calls";
const DEAD: &str = "toolfleet-calls-dlq";

#[test]
fn dead_letters_are_listed_and_shown_without_values() {
    let dev = Dev::start(&["--no-worker"]);
    send(&dev, "c1", "echo");
    send(&dev, "c2", "counter");
    give_up(&dev, 2, false);
    let list = dev.toolfleet(&["dlq", "list"]).exits(0);
    list.prints(&["AGE", "MAY HAVE RUN", "c1", "echo", "received_too_often", "not_run"]);
    let json = dev.toolfleet(&["dlq", "list", "--tool", "counter", "--json"]).exits(0).json();
    assert_eq!(
        (json["dead_letters"].as_array().unwrap().len(), &json["complete"]),
        (1, &true.into()),
        "{json}"
    );
    assert_eq!(json["dead_letters"][0]["call_id"], "c2");
    let message_id = json["dead_letters"][0]["message_id"].as_str().unwrap();
    for which in [["c2"].as_slice(), &[message_id], &["acme", "c2"], &["c2", "--tenant", "acme"]] {
        let shown = dev.toolfleet(&[["dlq", "show"].as_slice(), which].concat()).exits(0);
        shown.prints(&[
            "c2 of tenant acme",
            "counter",
            r#""text":"string(12)""#,
            "no row",
            "not_run: surely not run",
        ]);
        assert!(!shown.stdout.contains("value-of-ann"), "{}", shown.stdout);
    }
    dev.toolfleet(&["dlq", "show", "globex", "c2"]).exits(3).complains(&["c2 is not among"]);
    dev.toolfleet(&["dlq", "list", "--tool", "none"])
        .exits(0)
        .prints(&["no dead letter that fits; 2 messages were read"]);
    dev.toolfleet(&["dlq", "show", "c9"]).exits(3).complains(&["c9 is not among the 2 messages"]);
    let dead = queue(&dev, DEAD);
    assert_eq!((&dead["visible"], &dead["in_flight"]), (&2.into(), &0.into()), "{dead}");
    dev.toolfleet(&["why", "acme", "c1"])
        .exits(0)
        .prints(&["its message is in the dead-letter queue", "received too often"]);
}

#[test]
fn a_redrive_is_planned_first_and_moves_with_apply() {
    let dev = Dev::start(&["--no-worker"]);
    send(&dev, "c1", "echo");
    send(&dev, "c2", "counter");
    give_up(&dev, 2, false);
    let plan = dev.toolfleet(&["dlq", "redrive"]).exits(0);
    plan.prints(&["not_run", "2 messages would be moved, 0 failed"]);
    plan.complains(&["nothing was changed; add --apply to move them"]);
    assert_eq!((&queue(&dev, CALLS)["visible"], &queue(&dev, DEAD)["visible"]), (&0.into(), &2.into()));

    let moved = dev.toolfleet(&["dlq", "redrive", "--tool", "counter", "--apply", "--json"]).exits(0).json();
    assert_eq!((&moved["moved"], &moved["failed"], &moved["dry_run"]), (&1.into(), &0.into(), &false.into()));
    assert_eq!(
        (&moved["messages"][0]["call_id"], &moved["messages"][0]["done"]),
        (&"c2".into(), &"moved".into())
    );
    assert_eq!((&queue(&dev, CALLS)["visible"], &queue(&dev, DEAD)["visible"]), (&1.into(), &1.into()));
    dev.toolfleet(&["dlq", "redrive", "--tenant", "globex", "--yes"])
        .exits(3)
        .complains(&["there is no dead letter that fits"]);
}

#[test]
fn a_move_task_of_sqs_moves_all() {
    let dev = Dev::start(&["--no-worker"]);
    send(&dev, "c1", "echo");
    give_up(&dev, 1, false);
    dev.toolfleet(&["dlq", "redrive", "--move-task", "--tool", "echo"])
        .exits(2)
        .complains(&["SQS moves all messages"]);
    dev.toolfleet(&["dlq", "redrive", "--move-task"]).exits(0).prints(&["1 message would be moved"]);
    let started = dev.toolfleet(&["dlq", "redrive", "--move-task", "--yes", "--rate", "100/s"]).exits(0);
    started.prints(&["SQS moves about 1 message, 100 a second"]);
    assert!((0..1_000).any(|_| queue(&dev, CALLS)["visible"] == 1), "the task has moved it");
}

#[test]
fn an_interrupted_list_makes_messages_visible_again() {
    let dev = Dev::start(&["--no-worker"]);
    for n in 0..12 {
        send(&dev, &format!("c{n}"), "echo");
    }
    give_up(&dev, 12, true);
    // It waits for the one that another reader has hidden.
    let reads = || queue(&dev, DEAD)["in_flight"] == 12;
    let ran = dev.interrupt(&["dlq", "list"], reads).exits(1);
    ran.complains(&["interrupted: the list is not complete"]);
    let dead = queue(&dev, DEAD);
    assert_eq!((&dead["visible"], &dead["in_flight"]), (&11.into(), &1.into()), "{dead}");
}

#[test]
fn a_redrive_needs_the_catalog_and_a_rate() {
    let dev = Dev::start(&["--no-worker"]);
    let without = [("TOOLFLEET_CATALOG", "")];
    dev.toolfleet_but(&without, &["dlq", "redrive", "--yes"]).exits(2).complains(&["--catalog"]);
    dev.toolfleet_but(&without, &["dlq", "list"]).exits(0).prints(&["no dead letter; 0 messages were read"]);
    toolfleet(&["dlq", "redrive", "--rate", "fast"]).exits(2).complains(&["is no rate", "20/s"]);
    toolfleet(&["dlq", "list", "--older-than", "1w"]).exits(2).complains(&["is not a span of time"]);
}
