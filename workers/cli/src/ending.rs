//! Owns how a command ends: the exit codes, and the sentences that go with the bad ones.
//!
//! **Invariant:** an exit code of 0 is given only for what was asked for and done.

use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};
use toolfleet_client::{AwsError, AwsErrorKind, PayloadError};
use toolfleet_core::ids::CallKey;

use crate::output::Output;

/// A command that did its work and can say what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// All is as it should be.
    Done,
    /// The call ended otherwise than succeeded, or a step of the demo ended otherwise than expected.
    NotSucceeded,
    /// There is no such call or session, or no result yet.
    NoResult,
}

impl Ending {
    /// The exit code.
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::NotSucceeded => ExitCode::from(1),
            Self::NoResult => ExitCode::from(3),
        }
    }
}

/// A command that could not do its work.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command or the configuration is wrong: what, and the remedy.
    Usage(String),
    /// A failure of our own.
    Ours(anyhow::Error),
    /// The result of the call cannot be had: its code, and why.
    Unreadable(&'static str, String),
    /// stdout is gone or full.
    Output(io::Error),
    /// What befell a call that was named before.
    OfCall(CallKey, Box<Self>),
}

impl Failure {
    /// The command or the configuration is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// The same, with the call that it befell.
    pub(crate) fn of_call(self, key: &CallKey) -> Self {
        Self::OfCall(key.clone(), Box::new(self))
    }

    /// Says what is wrong, and gives the exit code.
    pub(crate) fn report(self, output: &Output) -> ExitCode {
        let (call, failure) = match self {
            Self::OfCall(key, failure) => (Some(key), *failure),
            failure @ (Self::Usage(_) | Self::Ours(_) | Self::Unreadable(..) | Self::Output(_)) => {
                (None, failure)
            }
        };
        let unreadable = match &failure {
            Self::Unreadable(code, _) => Some(*code),
            Self::Usage(_) | Self::Ours(_) | Self::Output(_) | Self::OfCall(..) => None,
        };
        let (kind, message, code) = match failure {
            Self::OfCall(_, failure) => return failure.report(output),
            Self::Usage(message) => ("usage", message, 2),
            Self::Ours(error) => ("trouble", format!("{error:#}"), 4),
            Self::Unreadable(_, message) => ("unreadable", message, 4),
            // Whoever read stdout has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Output(error) => ("output", format!("cannot write to stdout: {error}"), 4),
        };
        output.note(&format!("error: {message}"));
        if let Some(key) = &call {
            output.note(&format!("this was call {} of tenant {}", key.call_id, key.tenant));
        }
        if output.is_json() {
            // What cannot be written was said on stderr already.
            let mut document = error(kind, &message, call.as_ref());
            if let (Some(code), Some(Value::Object(error))) = (unreadable, document.get_mut("error")) {
                error.insert("code".to_owned(), code.into());
            }
            let _said = output.document(&document);
        }
        ExitCode::from(code)
    }
}

/// An error as machines see it.
pub(crate) fn error(kind: &str, message: &str, call: Option<&CallKey>) -> Value {
    let mut error = json!({"kind": kind, "message": message});
    if let (Some(key), Some(members)) = (call, error.as_object_mut()) {
        members.insert("tenant".into(), key.tenant.as_str().into());
        members.insert("call_id".into(), key.call_id.as_str().into());
    }
    json!({ "error": error })
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<PayloadError> for Failure {
    fn from(error: PayloadError) -> Self {
        match (error.code(), error) {
            (_, PayloadError::Aws(trouble)) => trouble.into(),
            (Some(code), error) => Self::Unreadable(code, error.to_string()),
            (None, error) => Self::Ours(error.into()),
        }
    }
}

impl From<AwsError> for Failure {
    fn from(error: AwsError) -> Self {
        let dev = match error.kind() {
            AwsErrorKind::Unreachable => "\nif it is a fleet on this machine, start it with `toolfleet dev`",
            AwsErrorKind::Credentials | AwsErrorKind::Region => {
                "\n`toolfleet dev` prints what joins a fleet on this machine"
            }
            AwsErrorKind::Passing
            | AwsErrorKind::Permission
            | AwsErrorKind::Configuration
            | AwsErrorKind::Rejection => "",
        };
        let text = format!("{error}{dev}");
        if error.is_permanent() { Self::Usage(text) } else { Self::Ours(anyhow::anyhow!(text)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_that_passes_is_ours_and_what_somebody_must_change_is_not() {
        assert!(matches!(Failure::from(AwsError::passing("throttled")), Failure::Ours(_)));
        assert!(matches!(Failure::from(AwsError::configuration("no table")), Failure::Usage(_)));
    }
}
