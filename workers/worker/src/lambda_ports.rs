//! Connects the executor of Lambda functions with AWS: Invoke, and the attributes of sessions in the sessions table.

use serde_json::{Map, Value, json};
use toolfleet_aws::Clock;
use toolfleet_aws::lambda::Lambda;
use toolfleet_aws::sessions::Sessions;
use toolfleet_catalog::LambdaTransport;
use toolfleet_config::lambda::function_of;
use toolfleet_core::function::{Event, FunctionAnswer, InvokeFault};
use toolfleet_executors::{Asked, AttributeStore, Attributes, AttributesOf, LambdaInvoke};

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

/// How often a change is tried while other calls of the session change the same row.
const CHANGE_ATTEMPTS: usize = 8;
/// The most bytes that the attributes of a session may have together, far below what an item of DynamoDB holds.
const MOST_BYTES: usize = 200_000;

impl AttributeStore for SessionAttributes {
    fn read<'a>(&'a self, of: AttributesOf<'a>) -> Asked<'a, Result<Attributes, String>> {
        Box::pin(async move { Ok(attributes_in(self.text(of).await?.as_deref())) })
    }

    fn change<'a>(
        &'a self,
        of: AttributesOf<'a>,
        before: &'a Attributes,
        returned: &'a Attributes,
    ) -> Asked<'a, Result<(), String>> {
        Box::pin(async move {
            for _ in 0..CHANGE_ATTEMPTS {
                let stored = self.text(of).await?;
                let changed = text_of(&attributes_in(stored.as_deref()).changed(before, returned));
                if changed.len() > MOST_BYTES {
                    return Err(format!("those of the session would have more than {MOST_BYTES} bytes"));
                }
                let row = (of.tenant, of.session, of.server);
                let replaced =
                    self.sessions.replace_attributes(row, stored.as_deref(), &changed, self.clock.now());
                if replaced.await.map_err(|error| error.to_string())? {
                    return Ok(());
                }
            }
            Err("other calls of the session change them again and again".to_owned())
        })
    }
}

impl SessionAttributes {
    async fn text(&self, of: AttributesOf<'_>) -> Result<Option<String>, String> {
        let text = self.sessions.attributes(of.tenant, of.session, of.server).await;
        text.map_err(|error| error.to_string())
    }
}

/// A row that cannot be read counts as none.
fn attributes_in(text: Option<&str>) -> Attributes {
    let stored: Value = serde_json::from_str(text.unwrap_or_default()).unwrap_or_default();
    let of = |name: &str| stored.get(name).and_then(Value::as_object).cloned().unwrap_or_else(Map::new);
    Attributes { session: of("session"), prompt: of("prompt") }
}

fn text_of(attributes: &Attributes) -> String {
    json!({"session": attributes.session, "prompt": attributes.prompt}).to_string()
}
