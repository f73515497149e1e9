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

impl Attributes {
    /// These, changed as a call has changed those that it was given (`before`) into those that it returned.
    #[must_use]
    pub fn changed(self, before: &Self, returned: &Self) -> Self {
        Self {
            session: changed(self.session, &before.session, &returned.session),
            prompt: changed(self.prompt, &before.prompt, &returned.prompt),
        }
    }
}

fn changed(
    mut current: Map<String, Value>,
    before: &Map<String, Value>,
    returned: &Map<String, Value>,
) -> Map<String, Value> {
    for name in before.keys().filter(|name| !returned.contains_key(*name)) {
        current.remove(name);
    }
    for (name, value) in returned.iter().filter(|(name, value)| before.get(*name) != Some(*value)) {
        current.insert(name.clone(), value.clone());
    }
    current
}

/// Whose attributes they are: of a session, with all its servers or one of them.
#[derive(Debug, Clone, Copy)]
pub struct AttributesOf<'a> {
    /// The session's tenant.
    pub tenant: &'a Tenant,
    /// The session.
    pub session: &'a SessionId,
    /// The server, unless the session's servers share them.
    pub server: Option<&'a ServerId>,
}

/// The stored attributes of sessions. An error is a text for the operator.
pub trait AttributeStore: Send + Sync {
    /// Those that are stored; empty where none are.
    fn read<'a>(&'a self, of: AttributesOf<'a>) -> Asked<'a, Result<Attributes, String>>;

    /// Stores what a call has changed: it was given `before`, and has returned `returned`. What other calls have changed since stays.
    fn change<'a>(
        &'a self,
        of: AttributesOf<'a>,
        before: &'a Attributes,
        returned: &'a Attributes,
    ) -> Asked<'a, Result<(), String>>;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attributes(session: Value) -> Attributes {
        Attributes { session: session.as_object().unwrap().clone(), prompt: Map::new() }
    }

    #[test]
    fn two_calls_at_once_keep_each_others_changes() {
        let before = attributes(json!({"a": 1, "gone": 1, "same": 1}));
        let one = attributes(json!({"a": 2, "same": 1}));
        let other = attributes(json!({"a": 1, "gone": 1, "same": 1, "b": 3}));
        let stored = before.clone().changed(&before, &one);
        assert_eq!(stored, one);
        assert_eq!(stored.changed(&before, &other), attributes(json!({"a": 2, "same": 1, "b": 3})));
    }
}
