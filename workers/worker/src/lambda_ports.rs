//! Connects the executor of Lambda functions with AWS: Invoke, and the attributes of sessions in the sessions table.

use serde_json::{Map, Value, json};
use toolfleet_aws::Clock;
use toolfleet_aws::lambda::Lambda;
use toolfleet_aws::sessions::Sessions;
use toolfleet_catalog::LambdaTransport;
use toolfleet_config::lambda::function_of;
use toolfleet_core::function::{Event, FunctionAnswer, InvokeFault};
use toolfleet_core::ids::{ServerId, SessionId, Tenant};
use toolfleet_executors::{Asked, AttributeStore, Attributes, LambdaInvoke};

/// Invokes functions as the worker, or with the role that the catalog names.
#[derive(Debug)]
pub(crate) struct Invoker(pub(crate) Lambda);

impl LambdaInvoke for Invoker {
    fn ready<'a>(&'a self, function: &'a LambdaTransport) -> Asked<'a, Result<(), InvokeFault>> {
        Box::pin(async move { self.0.ready(function_of(function)).await })
    }

    fn invoke<'a>(
        &'a self,
        function: &'a LambdaTransport,
        event: Event,
    ) -> Asked<'a, Result<FunctionAnswer, InvokeFault>> {
        Box::pin(async move { self.0.invoke(function_of(function), event).await })
    }
}

/// The attributes of sessions in the sessions table.
#[derive(Debug)]
pub(crate) struct SessionAttributes {
    pub(crate) sessions: Sessions,
    pub(crate) clock: Clock,
}

impl AttributeStore for SessionAttributes {
    fn read<'a>(
        &'a self,
        tenant: &'a Tenant,
        session: &'a SessionId,
        server: &'a ServerId,
    ) -> Asked<'a, Result<Attributes, String>> {
        Box::pin(async move {
            let text = self.sessions.attributes(tenant, session, server).await;
            let text = text.map_err(|error| error.to_string())?.unwrap_or_default();
            // A row that cannot be read counts as none.
            let stored: Value = serde_json::from_str(&text).unwrap_or_default();
            let of = |name: &str| stored.get(name).and_then(Value::as_object).cloned();
            Ok(Attributes {
                session: of("session").unwrap_or_else(Map::new),
                prompt: of("prompt").unwrap_or_else(Map::new),
            })
        })
    }

    fn write<'a>(
        &'a self,
        tenant: &'a Tenant,
        session: &'a SessionId,
        server: &'a ServerId,
        attributes: &'a Attributes,
    ) -> Asked<'a, Result<(), String>> {
        Box::pin(async move {
            let text = json!({"session": attributes.session, "prompt": attributes.prompt}).to_string();
            let written = self.sessions.set_attributes(tenant, session, server, &text, self.clock.now());
            written.await.map_err(|error| error.to_string())
        })
    }
}
