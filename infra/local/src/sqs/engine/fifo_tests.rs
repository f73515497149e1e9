//! Property test of FIFO queues: after any operations in any order, each group is received in the order it was sent.
//!
//! The model is a list for each group and shares no code with the engine.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use proptest::prelude::*;

use super::Queues;
use super::change::Change;
use super::message::Content;

const QUEUE: &str = "q.fifo";

#[derive(Debug, Clone)]
enum Step {
    Send { group: u8, id: u8 },
    Receive { max: usize, visibility_ms: u64 },
    Delete { at: usize },
    Release { at: usize },
    Wait { ms: u64 },
    Restart { from_snapshot: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0_u8..3, any::<u8>()).prop_map(|(group, id)| Step::Send { group, id }),
        4 => (1_usize..=10, 1_u64..100_000)
            .prop_map(|(max, visibility_ms)| Step::Receive { max, visibility_ms }),
        3 => any::<usize>().prop_map(|at| Step::Delete { at }),
        1 => any::<usize>().prop_map(|at| Step::Release { at }),
        2 => (0_u64..200_000).prop_map(|ms| Step::Wait { ms }),
        1 => any::<bool>().prop_map(|from_snapshot| Step::Restart { from_snapshot }),
    ]
}

fn content(at: usize, group: u8, id: u8) -> Arc<Content> {
    Arc::new(Content {
        message_id: format!("m{at}"),
        body: "x".to_owned(),
        body_md5: String::new(),
        attributes: BTreeMap::new(),
        trace_header: None,
        group_id: Some(group.to_string()),
        deduplication_id: Some(id.to_string()),
        sender_id: String::new(),
    })
}

/// A message of the model: its id, until when it is hidden, and the handle of its last receive.
#[derive(Debug, Clone)]
struct Sent {
    id: String,
    hidden_until_ms: u64,
    handle: Option<String>,
}

#[derive(Debug, Default)]
struct Model {
    groups: BTreeMap<String, Vec<Sent>>,
    remembered: HashMap<u8, (String, u64)>,
}

impl Model {
    fn free(&self, now_ms: u64) -> impl Iterator<Item = &Vec<Sent>> {
        self.groups.values().filter(move |group| group.iter().all(|sent| sent.hidden_until_ms <= now_ms))
    }

    fn in_flight(&self, at: usize, now_ms: u64) -> Option<(String, String)> {
        let held = self.groups.iter().flat_map(|(group, sent)| sent.iter().map(move |sent| (group, sent)));
        let held: Vec<_> = held.filter(|(_, sent)| sent.hidden_until_ms > now_ms).collect();
        let (group, sent) = held.get(at.checked_rem(held.len())?)?;
        Some(((*group).clone(), sent.handle.clone()?))
    }
}

/// The queues after a restart: the changes go through the text of a journal.
fn replayed(changes: &[Change]) -> Queues {
    let text = serde_json::to_string(changes).unwrap();
    Queues::replay(serde_json::from_str::<Vec<_>>(&text).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn groups_keep_their_order_and_ids_are_unique_for_five_minutes(
        steps in prop::collection::vec(step(), 1..150)
    ) {
        let mut queues = Queues::default();
        let fifo = BTreeMap::from([("FifoQueue".to_owned(), "true".to_owned())]);
        queues.create(QUEUE, fifo, BTreeMap::new(), 0).unwrap();
        let mut model = Model::default();
        let mut journal = queues.take_changes();
        let mut now_ms = 0;
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send { group, id } => {
                    let receipt = queues.send(QUEUE, content(at, group, id), None, now_ms).unwrap();
                    let known = model.remembered.get(&id).filter(|(_, sent_ms)| sent_ms + 300_000 > now_ms);
                    if let Some((original, _)) = known {
                        prop_assert_eq!(&receipt.message_id, original);
                    } else {
                        prop_assert_eq!(&receipt.message_id, &format!("m{at}"));
                        let sent = Sent { id: receipt.message_id.clone(), hidden_until_ms: 0, handle: None };
                        model.groups.entry(group.to_string()).or_default().push(sent);
                        model.remembered.insert(id, (receipt.message_id, now_ms));
                    }
                }
                Step::Receive { max, visibility_ms } => {
                    let receivable: usize = model.free(now_ms).map(Vec::len).sum();
                    let got = queues.receive(QUEUE, max, Some(visibility_ms), now_ms).unwrap();
                    prop_assert_eq!(got.len(), receivable.min(max));
                    let mut next: HashMap<String, usize> = HashMap::new();
                    let free: Vec<_> = model.groups.iter()
                        .filter(|(_, group)| group.iter().all(|sent| sent.hidden_until_ms <= now_ms))
                        .map(|(name, _)| name.clone()).collect();
                    for delivery in got {
                        let group = delivery.message.content.group_id.clone().unwrap();
                        prop_assert!(free.contains(&group), "group {} was held", group);
                        let place = next.entry(group.clone()).or_default();
                        let sent = &mut model.groups.get_mut(&group).unwrap()[*place];
                        prop_assert_eq!(&sent.id, &delivery.message.content.message_id);
                        sent.hidden_until_ms = now_ms + visibility_ms;
                        sent.handle = Some(delivery.handle);
                        *place += 1;
                    }
                }
                Step::Delete { at } => if let Some((group, handle)) = model.in_flight(at, now_ms) {
                    queues.delete(QUEUE, &handle, now_ms).unwrap();
                    model.groups.get_mut(&group).unwrap().retain(|sent| sent.handle.as_ref() != Some(&handle));
                },
                Step::Release { at } => if let Some((group, handle)) = model.in_flight(at, now_ms) {
                    queues.change_visibility(QUEUE, &handle, 0, now_ms).unwrap();
                    let held = model.groups.get_mut(&group).unwrap().iter_mut();
                    held.filter(|sent| sent.handle.as_ref() == Some(&handle)).for_each(|sent| sent.hidden_until_ms = 0);
                },
                Step::Wait { ms } => now_ms += ms,
                Step::Restart { from_snapshot } => {
                    journal.extend(queues.take_changes());
                    let kept = if from_snapshot { queues.snapshot() } else { journal.clone() };
                    queues = replayed(&kept);
                }
            }
        }
    }
}

#[test]
fn a_dead_letter_of_a_fifo_queue_lets_its_group_go_on_and_counts_its_retention_anew() {
    let mut queues = Queues::default();
    let fifo = |more: &[(&str, &str)]| {
        let given = [("FifoQueue", "true")].into_iter().chain(more.iter().copied());
        given.map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
    };
    queues.create("dead.fifo", fifo(&[]), BTreeMap::new(), 0).unwrap();
    let policy =
        r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead.fifo","maxReceiveCount":1}"#;
    queues.create(QUEUE, fifo(&[("RedrivePolicy", policy)]), BTreeMap::new(), 0).unwrap();
    for at in 1..=2 {
        queues.send(QUEUE, content(usize::from(at), 0, at), None, 0).unwrap();
    }
    let first = queues.receive(QUEUE, 1, None, 0).unwrap();
    assert!(queues.receive(QUEUE, 10, None, 29_999).unwrap().is_empty());
    let second = queues.receive(QUEUE, 10, None, 30_000).unwrap();
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(second[0].message.content.message_id, "m2");
    let dead = queues.receive("dead.fifo", 10, None, 30_000).unwrap();
    assert_eq!((dead[0].message.content.message_id.as_str(), dead[0].message.sent_ms), ("m1", 30_000));
}
