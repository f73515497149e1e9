//! What the executor of Lambda functions needs of AWS: Invoke, and the attributes of a session. The worker implements both.

use std::pin::Pin;

use serde_json::{Map, Value};
use toolfleet_catalog::LambdaTransport;
use toolfleet_core::ids::{ServerId, SessionId, Tenant};

/// The future of a port's method.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a function is invoked with.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// The event: a JSON text.
    pub payload: Vec<u8>,
    /// The client context: a JSON text.
    pub client_context: Option<String>,
    /// The name of the durable execution.
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
        /// The error's name; empty where there is none.
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

/// Invokes functions, without retries of its own.
pub trait LambdaInvoke: Send + Sync {
    /// Obtains the keys that an Invoke needs.
    fn ready<'a>(&'a self, function: &'a LambdaTransport) -> Asked<'a, Result<(), InvokeFault>>;

    /// Invokes the function and waits for its answer, without a bound.
    fn invoke<'a>(
        &'a self,
        function: &'a LambdaTransport,
        event: Event,
    ) -> Asked<'a, Result<FunctionAnswer, InvokeFault>>;
}

/// What a function returned to be given to the next call of its session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `sessionAttributes`.
    pub session: Map<String, Value>,
    /// `promptSessionAttributes`.
    pub prompt: Map<String, Value>,
}

/// The stored attributes of sessions, by server. An error is a text for the operator.
pub trait AttributeStore: Send + Sync {
    /// Those of a session; empty where none are stored.
    fn read<'a>(
        &'a self,
        tenant: &'a Tenant,
        session: &'a SessionId,
        server: &'a ServerId,
    ) -> Asked<'a, Result<Attributes, String>>;

    /// Replaces those of a session.
    fn write<'a>(
        &'a self,
        tenant: &'a Tenant,
        session: &'a SessionId,
        server: &'a ServerId,
        attributes: &'a Attributes,
    ) -> Asked<'a, Result<(), String>>;
}
