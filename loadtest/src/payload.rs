//! Arguments of calls, and the answer that belongs to each of them.
//!
//! **Invariant:** pure; every answer starts with the id of its call, so that an answer to another call is detected.

use std::str::FromStr;

use fastrand::Rng;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::distribution::Distribution;
use crate::tool::Tool;

/// The size of the answer of `huge`: with its envelope a little less than 16 MiB.
const HUGE_BYTES: usize = 16_000_000;

/// Arguments of a call. A tool gets only those that it needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Arguments {
    /// The call's id, under which the server counts.
    pub call: String,
    /// How long `slow` and `payment` wait.
    pub ms: u64,
    /// About how many bytes of text the tool returns; 0 leaves it to the tool.
    pub bytes: usize,
    /// The text that the other tools return.
    pub text: String,
}

/// Sizes of the payloads of a load.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// How long slow tools take.
    pub slow: Distribution,
    /// Arguments are padded to about that many bytes.
    pub argument_bytes: usize,
    /// Every tool returns about that many bytes of text; 0 leaves it to the tools.
    pub result_bytes: usize,
}

/// The arguments of a call.
pub(crate) fn arguments(tool: Tool, id: &str, rng: &mut Rng, shape: &Shape) -> Value {
    let mut arguments = Map::from_iter([("call".to_owned(), json!(id))]);
    if tool.is_slow() {
        arguments.insert("ms".into(), json!(shape.slow.sample(rng)));
    } else if tool == Tool::Huge {
        arguments.insert("bytes".into(), json!(HUGE_BYTES));
    } else if tool == Tool::Large {
        arguments.insert("bytes".into(), json!(1_000 + rng.u64(..20_000)));
    } else {
        let words = rng.usize(1..=20);
        arguments.insert("text".into(), json!(format!("{id} {}", "lorem ipsum ".repeat(words))));
    }
    if shape.result_bytes > 0 {
        arguments.insert("bytes".into(), json!(shape.result_bytes));
        arguments.remove("text");
    }
    let long = Value::Object(arguments.clone()).to_string().len();
    let missing = shape.argument_bytes.saturating_sub(long);
    if missing > 0 {
        arguments.insert("pad".into(), json!(words(rng, missing)));
    }
    Value::Object(arguments)
}

/// The text a tool answers with.
pub fn answer(tool: Tool, arguments: &Arguments) -> String {
    if tool == Tool::Huge {
        return format!("{} {}", arguments.call, "x".repeat(HUGE_BYTES));
    }
    if arguments.bytes > 0 {
        // Each call has its own text, which compresses like lists of records: 2 KB become 0.6 KB.
        let seed = arguments.call.bytes().fold(1, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(byte));
        return format!("{} {}", arguments.call, records(&mut Rng::with_seed(seed), arguments.bytes));
    }
    if tool.is_slow() { format!("{} waited", arguments.call) } else { arguments.text.clone() }
}

const WORDS: [&str; 16] = [
    "invoice",
    "customer",
    "paid",
    "open",
    "amount",
    "order",
    "shipped",
    "delivery",
    "status",
    "item",
    "region",
    "north",
    "account",
    "balance",
    "note",
    "reference",
];

fn word(rng: &mut Rng) -> &'static str {
    rng.choice(WORDS).unwrap_or_default()
}

fn words(rng: &mut Rng, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        text.push_str(word(rng));
        text.push(' ');
    }
    text.truncate(bytes);
    text
}

fn records(rng: &mut Rng, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 128);
    while text.len() < bytes {
        let (id, amount) = (rng.u32(..100_000), rng.u32(..100_000));
        let (customer, status, first, second) = (word(rng), word(rng), word(rng), word(rng));
        let record = format!(
            r#"{{"id":{id},"customer":"{customer}","status":"{status}","amount":{amount},"note":"{first} {second}"}},"#
        );
        text.push_str(&record);
    }
    text.truncate(bytes);
    text
}

/// Whether `result`, a stored MCP result, is the whole answer that belongs to these arguments.
pub fn is_answer(tool: Tool, arguments: &Value, result: &str) -> bool {
    let Ok(arguments) = Arguments::deserialize(arguments) else { return false };
    let text = Value::from_str(result).ok().and_then(|result| {
        let text = result.pointer("/content/0/text").and_then(Value::as_str);
        text.map(str::to_owned)
    });
    text.is_some_and(|text| text == answer(tool, &arguments))
}
