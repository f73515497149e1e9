//! The tools of the demo server: their listing and their execution.
//!
//! **Invariant:** a tool with `readOnlyHint` or `idempotentHint` is safe to call twice.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

/// The longest wait of `slow`, in milliseconds.
const MAX_SLOW_MS: u64 = 60_000;
/// Names kept by `counter` and keys kept by `flaky`: a bound on memory.
const MAX_NAMES: usize = 100_000;

/// The result of a call.
#[derive(Debug)]
pub(super) enum Run {
    /// The tool ran.
    Done {
        /// The value of `isError`.
        failed: bool,
        /// The answer for people.
        text: String,
        /// The answer for programs.
        structured: Value,
    },
    /// The tool waits that long, then it has run.
    Wait(Duration),
    /// The server fails with HTTP 503; the tool did not run.
    Unavailable,
    /// There is no such tool, or its arguments are wrong. The tool did not run.
    Refused(String),
}

/// The state of all tools.
#[derive(Debug, Default)]
pub(super) struct Tools {
    executions: HashMap<String, u64>,
    counters: HashMap<String, u64>,
    failures: HashMap<String, u64>,
}

impl Tools {
    pub(super) fn executions(&self, tool: &str) -> u64 {
        self.executions.get(tool).copied().unwrap_or(0)
    }

    /// Runs a tool, up to the wait of `slow`.
    pub(super) fn run(&mut self, tool: &str, arguments: &Value) -> Run {
        let run = match tool {
            "echo" => echo(arguments),
            "add" => add(arguments),
            "slow" => slow(arguments),
            "fail" => fail(arguments),
            "flaky" => self.flaky(arguments),
            "counter" => self.count(arguments),
            _ => Run::Refused(format!("Unknown tool: {}", tool.chars().take(80).collect::<String>())),
        };
        if matches!(run, Run::Done { .. } | Run::Wait(_)) {
            *self.executions.entry(tool.to_owned()).or_default() += 1;
        }
        run
    }

    fn flaky(&mut self, arguments: &Value) -> Run {
        let key = arguments.get("key").and_then(Value::as_str).unwrap_or("default");
        let wanted = match arguments.get("failures") {
            None => 1,
            Some(failures) => match failures.as_u64() {
                Some(failures) => failures,
                None => return Run::Refused("`failures` must be a whole number, 0 or more".to_owned()),
            },
        };
        if self.failures.len() >= MAX_NAMES && !self.failures.contains_key(key) {
            return Run::Refused("too many keys; restart the demo server".to_owned());
        }
        let failed = self.failures.entry(key.to_owned()).or_default();
        if *failed < wanted {
            *failed += 1;
            return Run::Unavailable;
        }
        let text = format!("{key} succeeded after {failed} failures");
        Run::Done { failed: false, text, structured: json!({ "failures": *failed }) }
    }

    fn count(&mut self, arguments: &Value) -> Run {
        let name = arguments.get("name").and_then(Value::as_str).unwrap_or("default");
        if self.counters.len() >= MAX_NAMES && !self.counters.contains_key(name) {
            return Run::Refused("too many counters; restart the demo server".to_owned());
        }
        let value = self.counters.entry(name.to_owned()).or_default();
        *value += 1;
        Run::Done { failed: false, text: value.to_string(), structured: json!({ "value": *value }) }
    }
}

fn echo(arguments: &Value) -> Run {
    let Some(text) = arguments.get("text").and_then(Value::as_str) else {
        return Run::Refused("`text` must be a string".to_owned());
    };
    Run::Done { failed: false, text: text.to_owned(), structured: json!({ "text": text }) }
}

fn add(arguments: &Value) -> Run {
    let number = |name| arguments.get(name).and_then(Value::as_f64);
    let (Some(a), Some(b)) = (number("a"), number("b")) else {
        return Run::Refused("`a` and `b` must be numbers".to_owned());
    };
    let sum = a + b;
    Run::Done { failed: false, text: sum.to_string(), structured: json!({ "sum": sum }) }
}

fn slow(arguments: &Value) -> Run {
    match arguments.get("ms").and_then(Value::as_u64) {
        Some(ms) if ms <= MAX_SLOW_MS => Run::Wait(Duration::from_millis(ms)),
        Some(_) | None => Run::Refused(format!("`ms` must be a whole number from 0 to {MAX_SLOW_MS}")),
    }
}

fn fail(arguments: &Value) -> Run {
    let text = arguments.get("message").and_then(Value::as_str).unwrap_or("this tool always fails");
    Run::Done { failed: true, text: text.to_owned(), structured: Value::Null }
}

/// The member `tools` of `tools/list`.
pub(super) fn listing() -> Value {
    json!([
        entry(
            "echo",
            "Returns its text unchanged.",
            &json!({ "text": { "type": "string", "description": "What to return." } }),
            &["text"],
            &json!({ "readOnlyHint": true, "openWorldHint": false }),
        ),
        entry(
            "add",
            "Adds two numbers.",
            &json!({ "a": { "type": "number" }, "b": { "type": "number" } }),
            &["a", "b"],
            &json!({ "readOnlyHint": true, "openWorldHint": false }),
        ),
        entry(
            "slow",
            "Waits for some milliseconds, then answers. Safe to repeat.",
            &json!({ "ms": {
                "type": "integer", "minimum": 0, "maximum": MAX_SLOW_MS, "description": "How long to wait.",
            } }),
            &["ms"],
            &json!({ "readOnlyHint": false, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false }),
        ),
        entry(
            "flaky",
            "Fails with HTTP 503 the first times it is called with a key, then succeeds. Safe to repeat.",
            &json!({
                "key": { "type": "string", "description": "Failures are counted for each key.", "default": "default" },
                "failures": { "type": "integer", "minimum": 0, "default": 1, "description": "How often to fail." },
            }),
            &[],
            &json!({ "readOnlyHint": false, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false }),
        ),
        entry(
            "fail",
            "Always ends as a tool error with this message.",
            &json!({ "message": { "type": "string", "description": "What the error says." } }),
            &[],
            &json!({ "readOnlyHint": true, "openWorldHint": false }),
        ),
        entry(
            "counter",
            "Adds one to a named counter and returns the new value. NOT safe to repeat: every call counts.",
            &json!({ "name": { "type": "string", "description": "Which counter.", "default": "default" } }),
            &[],
            &json!({ "readOnlyHint": false, "destructiveHint": false, "idempotentHint": false, "openWorldHint": false }),
        ),
    ])
}

fn entry(name: &str, description: &str, properties: &Value, required: &[&str], annotations: &Value) -> Value {
    json!({
        "name": name,
        "description": description,
        "inputSchema": { "type": "object", "properties": properties, "required": required },
        "annotations": annotations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flaky_call_fails_as_often_as_it_is_told_for_each_key_and_runs_once() {
        let mut tools = Tools::default();
        let arguments = json!({ "key": "a", "failures": 2 });
        for _ in 0..2 {
            assert!(matches!(tools.run("flaky", &arguments), Run::Unavailable));
        }
        assert!(matches!(tools.run("flaky", &arguments), Run::Done { failed: false, .. }));
        assert!(matches!(tools.run("flaky", &json!({ "key": "b" })), Run::Unavailable));
        assert_eq!(tools.executions("flaky"), 1);
    }

    #[test]
    fn every_listed_tool_runs_and_what_is_refused_is_not_counted() {
        let mut tools = Tools::default();
        for tool in listing().as_array().unwrap() {
            let name = tool["name"].as_str().unwrap();
            let arguments = json!({ "text": "t", "a": 1, "b": 2, "ms": 0, "failures": 0 });
            assert!(!matches!(tools.run(name, &arguments), Run::Refused(_)), "{name}");
        }
        for (name, arguments) in [("echo", json!({})), ("slow", json!({ "ms": 60_001 })), ("x", json!({}))] {
            let before = tools.executions(name);
            assert!(matches!(tools.run(name, &arguments), Run::Refused(_)), "{name}");
            assert_eq!(tools.executions(name), before);
        }
    }
}
