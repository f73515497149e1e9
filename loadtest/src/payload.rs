//! Owns what calls carry: the arguments of each, and the answer that belongs to them and to no other call.
//!
//! **Invariant:** pure; every answer begins with its call's id, so that an answer given to the wrong call is seen.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::distribution::Distribution;
use crate::rng::Rng;
use crate::tool::Tool;

/// What `huge` gives: with what belongs to it a little less than 16 MiB.
const HUGE_BYTES: usize = 16_000_000;

/// What a call says to its tool; what a tool does not need stays out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Arguments {
    /// The call's id, under which the server counts.
    pub call: String,
    /// How long `slow` and `payment` wait.
    pub ms: u64,
    /// How much text the tool gives, about; 0 leaves it to the tool.
    pub bytes: usize,
    /// What the others give back.
    pub text: String,
}

/// What the payloads of a load look like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// How long slow tools take.
    pub slow: Distribution,
    /// Arguments are padded to about so many bytes.
    pub argument_bytes: usize,
    /// Every tool gives about so much text; 0 leaves it to the tools.
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
        arguments.insert("bytes".into(), json!(1_000 + rng.below(20_000)));
    } else {
        let words = usize::try_from(1 + rng.below(20)).unwrap_or(1);
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
        // Its own text for each call, as compressible as what tools list: 2 KB of it become 0.6 KB.
        let seed = arguments.call.bytes().fold(1, |seed: u64, byte| seed.rotate_left(7) ^ u64::from(byte));
        return format!("{} {}", arguments.call, records(&mut Rng::new(seed), arguments.bytes));
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
    let pick = usize::try_from(rng.below(WORDS.len() as u64)).unwrap_or(0);
    WORDS.get(pick).copied().unwrap_or_default()
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
        let (id, amount) = (rng.below(100_000), rng.below(100_000));
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
