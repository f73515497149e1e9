//! Delivers received messages twice, late and in another order, as a standard queue of SQS may.
//!
//! **Invariant:** pure. No message is lost by it: one that is held back becomes visible again by itself.

use std::time::Duration;

use fastrand::Rng;
use serde_json::Value;
use tokio::time::Instant;

/// How long a copy or a late message waits at least, and at most.
const WAITS_MS: std::ops::Range<u64> = 0..1_500;

/// The messages that wait to be delivered again.
#[derive(Debug, Default)]
pub(crate) struct Redelivery(Vec<Waiting>);

#[derive(Debug)]
struct Waiting {
    queue: String,
    message: Value,
    due: Instant,
    is_copy: bool,
}

/// What was done to one answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Messages in it that were delivered before.
    pub(crate) doubled: usize,
    /// Messages in it that were held back before.
    pub(crate) late: usize,
}

impl Redelivery {
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Changes the answer to a receive. Of a thousand messages `share` are copied, and as many held back.
    pub(crate) fn apply(
        &mut self,
        request: &Value,
        answer: &mut Value,
        share: u32,
        rng: &mut Rng,
        now: Instant,
    ) -> Done {
        let queue = request.get("QueueUrl").and_then(Value::as_str).unwrap_or_default();
        let most = request.get("MaxNumberOfMessages").and_then(Value::as_u64).unwrap_or(1);
        let most = usize::try_from(most).unwrap_or(1);
        let Some(answer) = answer.as_object_mut() else { return Done::default() };
        let received = match answer.remove("Messages") {
            Some(Value::Array(received)) => received,
            Some(_) | None => Vec::new(),
        };
        let mut messages = Vec::new();
        let mut waiting = Vec::new();
        for message in received {
            let due = now + Duration::from_millis(rng.u64(WAITS_MS));
            let wait = |message, is_copy| Waiting { queue: queue.to_owned(), message, due, is_copy };
            let drawn = rng.u32(..1_000);
            if drawn < share {
                waiting.push(wait(message.clone(), true));
                messages.push(message);
            } else if drawn < share * 2 {
                waiting.push(wait(message, false));
            } else {
                messages.push(message);
            }
        }
        let mut done = Done::default();
        let is_due = |waiting: &mut Waiting| waiting.queue == queue && waiting.due <= now;
        let room = most.saturating_sub(messages.len());
        for Waiting { message, is_copy, .. } in self.0.extract_if(.., is_due).take(room) {
            if is_copy {
                done.doubled += 1;
            } else {
                done.late += 1;
            }
            messages.push(message);
        }
        self.0.extend(waiting);
        rng.shuffle(&mut messages);
        if !messages.is_empty() {
            answer.insert("Messages".to_owned(), Value::Array(messages));
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn receive(
        redelivery: &mut Redelivery,
        queue: &str,
        ids: &[&str],
        share: u32,
        now: Instant,
    ) -> (Vec<String>, Done) {
        let request = json!({"QueueUrl": queue, "MaxNumberOfMessages": 10});
        let messages: Vec<_> = ids.iter().map(|id| json!({"MessageId": id})).collect();
        let mut answer = json!({"Messages": messages});
        let done = redelivery.apply(&request, &mut answer, share, &mut Rng::with_seed(1), now);
        let got = answer.get("Messages").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut got: Vec<_> = got.iter().map(|m| m["MessageId"].as_str().unwrap().to_owned()).collect();
        got.sort();
        (got, done)
    }

    #[tokio::test]
    async fn a_copy_is_delivered_now_and_again_from_the_same_queue() {
        let mut redelivery = Redelivery::default();
        let now = Instant::now();
        assert_eq!(
            receive(&mut redelivery, "q", &["a", "b"], 1_000, now),
            (vec!["a".into(), "b".into()], Done::default())
        );
        let later = now + Duration::from_secs(2);
        assert_eq!(receive(&mut redelivery, "other", &[], 0, later).0, Vec::<String>::new());
        let (again, done) = receive(&mut redelivery, "q", &[], 0, later);
        assert_eq!((again, done), (vec!["a".into(), "b".into()], Done { doubled: 2, late: 0 }));
        assert!(redelivery.is_empty());
    }

    #[tokio::test]
    async fn a_message_that_is_held_back_comes_later_and_once() {
        let mut redelivery = Redelivery::default();
        let now = Instant::now();
        let ids: Vec<_> = (0..9).map(|n| n.to_string()).collect();
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        // Half of them are copied, half held back.
        let (first, _) = receive(&mut redelivery, "q", &ids, 500, now);
        assert!(!first.is_empty() && first.len() < 9);
        let (second, done) = receive(&mut redelivery, "q", &[], 0, now + Duration::from_secs(2));
        assert_eq!((second.len(), done.late), (9, 9 - first.len()));
    }
}
