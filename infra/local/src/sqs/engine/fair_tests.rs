//! Tests of fair queues: when a group is noisy, what is handed out then, and that the search stays short with many groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::message::Content;
use super::{Delivery, Queues};

const HOUR_MS: u64 = 3_600_000;

/// A queue that sees messages of groups. Message ids are `<group><number>`.
struct Fixture {
    queues: Queues,
    sent: usize,
}

impl Fixture {
    fn new() -> Self {
        let mut queues = Queues::default();
        for name in ["q", "other"] {
            let visibility = BTreeMap::from([("VisibilityTimeout".to_owned(), "43200".to_owned())]);
            queues.create(name, visibility, BTreeMap::new(), 0).unwrap();
        }
        Self { queues, sent: 0 }
    }

    fn send_to(&mut self, queue: &str, group: Option<&str>, count: usize, now_ms: u64) {
        for _ in 0..count {
            let message_id = format!("{}{}", group.unwrap_or("-"), self.sent);
            let content = Content {
                message_id,
                body: String::new(),
                body_md5: String::new(),
                attributes: BTreeMap::new(),
                trace_header: None,
                group_id: group.map(str::to_owned),
                deduplication_id: None,
                sender_id: String::new(),
            };
            self.queues.send(queue, Arc::new(content), None, now_ms).unwrap();
            self.sent += 1;
        }
    }

    fn send(&mut self, group: &str, count: usize, now_ms: u64) {
        self.send_to("q", Some(group), count, now_ms);
    }

    fn receive(&mut self, count: usize, now_ms: u64) -> Vec<Delivery> {
        (0..count).flat_map(|_| self.queues.receive("q", 1, None, now_ms).unwrap()).collect()
    }

    fn groups(&mut self, count: usize, now_ms: u64) -> String {
        let groups = self.receive(count, now_ms);
        groups.iter().map(|delivery| delivery.message.content.group_id.as_deref().unwrap_or("-")).collect()
    }

    fn delete(&mut self, deliveries: &[Delivery], now_ms: u64) {
        for delivery in deliveries {
            self.queues.delete("q", &delivery.handle, now_ms).unwrap();
        }
    }
}

#[test]
fn quiet_groups_come_first_once_a_group_has_30_in_flight() {
    let mut q = Fixture::new();
    q.send("a", 60, 0);
    q.send("b", 2, 1);
    assert_eq!(q.groups(29, 2), "a".repeat(29));
    assert_eq!(q.groups(1, 2), "a", "29 in flight are too few to be noisy");
    assert_eq!(q.groups(4, 2), "bbaa", "nothing is held back when no quiet message is left");
}

#[test]
fn a_group_with_a_tenth_of_what_is_in_flight_is_not_noisy() {
    let mut q = Fixture::new();
    q.send("a", 40, 0);
    q.send_to("q", None, 360, 1);
    q.receive(400, 2);
    q.send("a", 1, 3);
    q.send("b", 1, 4);
    assert_eq!(q.groups(1, 5), "a", "40 of 400 is a tenth, not more");
    q.send("a", 1, 6);
    q.send("b", 1, 7);
    assert_eq!(q.groups(2, 8), "bb", "41 of 401 is more");
}

#[test]
fn a_group_with_few_slow_messages_is_noisy_by_its_processing_time() {
    let mut q = Fixture::new();
    q.send("a", 5, 0);
    q.send("b", 20, 0);
    let slow = q.receive(2, 0);
    q.delete(&slow, 9_000);
    let quick = q.receive(6, 9_000);
    assert_eq!(quick.len(), 6);
    assert!(quick.iter().all(|delivery| delivery.message.content.group_id.as_deref() == Some("b")));
    q.delete(&quick, 9_100);
    q.send("c", 1, 9_100);
    assert_eq!(q.groups(1, 9_200), "b", "b used 600 ms of 18,600");
    // Two windows later the time is forgotten.
    assert_eq!(q.groups(1, 9_200 + 120_000), "a");
}

#[test]
fn of_two_noisy_groups_the_one_with_fewer_in_flight_is_first() {
    let mut q = Fixture::new();
    q.send("a", 60, 0);
    q.receive(50, 0);
    q.send("b", 60, 1);
    q.receive(35, 1);
    assert_eq!(q.groups(4, 2), "bbbb", "35 and more in flight against 50");
}

#[test]
fn messages_without_a_group_are_tenants_of_their_own() {
    let mut q = Fixture::new();
    q.send_to("q", None, 100, 0);
    q.send("b", 1, 1);
    let received = q.receive(100, 2);
    let none = received.iter().filter(|delivery| delivery.message.content.group_id.is_none()).count();
    assert_eq!(none, 100, "they keep the order of their arrival, however many are in flight");
    assert_eq!(q.groups(1, 2), "b");
}

#[test]
fn a_group_is_quiet_again_when_nobody_sent_to_it_for_five_minutes() {
    let mut q = Fixture::new();
    q.send("a", 40, 0);
    q.receive(35, 0);
    q.send("b", 1, 1);
    assert_eq!(q.groups(1, 299_999), "b");
    q.send("b", 1, 299_999);
    assert_eq!(q.groups(1, 300_000), "a");
}

#[test]
fn a_group_is_quiet_again_when_its_messages_are_processed() {
    let mut q = Fixture::new();
    q.send("a", 35, 0);
    let flood = q.receive(35, 0);
    q.delete(&flood, 10);
    q.send("a", 1, 20);
    q.send("b", 1, 21);
    assert_eq!(q.groups(2, 22), "ab");
}

#[test]
fn a_noisy_group_of_one_queue_is_quiet_in_another() {
    let mut q = Fixture::new();
    q.send("a", 40, 0);
    q.receive(40, 0);
    q.send_to("other", Some("a"), 1, 1);
    q.send_to("other", Some("b"), 1, 2);
    let first = q.queues.receive("other", 1, None, 3).unwrap();
    assert_eq!(first[0].message.content.group_id.as_deref(), Some("a"));
}

/// Complaint: invisible messages make a tenant noisy. SQS counts messages that only wait, hidden, as in flight.
#[test]
fn hidden_messages_make_their_group_noisy_delayed_ones_do_not() {
    for (hidden, expected) in [(true, "ba"), (false, "ab")] {
        let mut q = Fixture::new();
        q.send("a", 40, 0);
        let parked = q.receive(40, 0);
        for delivery in &parked {
            if hidden {
                q.queues.change_visibility("q", &delivery.handle, HOUR_MS, 0).unwrap();
            } else {
                let content = Arc::clone(&delivery.message.content);
                q.queues.send("q", content, Some(900_000), 0).unwrap();
                q.queues.delete("q", &delivery.handle, 0).unwrap();
            }
        }
        q.send("a", 1, 1);
        q.send("b", 1, 2);
        assert_eq!(q.groups(2, 3), expected, "hidden: {hidden}");
    }
}

#[test]
fn a_restart_keeps_the_noisy_groups_that_are_in_flight() {
    let mut q = Fixture::new();
    q.send("a", 40, 0);
    q.receive(35, 0);
    q.send("b", 1, 1);
    q.queues = Queues::replay(q.queues.snapshot());
    assert_eq!(q.groups(2, 2), "ba");
}

/// The search skips at most the heads of the noisy groups.
#[test]
fn a_receive_from_a_thousand_groups_and_100000_messages_looks_at_few() {
    let mut q = Fixture::new();
    for at in 0..100_000 {
        let group = format!("g{}", at % 1_000);
        q.send_to("q", Some(if at % 2 == 0 { "flood" } else { &group }), 1, 0);
    }
    let mut received = 0;
    let mut of_flood_late = 0;
    while let batch = q.queues.receive("q", 10, None, 1).unwrap()
        && !batch.is_empty()
    {
        for delivery in &batch {
            received += 1;
            let is_flood = delivery.message.content.group_id.as_deref() == Some("flood");
            of_flood_late += usize::from(is_flood && received > 56_000);
        }
        assert!(q.queues.queue("q").unwrap().noisy_count(1) <= 18);
    }
    // It takes part with a tenth of what is in flight until the others' messages are gone.
    assert_eq!((received, of_flood_late), (100_000, 44_000));
}

/// The engine's choice, by a scan over all messages.
fn scanned(visible: &[(usize, u64)], in_flight: &[usize; 3]) -> Vec<usize> {
    let total: usize = in_flight.iter().sum();
    let noisy = |group: usize| in_flight[group] >= 30 && in_flight[group] * 10 > total;
    let quiet = visible.iter().filter(|(group, _)| !noisy(*group)).min_by_key(|(_, at)| *at);
    match quiet {
        Some((group, _)) => vec![*group],
        None => {
            let least = visible.iter().map(|(group, _)| in_flight[*group]).min();
            (0..3)
                .filter(|group| Some(in_flight[*group]) == least && visible.iter().any(|(g, _)| g == group))
                .collect()
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_choice_is_that_of_a_scan_over_all_messages(steps in prop::collection::vec((0_usize..3, 0_usize..40), 1..60)) {
        let mut q = Fixture::new();
        let (mut visible, mut in_flight) = (Vec::new(), [0; 3]);
        for (at, (group, count)) in steps.into_iter().enumerate() {
            let at = at as u64;
            for _ in 0..count {
                q.send(["a", "b", "c"][group], 1, at);
                visible.push((group, q.sent as u64));
            }
            for _ in 0..(count / 2) {
                let allowed = scanned(&visible, &in_flight);
                let got = q.groups(1, at);
                let got = ["a", "b", "c"].iter().position(|name| *name == got).unwrap();
                prop_assert!(allowed.contains(&got), "{got} of {allowed:?}");
                let first = visible.iter().position(|(group, _)| *group == got).unwrap();
                visible.remove(first);
                in_flight[got] += 1;
            }
        }
    }
}
