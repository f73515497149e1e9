//! Checks a call's arguments against a schema before anything is sent, with an error that a model can act on.
//!
//! **Invariant:** a check that would take long runs beside the runtime, and one that would take too long is left to the server.

use std::time::Duration;

use toolfleet_catalog::{Budget, InputSchema, Verdict};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::request::CallRequest;

use crate::heavy::{LARGE_BYTES, beside};

/// How long a check beside the runtime may take; the budget ends it far earlier.
const WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn check_arguments(schema: &InputSchema, request: &CallRequest) -> Result<(), Outcome> {
    let arguments = request.arguments.get();
    let mut verdict = Verdict::OverBudget;
    if arguments.len() < LARGE_BYTES {
        verdict = schema.judge(arguments, Budget::INLINE);
    }
    if verdict == Verdict::OverBudget && schema.is_judging() {
        let (schema, arguments) = (schema.clone(), arguments.to_owned());
        let judged = beside(WITHIN, move || schema.judge(&arguments, Budget::MOST)).await;
        verdict = judged.unwrap_or(Verdict::OverBudget);
    }
    match verdict {
        Verdict::Fits => Ok(()),
        Verdict::Problems(problems) => {
            let text = format!(
                "The arguments do not fit the tool's schema: {}. Correct them and send a new call.",
                problems.join("; ")
            );
            Err(Outcome::refused(Code::InvalidArguments, text))
        }
        Verdict::OverBudget => {
            if schema.says_first() {
                tracing::warn!(
                    call = %request.key, tool = %request.target, code = "schema_over_budget",
                    "a schema costs too much to be checked here: its server judges arguments alone"
                );
            }
            Ok(())
        }
    }
}
