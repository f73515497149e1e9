//! Calls a tool from the command line, to try the client against a real server:
//! `cargo run -p toolfleet-mcp --example call -- URL TOOL JSON [TOOL JSON ...]`, or `URL` alone to list the tools.
//!
//! Between two calls it waits for a line on stdin when `-` stands in place of a tool.
//!
//! **Invariant:** everything goes through the public client, as in the worker.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::value::RawValue;
use tokio::time::Instant;
use toolfleet_core::ids::ServerId;
use toolfleet_core::progress::ProgressNote;
use toolfleet_egress::EgressPolicy;
use toolfleet_mcp::{ClientOptions, Endpoint, EndpointTransport, McpClient, ToolCall};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let url = words.next().context("expected URL [TOOL JSON ...]")?.parse()?;
    let transport = EndpointTransport::of_address(&url);
    let headers = reqwest::header::HeaderMap::new();
    let endpoint =
        Endpoint { server: ServerId::parse("example")?, url, headers, auth: None, tenant: None, transport };
    let client =
        McpClient::new(ClientOptions { reach: EgressPolicy::with_loopback(), ..ClientOptions::default() })?;
    let mut called = false;
    while let Some(tool) = words.next() {
        called = true;
        if tool == "-" {
            eprintln!("waiting for a line on stdin");
            std::io::stdin().read_line(&mut String::new())?;
            continue;
        }
        let arguments = RawValue::from_string(words.next().unwrap_or_else(|| "{}".to_owned()))?;
        let begun = Instant::now();
        let mut call = ToolCall::new(&endpoint, &tool, &arguments, begun + Duration::from_secs(30));
        call.conversation = Some("example");
        let heard = |note: ProgressNote| eprintln!("{note:?}");
        call.on_note = Some(&heard);
        match client.call_tool(call).await {
            Ok(answer) => {
                let (kind, version, session) = (&answer.kind, &answer.protocol_version, &answer.mcp_session);
                eprintln!("{kind:?} in {:?}, version {version}, session {session:?}", begun.elapsed());
                println!("{}", answer.result);
            }
            Err(fault) => println!("{fault:?}"),
        }
    }
    if !called {
        let deadline = Instant::now() + Duration::from_secs(30);
        for tool in client.list_tools(&endpoint, Some("example"), deadline).await? {
            println!("{} read_only={} idempotent={}", tool.name, tool.read_only, tool.idempotent);
        }
    }
    client.end_conversation(&endpoint, "example").await;
    Ok(())
}
