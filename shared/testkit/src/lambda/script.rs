//! What tests tell the scripted Lambda endpoint to do, and what it tells them.

use serde_json::Value;

/// An invocation as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct LambdaInvocation {
    /// The function's name, without account and version.
    pub function: String,
    /// The version or alias of its ARN.
    pub qualifier: Option<String>,
    /// The event.
    pub event: Value,
    /// The client context, decoded; null where there is none.
    pub client_context: Value,
    /// The name of the durable execution.
    pub durable_name: Option<String>,
    /// The access key that signed it.
    pub access_key: String,
    /// The region that it is signed for.
    pub region: String,
    /// Whether it only asks whether the function may be invoked (`DryRun`).
    pub dry_run: bool,
}

/// What goes wrong with an invocation.
#[derive(Debug, Clone, PartialEq)]
pub enum LambdaFault {
    /// Lambda answers with an error of its own, and the function does not run.
    Service {
        /// The HTTP status.
        status: u16,
        /// The error's name; empty for an answer without one.
        code: String,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The function runs, and Lambda answers with an error of its own.
    RunThenService {
        /// The HTTP status.
        status: u16,
        /// The error's name.
        code: String,
    },
    /// The function runs, and the connection is closed before the answer.
    RunThenClose,
    /// The function runs, and the connection is closed within the answer.
    RunThenCut,
    /// The function runs, and no answer comes.
    RunThenHold,
    /// The function runs, and its runtime reports an error.
    RunThenError {
        /// `Handled` or `Unhandled`.
        kind: String,
        /// The error, as the runtime writes it.
        body: String,
    },
    /// The runtime reports an error before it calls the function.
    Error {
        /// The error, as the runtime writes it.
        body: String,
    },
    /// The function runs, and these bytes are its answer.
    RunThenAnswer(String),
}

impl LambdaFault {
    /// An error of Lambda itself, before the function runs.
    pub fn service(status: u16, code: &str) -> Self {
        Self::Service { status, code: code.to_owned(), retry_after: None }
    }

    /// An `Unhandled` error after the function has run.
    pub fn unhandled(kind: &str, message: &str) -> Self {
        let body = serde_json::json!({"errorType": kind, "errorMessage": message}).to_string();
        Self::RunThenError { kind: "Unhandled".to_owned(), body }
    }

    pub(super) const fn runs(&self) -> bool {
        match self {
            Self::Service { .. } | Self::Error { .. } => false,
            Self::RunThenService { .. }
            | Self::RunThenClose
            | Self::RunThenCut
            | Self::RunThenHold
            | Self::RunThenError { .. }
            | Self::RunThenAnswer(_) => true,
        }
    }
}
