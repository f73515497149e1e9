//! What a scripted server is asked, and the tool's own answers to it.
//!
//! **Invariant:** an answer names the call that it answers, or where equal calls share one the question and the execution.

use serde_json::{Value, json};
use toolfleet_mcp_protocol::result_type;

use super::super::behaviour::fails_in_batch;
use super::super::ledger::Entry;
use super::super::trace::call_of_trace;

/// What a request for a tool asks.
pub(super) struct Asked {
    /// The calls that it serves.
    pub(super) calls: Vec<String>,
    /// What equal calls share an answer to.
    question: Option<String>,
    is_batch: bool,
    bytes: usize,
}

impl Asked {
    /// Reads it from the arguments. Equal calls have equal arguments, so the trace says which of them it is.
    pub(super) fn read(message: &Value, trace: Option<&str>) -> Self {
        let arguments = message.pointer("/params/arguments").unwrap_or(&Value::Null);
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).map(str::to_owned);
        let question = text("question");
        let batch = arguments.get("call").and_then(Value::as_array);
        let calls = match (&question, batch) {
            (Some(_), _) => vec![trace.and_then(call_of_trace).unwrap_or_default()],
            (None, Some(calls)) => calls.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            (None, None) => vec![text("call").unwrap_or_default()],
        };
        let bytes = arguments.get("bytes").and_then(Value::as_u64).unwrap_or(0);
        let bytes = usize::try_from(bytes).unwrap_or(0);
        Self { calls, question, is_batch: batch.is_some(), bytes }
    }

    /// The text that the tool answers.
    pub(super) fn text(&self, entry: Entry) -> String {
        let call = self.calls.first().map_or("", String::as_str);
        match &self.question {
            Some(question) => shared_text(question, entry.number()),
            None => answer_text(call, self.bytes),
        }
    }

    /// The result of the tool.
    pub(super) fn answer(&self, seed: u64, entry: Entry, is_error: bool) -> Value {
        if self.is_batch {
            return self.list(seed, entry.number());
        }
        let content = json!([{"type": "text", "text": self.text(entry)}]);
        json!({"resultType": result_type::COMPLETE, "content": content, "isError": is_error})
    }

    /// The result of a batch, in one of the forms that a server may give it.
    fn list(&self, seed: u64, number: usize) -> Value {
        let fails = |call: &String| fails_in_batch(seed, call);
        let block = |call: &String| json!({"type": "text", "text": answer_text(call, 0)});
        let element = |call: &String| {
            if fails(call) {
                json!({"content": [block(call)], "isError": true})
            } else {
                json!(answer_text(call, 0))
            }
        };
        let elements: Vec<_> = self.calls.iter().map(element).collect();
        match number % 3 {
            0 if !self.calls.iter().any(fails) => {
                let blocks: Vec<_> = self.calls.iter().map(block).collect();
                json!({"resultType": result_type::COMPLETE, "content": blocks})
            }
            1 => {
                json!({"resultType": result_type::COMPLETE, "content": [], "structuredContent": {"result": elements}})
            }
            _ => json!({"resultType": result_type::COMPLETE, "content": [], "structuredContent": elements}),
        }
    }

    /// A result of a batch that answers none of its calls.
    pub(super) fn short() -> Value {
        json!({"resultType": result_type::COMPLETE, "content": [], "structuredContent": []})
    }
}

/// The text that a tool answers to a call, with that many bytes which do not compress well.
pub(crate) fn answer_text(call: &str, bytes: usize) -> String {
    let seed = call.bytes().fold(1, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(byte));
    let mut rng = fastrand::Rng::with_seed(seed);
    let noise: String = std::iter::repeat_with(|| rng.alphanumeric()).take(bytes).collect();
    format!("{call} ran {noise}")
}

/// The text that a tool answers to a question of equal calls, with the number of the request that it ran for.
fn shared_text(question: &str, number: usize) -> String {
    format!("{} as {number}", answer_text(question, 0))
}

/// The number of the request that a tool ran for, in the text that it answered to that question.
pub(crate) fn run_in(text: &str, question: &str) -> Option<usize> {
    let number = text.strip_prefix(&answer_text(question, 0))?.strip_prefix(" as ")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::super::ledger::Ledger;
    use super::super::super::trace::traceparent;
    use super::*;

    fn asked(arguments: &Value, trace: Option<&str>) -> Asked {
        Asked::read(&json!({"params": {"arguments": arguments}}), trace)
    }

    #[tokio::test]
    async fn an_answer_names_its_call_or_its_question_and_execution() {
        let ledger = Ledger::new();
        let own = asked(&json!({"call": "c", "bytes": 2}), None);
        let (entry, _) = ledger.enter(&own.calls, "steady", "w");
        assert_eq!(own.answer(1, entry, true)["content"][0]["text"], answer_text("c", 2));
        let parent = traceparent(7, 3);
        let trace = parent.split('-').nth(1);
        let equal = asked(&json!({"question": "q"}), trace);
        assert_eq!(equal.calls, ["chaos-7-3"]);
        let (entry, _) = ledger.enter(&equal.calls, "caching", "w");
        assert_eq!((run_in(&equal.text(entry), "q"), run_in(&equal.text(entry), "r")), (Some(1), None));
    }

    #[tokio::test]
    async fn a_batch_is_answered_with_an_element_for_each_call_in_every_form() {
        let ledger = Ledger::new();
        let ids: Vec<_> = (0..40).map(|n| format!("c-{n}")).collect();
        let batch = asked(&json!({"call": ids}), None);
        assert_eq!(batch.calls, ids);
        let (entry, _) = ledger.enter(&ids, "batching", "w");
        assert_eq!(entry.number(), 0);
        for number in 0..3 {
            let answer = batch.list(1, number);
            let pointer = if number == 1 { "/structuredContent/result" } else { "/structuredContent" };
            let list = answer.pointer(pointer).and_then(Value::as_array).unwrap();
            assert_eq!(list.len(), 40);
            assert!(
                list.iter().any(|element| element["isError"] == true) && list.iter().any(Value::is_string)
            );
        }
        let good = ids.iter().find(|id| !fails_in_batch(1, id)).unwrap();
        let alone = asked(&json!({"call": [good]}), None);
        assert_eq!(alone.list(1, 0)["content"][0]["text"], answer_text(good, 0));
        assert_eq!(Asked::short()["structuredContent"], json!([]));
    }
}
