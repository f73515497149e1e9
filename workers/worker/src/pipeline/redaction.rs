//! Takes secrets and argument values out of texts before they are logged or stored.

use toolfleet_core::argument_shape::ShownArguments;
use toolfleet_core::outcome::{CallError, Code, Outcome};
use toolfleet_core::request::CallRequest;
use toolfleet_core::scrub;

/// A server's text without any value of the arguments, because operators read the log.
pub(super) fn for_the_log(said: &impl ToString, request: &CallRequest) -> String {
    scrub::without_values(said.to_string(), request.arguments.get(), &ShownArguments::none())
}

/// The outcome with a sentence that repeats no secret of the arguments. A tool's own sentence is a part of its content and stays.
pub(super) fn without_secrets(outcome: Outcome, request: &CallRequest) -> Outcome {
    let own = |why: &CallError| why.code == Code::ToolReportedError;
    let error = outcome.error.map(|why| match own(&why) {
        true => why,
        false => CallError { message: scrub::without_secrets(why.message, request.arguments.get()), ..why },
    });
    Outcome { error, ..outcome }
}
