//! The client that `@modelcontextprotocol/conformance` drives: it lists the tools and calls each of them.
//!
//! `conformance client --command target/debug/examples/conformance --scenario tools_call --spec-version 2026-07-28`
//!
//! **Invariant:** everything goes through the public client, as in the worker; no scenario has code of its own.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use toolfleet_core::credential::{Credential, SecretRef};
use toolfleet_core::ids::ServerId;
use toolfleet_credentials::{CredentialError, Keyring, SecretText};
use toolfleet_egress::EgressPolicy;
use toolfleet_mcp::{
    Answer, AnswerKind, ClientOptions, Endpoint, EndpointTransport, McpClient, RemoteTool, Resume, ToolCall,
};

/// How often one tool may ask before it is given up.
const MAX_QUESTIONS: usize = 5;

#[tokio::main]
#[expect(
    clippy::disallowed_methods,
    reason = "the conformance runner hands its context over in the environment"
)]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).context("expected the server's URL")?;
    let url: url::Url = url.parse()?;
    let context: Value = match std::env::var("MCP_CONFORMANCE_CONTEXT") {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => Value::Null,
    };
    let client =
        McpClient::new(ClientOptions { reach: EgressPolicy::with_loopback(), ..ClientOptions::default() })?;
    let headers = reqwest::header::HeaderMap::new();
    let auth = credential_in(&context)?
        .map(|credential| Arc::new(client.auth(&credential, [], &url, Arc::new(Context(context.clone())))));
    let endpoint = Endpoint {
        server: ServerId::parse("conformance")?,
        url,
        headers,
        auth,
        tenant: None,
        transport: EndpointTransport::Http,
    };
    let tools = client.list_tools(&endpoint, Some("conformance"), later()).await?;
    let listed = tools.iter().map(|tool| (tool.name.clone(), arguments_for(&tool.input_schema, &tools)));
    let mut calls: Vec<(String, Value)> = listed.collect();
    if let Some(wanted) = context.get("toolCalls").and_then(Value::as_array) {
        let name = |call: &Value| call.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let arguments = |call: &Value| call.get("arguments").cloned().unwrap_or_else(|| json!({}));
        calls = wanted.iter().map(|call| (name(call), arguments(call))).collect();
    }
    let running = calls.iter().map(|(tool, arguments)| call(&client, &endpoint, tool, arguments));
    for answer in futures::future::join_all(running).await {
        match answer {
            Ok(answer) => println!("{:?} {}", answer.kind, answer.result),
            Err(error) => println!("{error:#}"),
        }
    }
    client.end_conversation(&endpoint, "conformance").await;
    Ok(())
}

/// The client credentials of a scenario that brings some.
fn credential_in(context: &Value) -> anyhow::Result<Option<Credential>> {
    let Some(client_id) = context.get("client_id") else {
        return Ok(None);
    };
    let mut auth = Map::new();
    auth.insert("type".to_owned(), json!("oauth2_client_credentials"));
    auth.insert("client_id".to_owned(), client_id.clone());
    for (member, field) in [("client_secret", "client_secret"), ("private_key_pem", "private_key")] {
        if context.get(member).is_some() {
            auth.insert(field.to_owned(), json!(format!("secret://{member}")));
        }
    }
    if let Some(algorithm) = context.get("signing_algorithm") {
        auth.insert("algorithm".to_owned(), algorithm.clone());
    }
    Ok(Some(serde_json::from_value(Value::Object(auth))?))
}

/// The runner's context as a keyring: secrets are its members.
#[derive(Debug)]
struct Context(Value);

impl Keyring for Context {
    fn secret<'a>(
        &'a self,
        reference: &'a SecretRef,
        _fresh: bool,
    ) -> BoxFuture<'a, Result<SecretText, CredentialError>> {
        let text = self.0.get(reference.name()).and_then(Value::as_str);
        let text = text
            .map(SecretText::new)
            .ok_or_else(|| CredentialError::Unavailable { detail: reference.to_string() });
        std::future::ready(text).boxed()
    }

    #[expect(clippy::disallowed_methods, reason = "this program's one clock")]
    fn now_s(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Calls a tool, and accepts whatever it asks.
async fn call(
    client: &McpClient,
    endpoint: &Endpoint,
    tool: &str,
    arguments: &Value,
) -> anyhow::Result<Answer> {
    let arguments = RawValue::from_string(arguments.to_string())?;
    let (mut state, mut responses): (Option<String>, Option<Box<RawValue>>) = (None, None);
    for _ in 0..MAX_QUESTIONS {
        let mut call = ToolCall::new(endpoint, tool, &arguments, later());
        call.conversation = Some("conformance");
        call.resume = Resume { request_state: state.as_deref(), input_responses: responses.as_deref() };
        let answer = client.call_tool(call).await?;
        if answer.kind != AnswerKind::InputRequired {
            return Ok(answer);
        }
        let asked: Value = serde_json::from_str(answer.result.get())?;
        let questions = asked.get("inputRequests").and_then(Value::as_object).cloned().unwrap_or_default();
        let accepted: Map<String, Value> =
            questions.into_iter().map(|(key, question)| (key, accept(&question))).collect();
        state = asked.get("requestState").and_then(Value::as_str).map(str::to_owned);
        responses = Some(RawValue::from_string(Value::Object(accepted).to_string())?);
    }
    anyhow::bail!("{tool} asks without end")
}

fn accept(question: &Value) -> Value {
    let schema = question.pointer("/params/requestedSchema").unwrap_or(&Value::Null);
    json!({ "action": "accept", "content": example_of(schema) })
}

/// Arguments that fit a tool's schema; a tool that takes a `schema` gets one back as it was listed.
fn arguments_for(schema: &Value, tools: &[RemoteTool]) -> Value {
    let mut arguments = example_of(schema);
    if let (Some(asked), Some(first)) = (arguments.get_mut("schema"), tools.first()) {
        *asked = first.input_schema.clone();
    }
    arguments
}

/// Values that fit a plain schema.
fn example_of(schema: &Value) -> Value {
    let mut example = Map::new();
    let mut number = 5;
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let value = match property.get("type").and_then(Value::as_str) {
            Some("number" | "integer") => {
                number += 1;
                json!(number)
            }
            Some("boolean") => json!(true),
            Some("array") => json!([]),
            Some("object") => json!({}),
            _ => json!("example"),
        };
        example.insert(name.clone(), value);
    }
    Value::Object(example)
}
