//! What the executor of Lambda functions needs of AWS: Invoke, and the attributes of a session. The worker implements both.

use std::pin::Pin;

use serde_json::{Map, Value};
use toolfleet_catalog::LambdaTransport;
use toolfleet_core::function::{Event, FunctionAnswer, InvokeFault};
use toolfleet_core::ids::{ServerId, SessionId, Tenant};

/// The future of a port's method.
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

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
