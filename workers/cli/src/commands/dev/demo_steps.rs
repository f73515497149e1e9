//! The steps of the demo as data: what is sent, and the expected result.

use serde_json::{Value, json};
use toolfleet_core::outcome::{Code, MayHaveRun, OutcomeKind};

/// The tenant of the demo.
pub(super) const TENANT: &str = "demo";

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) title: &'static str,
    pub(super) explains: &'static str,
    pub(super) request: Value,
    /// How often the same message is sent, each time after the call has ended.
    pub(super) sends: u32,
    pub(super) expects: Expects,
}

/// The expected result of a step.
#[derive(Debug)]
pub(super) struct Expects {
    pub(super) outcome: OutcomeKind,
    pub(super) code: Option<Code>,
    pub(super) attempts: u32,
    pub(super) may_have_run: Option<MayHaveRun>,
    /// A text in the content.
    pub(super) contains: Option<&'static str>,
    /// How often this tool has run on the server after the step.
    pub(super) executions: Option<(&'static str, u64)>,
}

impl Expects {
    const fn success(contains: &'static str, attempts: u32) -> Self {
        Self {
            outcome: OutcomeKind::Succeeded,
            code: None,
            attempts,
            may_have_run: None,
            contains: Some(contains),
            executions: None,
        }
    }

    const fn error(outcome: OutcomeKind, code: Code, attempts: u32, may_have_run: MayHaveRun) -> Self {
        Self {
            outcome,
            code: Some(code),
            attempts,
            may_have_run: Some(may_have_run),
            contains: None,
            executions: None,
        }
    }

    const fn running(mut self, tool: &'static str, times: u64) -> Self {
        self.executions = Some((tool, times));
        self
    }
}

/// The steps of the demo.
pub(super) fn all() -> Vec<Step> {
    let request = |id: &str, tool: &str, arguments: Value| {
        json!({
            "v": 1, "call_id": format!("demo-{id}"), "tenant": TENANT, "session": "demo",
            "tool": tool, "arguments": arguments,
        })
    };
    let step = |title, explains, request, expects| Step { title, explains, request, sends: 1, expects };
    let mut deadline = request("deadline", "slow", json!({"ms": 5_000}));
    if let Some(body) = deadline.as_object_mut() {
        body.insert("timeout_ms".into(), json!(1_000));
    }
    vec![
        step(
            "success",
            "The tool returns a result; its content is stored byte for byte.",
            request("success", "echo", json!({"text": "hello from the fleet"})),
            Expects::success("hello from the fleet", 1),
        ),
        step(
            "tool error",
            "The tool runs and returns isError: an outcome of its own, with the tool's message, and no retry.",
            request("tool-error", "fail", json!({"message": "no such customer"})),
            Expects::error(OutcomeKind::ToolError, Code::ToolReportedError, 1, MayHaveRun::Yes),
        ),
        step(
            "retry",
            "The server answers HTTP 503 twice; the tool is registered as safe to repeat, so the third attempt succeeds.",
            request("retry", "flaky", json!({"key": "demo", "failures": 2})),
            Expects::success("", 3),
        ),
        step(
            "refusal by schema",
            "The arguments do not match the tool's schema: refused before anything is sent, with the place to correct.",
            request("schema", "add", json!({"a": 1, "b": "two"})),
            Expects::error(OutcomeKind::Refused, Code::InvalidArguments, 0, MayHaveRun::No).running("add", 0),
        ),
        step(
            "refusal of an unknown tool",
            "No such tool is registered: the refusal lists the registered ones.",
            request("unknown", "ecko", json!({})),
            Expects::error(OutcomeKind::Refused, Code::UnknownTool, 0, MayHaveRun::No),
        ),
        Step {
            sends: 2,
            ..step(
                "duplicate",
                "The same message is sent again for a tool that is not safe to repeat: it runs once, and has one result.",
                request("duplicate", "counter", json!({"name": "demo"})),
                Expects::success("1", 1).running("counter", 1),
            )
        },
        step(
            "deadline",
            "The tool takes 5 s and the call may take 1 s: it ends at its deadline, and the tool may have run.",
            deadline,
            Expects::error(OutcomeKind::TimedOut, Code::DeadlineExceeded, 1, MayHaveRun::Unknown),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use toolfleet_core::request::CallRequest;

    #[test]
    fn every_step_sends_a_request_that_a_worker_accepts() {
        for step in all() {
            let request = CallRequest::decode(&step.request.to_string());
            assert!(request.is_ok(), "{}: {request:?}", step.title);
        }
    }
}
