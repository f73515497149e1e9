//! Owns the client that `@modelcontextprotocol/conformance` drives: it lists the tools and calls each of them.
//!
//! `conformance client --command target/debug/examples/conformance --scenario tools_call --spec-version 2026-07-28`
//!
//! **Invariant:** everything goes through the public client, as in the worker; no scenario has code of its own.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use toolfleet_core::ids::ServerId;
use toolfleet_mcp::{
    Answer, AnswerKind, ClientOptions, Endpoint, McpClient, Reach, RemoteTool, Resume, ToolCall,
};

/// How often one tool may ask before it is given up.
const MAX_QUESTIONS: usize = 5;

#[tokio::main]
#[expect(
    clippy::disallowed_methods,
    reason = "the conformance runner hands its context over in the environment"
)]
async fn main() -> anyhow::Result<()> {
    let url = std::env::args().nth(1).context("expected the server's URL")?.parse()?;
    let context: Value = match std::env::var("MCP_CONFORMANCE_CONTEXT") {
        Ok(text) => serde_json::from_str(&text)?,
        Err(_) => Value::Null,
    };
    let headers = reqwest::header::HeaderMap::new();
    let endpoint = Endpoint {
        server: ServerId::parse("conformance")?,
        url,
        headers,
        auth: None,
        tenant: None,
        program: None,
    };
    let client = McpClient::new(ClientOptions { reach: Reach::with_loopback(), ..ClientOptions::default() })?;
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
