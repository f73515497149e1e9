//! The exit codes of the command, and its errors as text and as JSON.

use std::io;
use std::process::ExitCode;

use serde_json::{Value, json};
use toolfleet_client::{AwsError, AwsErrorKind, PayloadError};
use toolfleet_core::ids::CallKey;

use crate::output::Output;

/// How a command ended that did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Successful.
    Done,
    /// The call did not succeed, a tool differs from its pin, an entry cannot be imported, or a step of the demo did not end as expected.
    NotSucceeded,
    /// There is no such call or session, or no result yet.
    NoResult,
}

impl Exit {
    /// The exit code.
    pub(crate) fn code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::NotSucceeded => ExitCode::from(1),
            Self::NoResult => ExitCode::from(3),
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// The command or the configuration is wrong; the text names the remedy.
    Usage(String),
    /// A service, a file or the machine failed: a retry can succeed without a change of the command.
    Unavailable(anyhow::Error),
    /// The stored result of the call cannot be read: the code, and the text.
    Unreadable(&'static str, String),
    /// stdout is closed or full.
    Output(io::Error),
    /// An error that concerns a call whose id was printed before.
    OfCall(CallKey, Box<Self>),
}

impl CommandError {
    /// The command or the configuration is wrong.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    /// The same error, with the call that it concerns.
    pub(crate) fn of_call(self, key: &CallKey) -> Self {
        Self::OfCall(key.clone(), Box::new(self))
    }

    /// What went wrong, without the call that it concerns.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Usage(message) | Self::Unreadable(_, message) => message.clone(),
            Self::Unavailable(error) => format!("{error:#}"),
            Self::Output(error) => format!("cannot write to stdout: {error}"),
            Self::OfCall(_, failure) => failure.message(),
        }
    }

    /// Prints the error; returns the exit code.
    pub(crate) fn report(self, output: &Output) -> ExitCode {
        let (call, failure) = match self {
            Self::OfCall(key, failure) => (Some(key), *failure),
            failure @ (Self::Usage(_) | Self::Unavailable(_) | Self::Unreadable(..) | Self::Output(_)) => {
                (None, failure)
            }
        };
        let unreadable = match &failure {
            Self::Unreadable(code, _) => Some(*code),
            Self::Usage(_) | Self::Unavailable(_) | Self::Output(_) | Self::OfCall(..) => None,
        };
        let message = failure.message();
        let (kind, code) = match failure {
            Self::OfCall(_, failure) => return failure.report(output),
            Self::Usage(_) => ("usage", 2),
            Self::Unavailable(_) => ("unavailable", 4),
            Self::Unreadable(..) => ("unreadable", 4),
            // The reader of stdout has closed it.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Self::Output(_) => ("output", 4),
        };
        output.note(&format!("error: {message}"));
        if let Some(key) = &call {
            output.note(&format!("the error concerns call {} of tenant {}", key.call_id, key.tenant));
        }
        if output.is_json() {
            // The error is on stderr already if stdout cannot be written.
            let mut document = error(kind, &message, call.as_ref());
            if let (Some(code), Some(Value::Object(error))) = (unreadable, document.get_mut("error")) {
                error.insert("code".to_owned(), code.into());
            }
            let _printed = output.document(&document);
        }
        ExitCode::from(code)
    }
}

/// An error as a JSON document.
pub(crate) fn error(kind: &str, message: &str, call: Option<&CallKey>) -> Value {
    let mut error = json!({"kind": kind, "message": message});
    if let (Some(key), Some(members)) = (call, error.as_object_mut()) {
        members.insert("tenant".into(), key.tenant.as_str().into());
        members.insert("call_id".into(), key.call_id.as_str().into());
    }
    json!({ "error": error })
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<PayloadError> for CommandError {
    fn from(error: PayloadError) -> Self {
        match (error.code(), error) {
            (_, PayloadError::Aws(error)) => error.into(),
            (Some(code), error) => Self::Unreadable(code, error.to_string()),
            (None, error) => Self::Unavailable(error.into()),
        }
    }
}

impl From<AwsError> for CommandError {
    fn from(error: AwsError) -> Self {
        let dev = match error.kind() {
            AwsErrorKind::Unreachable => "\nfor a fleet on this machine, start `toolfleet dev`",
            AwsErrorKind::Credentials | AwsErrorKind::Region => {
                "\n`toolfleet dev` prints the variables for a fleet on this machine"
            }
            AwsErrorKind::Passing
            | AwsErrorKind::Permission
            | AwsErrorKind::Configuration
            | AwsErrorKind::Rejection => "",
        };
        let text = format!("{error}{dev}");
        if error.is_permanent() { Self::Usage(text) } else { Self::Unavailable(anyhow::anyhow!(text)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passing_error_is_unavailable_and_a_permanent_one_is_usage() {
        assert!(matches!(CommandError::from(AwsError::passing("throttled")), CommandError::Unavailable(_)));
        assert!(matches!(CommandError::from(AwsError::configuration("no table")), CommandError::Usage(_)));
    }
}
