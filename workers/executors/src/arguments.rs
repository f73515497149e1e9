//! Checks the arguments of a call against a schema before anything is sent. The error text is one that a model can act on.
//!
//! An expensive check runs off the runtime; one that is too expensive is left to the server.

use std::time::Duration;

use toolfleet_catalog::{Budget, InputSchema, Verdict};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::request::CallRequest;

use crate::blocking::{LARGE_BYTES, run_blocking};

/// How long a check off the runtime may take; the budget ends it far earlier.
const WITHIN: Duration = Duration::from_secs(5);

/// Checks the arguments of a request.
///
/// # Errors
/// The outcome that refuses the call.
pub async fn check_arguments(schema: &InputSchema, request: &CallRequest) -> Result<(), Outcome> {
    let arguments = request.arguments.get();
    let mut verdict = Verdict::OverBudget;
    if arguments.len() < LARGE_BYTES {
        verdict = schema.judge(arguments, Budget::INLINE);
    }
    if verdict == Verdict::OverBudget && schema.is_judging() {
        let (schema, arguments) = (schema.clone(), arguments.to_owned());
        let judged = run_blocking(WITHIN, move || schema.judge(&arguments, Budget::MOST)).await;
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
