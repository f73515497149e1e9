//! The messages that kill whichever worker receives them: the proxy withholds such an answer until its worker is killed.
//!
//! **Invariant:** other messages of the same answer reach the worker. In the dead-letter queue a message kills nobody.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// What the name of the dead-letter queue ends with, in a request.
const DEAD_QUEUE: &str = "-dlq\"";

/// The calls whose messages kill, and the workers that are to be killed. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deadly(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    calls: HashSet<String>,
    struck: Vec<String>,
}

impl Deadly {
    /// From now on the message of that call kills.
    pub(crate) fn add(&self, call: &str) {
        self.lock().calls.insert(call.to_owned());
    }

    /// It does not any more.
    pub(crate) fn cure(&self, call: &str) {
        self.lock().calls.remove(call);
    }

    /// A worker has received such a message, and nothing else.
    pub(crate) fn strike(&self, worker: String) {
        self.lock().struck.push(worker);
    }

    /// The workers that have since the last call, and are to be killed.
    pub(crate) fn take_struck(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().struck)
    }

    /// The answer to a receive without such messages, which are received in vain; none if there is no other message.
    pub(crate) fn without(&self, request: &[u8], answer: Vec<u8>) -> Option<Vec<u8>> {
        let inner = self.lock();
        if inner.calls.is_empty() || String::from_utf8_lossy(request).contains(DEAD_QUEUE) {
            return Some(answer);
        }
        let Ok(mut changed) = serde_json::from_slice::<Value>(&answer) else { return Some(answer) };
        let Some(messages) = changed.get_mut("Messages").and_then(Value::as_array_mut) else {
            return Some(answer);
        };
        let before = messages.len();
        let kills = |text: &str| inner.calls.iter().any(|call| text.contains(&format!("\"{call}\"")));
        messages.retain(|message| !message.get("Body").and_then(Value::as_str).is_some_and(kills));
        match messages.len() {
            left if left == before => Some(answer),
            0 => None,
            _ => Some(changed.to_string().into_bytes()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deadly_message_kills_whoever_receives_it_alone_and_harms_no_other() {
        let deadly = Deadly::default();
        let message = |call: &&str| json!({"Body": json!({"call_id": call}).to_string()});
        let receive = |queue: &str, calls: &[&str]| {
            let request = json!({"QueueUrl": format!("http://q/0/{queue}")}).to_string();
            let answer = json!({"Messages": calls.iter().map(message).collect::<Vec<_>>()}).to_string();
            let answer = deadly.without(request.as_bytes(), answer.into_bytes())?;
            Some(serde_json::from_slice::<Value>(&answer).unwrap()["Messages"].as_array().unwrap().len())
        };
        assert_eq!(receive("calls", &["chaos-1-1"]), Some(1));
        deadly.add("chaos-1-1");
        assert_eq!((receive("calls", &["chaos-1-1"]), receive("calls", &[])), (None, Some(0)));
        assert_eq!(receive("calls", &["chaos-1-1", "chaos-1-11"]), Some(1));
        assert_eq!(receive("calls-dlq", &["chaos-1-1"]), Some(1));
        deadly.cure("chaos-1-1");
        assert_eq!(receive("calls", &["chaos-1-1"]), Some(1));
    }

    #[test]
    fn a_struck_worker_is_named_once() {
        let deadly = Deadly::default();
        deadly.strike("w".to_owned());
        assert_eq!((deadly.take_struck(), deadly.take_struck()), (vec!["w".to_owned()], vec![]));
    }
}
