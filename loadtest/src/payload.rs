//! Owns what calls carry: the arguments of each, and the answer that belongs to them and to no other call.
//!
//! **Invariant:** pure; every answer begins with its call's id, so that an answer given to the wrong call is seen.

use std::str::FromStr;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::plan::Tool;

/// Chance from a seed: xorshift64*, enough for payloads, the same on every machine.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// Chance that this seed alone decides.
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound.max(1)
    }
}

/// What a call says to its tool; what a tool does not need stays out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Arguments {
    /// The call's id, under which the server counts.
    pub call: String,
    /// How long `slow` waits.
    pub ms: u64,
    /// How much text `large` gives, about.
    pub bytes: usize,
    /// What the others give back.
    pub text: String,
}

/// The arguments of a call.
pub(crate) fn arguments(tool: Tool, id: &str, chance: &mut Chance) -> Value {
    match tool {
        // 5 ms to about 100 ms, most of them short.
        Tool::Slow => json!({"call": id, "ms": 5 + chance.below(10) * chance.below(10)}),
        Tool::Large => json!({"call": id, "bytes": 1_000 + chance.below(20_000)}),
        Tool::Echo | Tool::Counter | Tool::Failing => {
            let words = usize::try_from(chance.below(20)).unwrap_or(0);
            json!({"call": id, "text": format!("{id} {}", "lorem ipsum ".repeat(1 + words))})
        }
    }
}

/// The text a tool answers with.
pub fn answer(tool: Tool, arguments: &Arguments) -> String {
    const LINE: &str = "the quick brown fox jumps over the lazy dog ";
    match tool {
        Tool::Slow => format!("{} waited", arguments.call),
        Tool::Large => format!("{} {}", arguments.call, LINE.repeat(arguments.bytes / LINE.len() + 1)),
        Tool::Echo | Tool::Counter | Tool::Failing => arguments.text.clone(),
    }
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
