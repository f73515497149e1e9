//! Property tests of the queue engine: in any order of operations, no message is lost, duplicated or delivered early.
//!
//! **Invariant:** the model here knows nothing of how the engine finds its messages.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::prelude::*;

use super::change::Change;
use super::message::{Content, Message};
use super::{Delivery, Queues};
use crate::sqs::error::SqsError;

const VISIBILITY_MS: u64 = 30_000;

fn content(id: usize) -> Arc<Content> {
    content_of(id, None)
}

fn content_of(id: usize, group: Option<u8>) -> Arc<Content> {
    Arc::new(Content {
        message_id: format!("m{id}"),
        body: "x".to_owned(),
        body_md5: String::new(),
        attributes: BTreeMap::new(),
        trace_header: None,
        group_id: group.map(|group| group.to_string()),
        deduplication_id: None,
        sender_id: String::new(),
    })
}

fn attributes(given: &[(&str, &str)]) -> BTreeMap<String, String> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn one_queue(given: &[(&str, &str)]) -> Queues {
    let mut queues = Queues::default();
    queues.create("q", attributes(given), BTreeMap::new(), 0).unwrap();
    queues
}

/// A queue whose messages go to `dlq` after two receives.
fn with_dead_letters() -> Queues {
    let mut queues = Queues::default();
    queues.create("dlq", BTreeMap::new(), BTreeMap::new(), 0).unwrap();
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dlq","maxReceiveCount":2}"#;
    queues.create("q", attributes(&[("RedrivePolicy", policy)]), BTreeMap::new(), 0).unwrap();
    queues
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.content.message_id.as_str()).collect()
}

fn count(queues: &mut Queues, name: &str, attribute: &str, now_ms: u64) -> usize {
    let shown = queues.attributes(name, &["All".to_owned()], now_ms).unwrap();
    shown[attribute].parse().unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Send { delay_ms: Option<u64>, group: Option<u8> },
    Receive { max: usize, visibility_ms: Option<u64> },
    Delete { at: usize },
    Hide { at: usize, timeout_ms: u64 },
    Wait { ms: u64 },
    Restart { from_snapshot: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (prop::option::of(0_u64..5_000), prop::option::of(0_u8..3))
            .prop_map(|(delay_ms, group)| Step::Send { delay_ms, group }),
        4 => (1_usize..=10, prop::option::of(0_u64..5_000))
            .prop_map(|(max, visibility_ms)| Step::Receive { max, visibility_ms }),
        2 => any::<usize>().prop_map(|at| Step::Delete { at }),
        2 => (any::<usize>(), 0_u64..5_000).prop_map(|(at, timeout_ms)| Step::Hide { at, timeout_ms }),
        3 => (0_u64..10_000).prop_map(|ms| Step::Wait { ms }),
        1 => any::<bool>().prop_map(|from_snapshot| Step::Restart { from_snapshot }),
    ]
}

/// What must be true of each message: its receives so far, and when it may be received next.
#[derive(Debug, Default)]
struct Model {
    alive: HashMap<String, (u32, u64)>,
    handles: Vec<(String, String, u32)>,
}

/// The queues after a restart: the changes go through the text of a journal.
fn replayed(changes: &[Change]) -> Queues {
    let text = serde_json::to_string(changes).unwrap();
    Queues::replay(serde_json::from_str::<Vec<_>>(&text).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_is_lost_doubled_or_early(steps in prop::collection::vec(step(), 1..120)) {
        let mut queues = one_queue(&[]);
        let mut model = Model::default();
        let mut journal = queues.take_changes();
        let mut now_ms = 0;
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send { delay_ms, group } => {
                    queues.send("q", content_of(at, group), delay_ms, now_ms).unwrap();
                    model.alive.insert(format!("m{at}"), (0, now_ms + delay_ms.unwrap_or(0)));
                }
                Step::Receive { max, visibility_ms } => {
                    let deliveries = queues.receive("q", max, visibility_ms, now_ms).unwrap();
                    let due = model.alive.values().filter(|(_, due_ms)| *due_ms <= now_ms).count();
                    prop_assert_eq!(deliveries.len(), due.min(max));
                    for delivery in deliveries {
                        let id = &delivery.message.content.message_id;
                        let (receives, due_ms) = model.alive.get_mut(id).unwrap();
                        prop_assert!(*due_ms <= now_ms, "{} came early", id);
                        *receives += 1;
                        *due_ms = now_ms + visibility_ms.unwrap_or(VISIBILITY_MS);
                        prop_assert_eq!(delivery.message.receive_count, *receives);
                        model.handles.push((delivery.handle, id.clone(), *receives));
                    }
                }
                Step::Delete { at } if !model.handles.is_empty() => {
                    let (handle, id, receive) = &model.handles[at % model.handles.len()];
                    queues.delete("q", handle, now_ms).unwrap();
                    if model.alive.get(id).is_some_and(|(receives, _)| receives == receive) {
                        model.alive.remove(id);
                    }
                }
                Step::Hide { at, timeout_ms } if !model.handles.is_empty() => {
                    let (handle, id, receive) = &model.handles[at % model.handles.len()];
                    let result = queues.change_visibility("q", handle, timeout_ms, now_ms);
                    match model.alive.get_mut(id) {
                        Some((receives, due_ms)) if receives == receive && *due_ms > now_ms => {
                            prop_assert_eq!(result, Ok(()));
                            *due_ms = now_ms + timeout_ms;
                        }
                        Some(_) => prop_assert_eq!(result, Err(SqsError::MessageNotInflight)),
                        None => prop_assert!(matches!(result, Err(SqsError::InvalidParameterValue(_)))),
                    }
                }
                Step::Delete { .. } | Step::Hide { .. } => {}
                Step::Wait { ms } => now_ms += ms,
                Step::Restart { from_snapshot } => {
                    journal.extend(queues.take_changes());
                    let kept = if from_snapshot { queues.snapshot() } else { journal.clone() };
                    queues = replayed(&kept);
                }
            }
            let visible = count(&mut queues, "q", "ApproximateNumberOfMessages", now_ms);
            let in_flight = count(&mut queues, "q", "ApproximateNumberOfMessagesNotVisible", now_ms);
            let delayed = count(&mut queues, "q", "ApproximateNumberOfMessagesDelayed", now_ms);
            let due = model.alive.values().filter(|(_, due_ms)| *due_ms <= now_ms).count();
            prop_assert_eq!((visible, visible + in_flight + delayed), (due, model.alive.len()));
        }
    }
}

#[test]
fn a_message_received_too_often_goes_to_the_dead_letter_queue_and_keeps_its_history() {
    let mut queues = with_dead_letters();
    queues.send("q", content(1), None, 7).unwrap();
    for round in 0..2 {
        assert_eq!(ids(&queues.receive("q", 10, Some(0), 10 + round).unwrap()), ["m1"]);
    }
    assert!(queues.receive("q", 10, None, 20).unwrap().is_empty());
    let deliveries = queues.receive("dlq", 10, None, 20).unwrap();
    let Message { sent_ms, first_received_ms, receive_count, dead_letter_of, .. } =
        deliveries[0].message.clone();
    assert_eq!((sent_ms, first_received_ms, receive_count), (7, Some(10), 3));
    assert_eq!(dead_letter_of.as_deref(), Some("arn:aws:sqs:us-east-1:000000000000:q"));
}

#[test]
fn a_healthy_message_behind_exhausted_ones_is_received_in_the_same_request() {
    let mut queues = with_dead_letters();
    for id in 0..20 {
        queues.send("q", content(id), None, 0).unwrap();
    }
    for _ in 0..4 {
        queues.receive("q", 10, Some(0), 1).unwrap();
    }
    queues.send("q", content(99), None, 2).unwrap();
    assert_eq!(ids(&queues.receive("q", 10, None, 2).unwrap()), ["m99"]);
    assert_eq!(count(&mut queues, "dlq", "ApproximateNumberOfMessages", 2), 20);
}

#[test]
fn a_message_is_forgotten_when_its_retention_is_over_wherever_it_is() {
    let mut queues = one_queue(&[("MessageRetentionPeriod", "60")]);
    for id in 0..3 {
        queues.send("q", content(id), (id == 2).then_some(50_000), 0).unwrap();
    }
    queues.receive("q", 1, None, 0).unwrap();
    for attribute in ["", "NotVisible", "Delayed"] {
        let attribute = format!("ApproximateNumberOfMessages{attribute}");
        assert_eq!(count(&mut queues, "q", &attribute, 0), 1);
        assert_eq!(count(&mut queues.clone_by_snapshot(), "q", &attribute, 60_000), 0);
    }
}

impl Queues {
    fn clone_by_snapshot(&self) -> Self {
        Self::replay(self.snapshot())
    }
}

#[test]
fn a_queue_takes_no_more_than_120000_messages_in_flight() {
    let mut queues = one_queue(&[]);
    for id in 0..120_001 {
        queues.send("q", content(id), None, 0).unwrap();
    }
    let mut handles = Vec::new();
    for _ in 0..12_000 {
        handles.extend(queues.receive("q", 10, None, 0).unwrap());
    }
    assert_eq!(handles.len(), 120_000);
    assert_eq!(queues.receive("q", 10, None, 0).unwrap_err(), SqsError::OverLimit(120_000));
    queues.delete("q", &handles[5].handle, 0).unwrap();
    assert_eq!(queues.receive("q", 10, None, 0).unwrap().len(), 1);
}

#[test]
fn a_message_given_back_waits_behind_those_that_were_visible_before_it() {
    let mut queues = one_queue(&[]);
    queues.send("q", content(1), None, 0).unwrap();
    queues.send("q", content(2), None, 1).unwrap();
    let first = queues.receive("q", 1, None, 2).unwrap();
    queues.change_visibility("q", &first[0].handle, 0, 3).unwrap();
    assert_eq!(ids(&queues.receive("q", 10, None, 3).unwrap()), ["m2", "m1"]);
}

#[test]
fn no_message_is_hidden_longer_than_twelve_hours_after_a_receive() {
    let mut queues = one_queue(&[]);
    queues.send("q", content(1), None, 0).unwrap();
    let handle = queues.receive("q", 1, Some(43_200_000), 0).unwrap()[0].handle.clone();
    let later = queues.change_visibility("q", &handle, 43_200_000, 1);
    assert!(matches!(later, Err(SqsError::InvalidParameterValue(_))));
    assert_eq!(queues.change_visibility("q", &handle, 43_199_999, 1), Ok(()));
}

#[test]
fn a_handle_of_another_queue_or_of_a_queue_that_was_made_anew_deletes_nothing() {
    let mut queues = with_dead_letters();
    queues.send("q", content(1), None, 0).unwrap();
    let handle = queues.receive("q", 1, None, 0).unwrap()[0].handle.clone();
    assert!(matches!(queues.delete("dlq", &handle, 0), Err(SqsError::ReceiptHandleIsInvalid(_))));
    queues.drop_queue("q").unwrap();
    queues.create("q", BTreeMap::new(), BTreeMap::new(), 0).unwrap();
    queues.send("q", content(2), None, 0).unwrap();
    queues.receive("q", 1, Some(0), 0).unwrap();
    assert_eq!(queues.delete("q", &handle, 0), Ok(()));
    assert_eq!(count(&mut queues, "q", "ApproximateNumberOfMessages", 1), 1);
}
