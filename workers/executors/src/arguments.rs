//! Checks the arguments of a call against a schema before anything is sent. The error text is one that a model can act on.
//!
//! A schema is compiled when it is first used. Compiling it and an expensive check run off the runtime; a check that is too expensive is
//! left to the server.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use toolfleet_catalog::{Budget, InputSchema, Judge, NotCompiled, Verdict};
use toolfleet_core::outcome::{Code, Outcome};
use toolfleet_core::request::CallRequest;
use toolfleet_core::surrogate::replace_lone_surrogates;

use crate::blocking::{LARGE_BYTES, run_blocking};
use crate::compiled_schemas::CompiledSchemas;

/// How long a check off the runtime may take; the budget ends it far earlier.
const WITHIN: Duration = Duration::from_secs(5);

/// Who wrote a schema, and so what becomes of a call whose schema is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaOf {
    /// The catalog: the tool cannot be called.
    Catalog,
    /// The server's own list: its server judges the arguments alone.
    Listing,
}

/// Whether a JSON text can be read as text: none can that has half a surrogate pair in it, which JSON allows. To send another character in
/// its place would be to send another value.
pub(crate) fn is_text(json: &str) -> bool {
    matches!(replace_lone_surrogates(json), Cow::Borrowed(_))
}

/// What is wrong with an argument that cannot.
pub(crate) fn half_a_pair(argument: &str) -> String {
    format!(
        "{argument} has half a surrogate pair (such as \\ud83d) in it, which no text can hold; leave it out"
    )
}

/// The outcome of a call whose arguments make no request.
pub(crate) fn makes_no_request(problem: &str) -> Outcome {
    let text = format!("The arguments make no request: {problem}. Correct them and send a new call.");
    Outcome::refused(Code::InvalidArguments, text)
}

/// Checks the arguments of a request.
///
/// # Errors
/// The outcome that refuses the call.
pub async fn check_arguments(
    schemas: &CompiledSchemas,
    schema: &InputSchema,
    of: SchemaOf,
    request: &CallRequest,
) -> Result<(), Outcome> {
    let compiled = match schemas.ready(schema) {
        Some(compiled) => Some(compiled),
        None => Box::pin(schemas.get(schema)).await,
    };
    let verdict = match (compiled, of) {
        (Some(Ok(judge)), _) => verdict(&judge, request).await,
        (Some(Err(NotCompiled::Invalid(reason))), SchemaOf::Catalog) => {
            return Err(invalid_schema(&reason, request));
        }
        // The server checks them itself, by the schema that it wrote.
        (Some(Err(NotCompiled::Invalid(_))), SchemaOf::Listing) => return Ok(()),
        (Some(Err(NotCompiled::TooLarge)) | None, _) => Verdict::OverBudget,
    };
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
            if schemas.says_first(schema) {
                tracing::warn!(
                    call = %request.key, tool = %request.target, code = "schema_over_budget",
                    "a schema costs too much to be checked here: its server judges arguments alone"
                );
            }
            Ok(())
        }
    }
}

async fn verdict(judge: &Arc<Judge>, request: &CallRequest) -> Verdict {
    let arguments = request.arguments.get();
    let mut verdict = Verdict::OverBudget;
    if arguments.len() < LARGE_BYTES {
        verdict = judge.judge(arguments, Budget::INLINE);
    }
    if verdict == Verdict::OverBudget && judge.is_judging() {
        let (judge, arguments) = (Arc::clone(judge), arguments.to_owned());
        let judged = run_blocking(WITHIN, move || judge.judge(&arguments, Budget::MOST)).await;
        verdict = judged.unwrap_or(Verdict::OverBudget);
    }
    verdict
}

/// The catalog's check at its load finds nearly all of these, so this is rare.
fn invalid_schema(reason: &str, request: &CallRequest) -> Outcome {
    let text = format!(
        "`{}` is registered but cannot be called: its schema is not a usable JSON Schema: {reason}. Nothing was sent. An operator must \
         fix the schema in the catalog.",
        request.target
    );
    Outcome::refused(Code::NotExecutable, text)
}
