//! An invocation of a function that a cloud runs: the event, the answer, and why there is none.

use std::fmt;

/// What a function is invoked with.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// The event: a JSON text.
    pub payload: Vec<u8>,
    /// The client context: a JSON text.
    pub client_context: Option<String>,
    /// The name of the durable execution: a second Invoke with this name and the same event gets the first one's answer.
    pub durable_name: Option<String>,
}

/// What a function answered.
#[derive(Debug)]
pub struct FunctionAnswer {
    /// The answer, or the error where `function_error` says so: a JSON text.
    pub payload: Vec<u8>,
    /// `Handled` or `Unhandled`, if the function failed.
    pub function_error: Option<String>,
}

/// Why an Invoke brought no answer of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InvokeFault {
    /// No connection was made.
    NotConnected {
        /// The innermost causes.
        detail: String,
    },
    /// There are no keys to sign with, or the role cannot be assumed. Nothing was sent.
    Credentials {
        /// Why.
        detail: String,
        /// Whether an operator has to change something.
        permanent: bool,
    },
    /// Lambda answered with an error of its own.
    Service {
        /// The HTTP status.
        status: u16,
        /// The error's name, such as `TooManyRequestsException`; empty where there is none.
        code: String,
        /// Lambda's message.
        message: String,
        /// `Retry-After`, in milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// The request was sent, or may have been, and no whole answer came.
    AnswerLost {
        /// What was seen.
        detail: String,
    },
}

impl fmt::Display for InvokeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected { detail } => write!(f, "cannot connect to Lambda: {detail}"),
            Self::Credentials { detail, .. } => {
                write!(f, "there are no credentials to invoke the function with: {detail}")
            }
            Self::Service { status, code, message, .. } if code.is_empty() => {
                write!(f, "Lambda answered HTTP {status}: {message}")
            }
            Self::Service { status, code, message, .. } => {
                write!(f, "Lambda answered {code} (HTTP {status}): {message}")
            }
            Self::AnswerLost { detail } => write!(f, "the answer was lost: {detail}"),
        }
    }
}
