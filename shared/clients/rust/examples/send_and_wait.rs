//! Sends a call and waits for its result: `send_and_wait QUEUE_URL TENANT TOOL [ARGUMENTS]`, for example with the exports of `toolfleet dev`:
//!
//! ```sh
//! cargo run -p toolfleet-client --example send_and_wait -- "$TOOLFLEET_QUEUE_URL" demo add '{"a": 2, "b": 40}'
//! ```

use std::error::Error;
use std::time::Duration;

use toolfleet_client::{Client, RequestBuilder, Tables};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (queue_url, tenant, tool, arguments) = match arguments.as_slice() {
        [queue_url, tenant, tool] => (queue_url, tenant, tool, "{}"),
        [queue_url, tenant, tool, arguments] => (queue_url, tenant, tool, arguments.as_str()),
        _ => return Err("usage: send_and_wait QUEUE_URL TENANT TOOL [ARGUMENTS]".into()),
    };
    let client = Client::connect(queue_url, &Tables::with_prefix("toolfleet")).await;
    // The key makes a second run find the first one's result: the call runs once.
    let request = RequestBuilder::tool(tenant, tool)
        .arguments(serde_json::from_str(arguments)?)
        .idempotency_key(&format!("{tool} {arguments}"))
        .set("timeout_ms", 30_000)
        .build()?;
    let message_id = client.send(&request, None).await?;
    let result = client.wait_for_sent(&request, &message_id, Duration::from_secs(60)).await?;
    println!("{}", result.outcome.kind);
    if let Some(error) = &result.outcome.error {
        println!("{}: {}", error.code, error.message);
    }
    if let Some(content) = result.outcome.content() {
        println!("{}", content.get());
    }
    Ok(())
}
