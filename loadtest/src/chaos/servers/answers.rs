//! What a scripted server is asked, and the tool's own answers to it.
//!
//! **Invariant:** an answer names the call that it answers, or where equal calls share one the question and the execution.

use serde_json::{Value, json};
use toolfleet_mcp_protocol::result_type;

use super::super::behaviour::fails_in_batch;
use super::super::ledger::{Brings, Entry};
use super::super::trace::call_of_trace;

/// The key of the question that a tool asks.
const QUESTION: &str = "who";

/// What a request for a tool asks.
pub(super) struct Asked {
    /// The calls that it serves.
    pub(super) calls: Vec<String>,
    /// What equal calls share an answer to.
    question: Option<String>,
    is_batch: bool,
    bytes: usize,
    /// What it brings a tool that asks before it runs.
    pub(super) brings: Brings,
}

impl Asked {
    /// Reads it from the arguments. Equal calls, and a call that answers a question, have the arguments of another one, so the trace says which of them
    /// it is. A redrive sends its calls without a trace.
    pub(super) fn read(message: &Value, trace: Option<&str>) -> Self {
        let arguments = message.pointer("/params/arguments").unwrap_or(&Value::Null);
        let text = |name: &str| arguments.get(name).and_then(Value::as_str).map(str::to_owned);
        let question = text("question");
        let batch = arguments.get("call").and_then(Value::as_array);
        let calls = match (&question, batch) {
            (Some(_), _) => vec![trace.and_then(call_of_trace).unwrap_or_default()],
            (None, Some(calls)) => calls.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            (None, None) => vec![own_call(message, text("call").unwrap_or_default(), trace)],
        };
        let brings =
            brings(message, &text("call").unwrap_or_default(), calls.first().map_or("", String::as_str));
        let bytes = arguments.get("bytes").and_then(Value::as_u64).unwrap_or(0);
        let bytes = usize::try_from(bytes).unwrap_or(0);
        Self { calls, question, is_batch: batch.is_some(), bytes, brings }
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

    /// The question that the tool asks instead of running.
    pub(super) fn ask(&self) -> Value {
        let call = self.calls.first().map_or("", String::as_str);
        let question = json!({"method": "elicitation/create", "params": {"mode": "form", "message": "Who?",
            "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}});
        json!({"resultType": result_type::INPUT_REQUIRED, "inputRequests": {(QUESTION): question}, "requestState": state_of(call)})
    }

    /// A result of a batch that answers none of its calls.
    pub(super) fn short() -> Value {
        json!({"resultType": result_type::COMPLETE, "content": [], "structuredContent": []})
    }
}

/// The call that the request is of: its trace names it, and without one it is the next round's call of a redriven member.
fn own_call(message: &Value, named: String, trace: Option<&str>) -> String {
    let of_trace = trace.and_then(call_of_trace);
    if message.pointer("/params/inputResponses").is_some() {
        return of_trace.unwrap_or_default();
    }
    if of_trace.as_ref() == Some(&named) { named } else { format!("{named}.r2") }
}

/// What the request of `own` brings: `asked` is the call that its arguments name.
fn brings(message: &Value, asked: &str, own: &str) -> Brings {
    let of = |pointer: &str| message.pointer(pointer).and_then(Value::as_str);
    let state = of("/params/requestState");
    let answer = of(&format!("/params/inputResponses/{QUESTION}/content/name"));
    match (state, answer) {
        (None, None) => Brings::Nothing,
        (Some(state), Some(answer)) if state == state_of(asked) && answer == answer_of(own) => Brings::Answer,
        (_, _) => Brings::Foreign,
    }
}

/// The state of the question that a call was asked.
fn state_of(call: &str) -> String {
    format!("asked of {call}")
}

/// The answers that a call brings.
pub(crate) fn responses_of(call: &str) -> Value {
    json!({(QUESTION): {"action": "accept", "content": {"name": answer_of(call)}}})
}

fn answer_of(call: &str) -> String {
    format!("answer of {call}")
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
        let parent = traceparent(7, 9);
        let own = asked(&json!({"call": "chaos-7-9", "bytes": 2}), parent.split('-').nth(1));
        let (entry, _) = ledger.enter(&own.calls, "steady", "w");
        assert_eq!(own.answer(1, entry, true)["content"][0]["text"], answer_text("chaos-7-9", 2));
        let again = asked(&json!({"call": "chaos-7-9", "bytes": 2}), None);
        assert_eq!(again.calls, ["chaos-7-9.r2"], "a redrive sends no trace");
        let parent = traceparent(7, 3);
        let trace = parent.split('-').nth(1);
        let equal = asked(&json!({"question": "q"}), trace);
        assert_eq!(equal.calls, ["chaos-7-3"]);
        let (entry, _) = ledger.enter(&equal.calls, "caching", "w");
        assert_eq!((run_in(&equal.text(entry), "q"), run_in(&equal.text(entry), "r")), (Some(1), None));
    }

    #[test]
    fn an_answer_is_that_of_its_own_call_and_question() {
        let parent = traceparent(7, 4);
        let brings = |state: &str, of: &str| {
            let params = json!({"arguments": {"call": "chaos-7-3"}, "requestState": state, "inputResponses": responses_of(of)});
            let asked = Asked::read(&json!({"params": params}), parent.split('-').nth(1));
            assert_eq!(asked.calls, ["chaos-7-4"]);
            asked.brings
        };
        let first = Asked::read(
            &json!({"params": {"arguments": {"call": "chaos-7-3"}}}),
            traceparent(7, 3).split('-').nth(1),
        );
        assert_eq!((first.brings, first.calls.as_slice()), (Brings::Nothing, &["chaos-7-3".to_owned()][..]));
        let state = first.ask()["requestState"].as_str().unwrap().to_owned();
        assert_eq!(brings(&state, "chaos-7-4"), Brings::Answer);
        assert_eq!(brings(&state, "chaos-7-5"), Brings::Foreign);
        assert_eq!(brings("another", "chaos-7-4"), Brings::Foreign);
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
