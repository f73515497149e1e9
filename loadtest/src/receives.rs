//! Which worker received which call's message how often, read from the answers of SQS.
//!
//! A call that is put back by a new message keeps its id and gets another message id, so receives are counted by call.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

/// One message in the answer to a receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receive {
    /// The call's id.
    pub(crate) call: String,
    /// The message's id.
    pub(crate) message: String,
    /// The worker that received it.
    pub(crate) worker: String,
}

/// The receives in the answer to a ReceiveMessage of that worker. A message whose body is not a call with an id is left out.
pub(crate) fn in_answer(worker: &str, answer: &[u8]) -> Vec<Receive> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Messages", default)]
        messages: Vec<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        #[serde(rename = "MessageId")]
        id: String,
        #[serde(rename = "Body")]
        body: String,
    }
    #[derive(Deserialize)]
    struct Body {
        call_id: String,
    }
    let Ok(Answer { messages }) = serde_json::from_slice(answer) else { return Vec::new() };
    let receive = |Message { id, body }: Message| {
        let Body { call_id } = serde_json::from_str(&body).ok()?;
        Some(Receive { call: call_id, message: id, worker: worker.to_owned() })
    };
    messages.into_iter().filter_map(receive).collect()
}

/// How often the calls were received: of all calls, and of those that no killed worker had in hand.
pub(crate) fn by_call(receives: &[Receive], killed: &HashSet<String>) -> (Vec<u64>, Vec<u64>) {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    let mut last_of_message: HashMap<&str, &str> = HashMap::new();
    let mut lost = HashSet::new();
    for Receive { call, message, worker } in receives {
        *counts.entry(call).or_default() += 1;
        // The same message again, after a worker that was killed: its receive was lost.
        if last_of_message.insert(message, worker).is_some_and(|before| killed.contains(before)) {
            lost.insert(call.as_str());
        }
    }
    let kept = counts.iter().filter(|(call, _)| !lost.contains(*call)).map(|(_, count)| *count).collect();
    (counts.into_values().collect(), kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(call: &str, message: &str, worker: &str) -> Receive {
        Receive { call: call.into(), message: message.into(), worker: worker.into() }
    }

    #[test]
    fn a_parked_call_is_one_call_with_several_messages() {
        let answer = br#"{"Messages":[{"MessageId":"m1","Body":"{\"v\":1,\"call_id\":\"a\"}"},{"MessageId":"m2","Body":"no call"}]}"#;
        assert_eq!(in_answer("w", answer), [receive("a", "m1", "w")]);
        assert!(in_answer("w", b"{}").is_empty());
        let parked = [receive("a", "m1", "w"), receive("a", "m2", "w"), receive("b", "m3", "w")];
        let (mut all, _) = by_call(&parked, &HashSet::new());
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    }

    #[test]
    fn only_a_receive_that_a_killed_worker_lost_excludes_its_call() {
        let killed = HashSet::from(["dead".to_owned()]);
        let receives = [
            receive("lost", "m1", "dead"),
            receive("lost", "m1", "w"),
            receive("parked by it before", "m2", "dead"),
            receive("parked by it before", "m3", "w"),
            receive("hidden by another", "m4", "w"),
            receive("hidden by another", "m4", "w"),
        ];
        let (all, kept) = by_call(&receives, &killed);
        assert_eq!((all.len(), kept), (3, vec![2, 2]));
    }
}
