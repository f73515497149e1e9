//! What the tests share: a client, an endpoint, a call.

use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;
use toolfleet_core::ids::{ServerId, Tenant};
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_egress::EgressPolicy;
use toolfleet_mcp::{Answer, ClientOptions, Endpoint, EndpointTransport, Fault, McpClient, ToolCall};
use toolfleet_testkit::MockMcp;

/// What reaches servers of this machine.
pub(crate) fn local() -> ClientOptions {
    ClientOptions { reach: EgressPolicy::with_loopback(), ..ClientOptions::default() }
}

pub(crate) fn client() -> McpClient {
    McpClient::new(local()).unwrap()
}

pub(crate) fn small_client(max_body_bytes: u64) -> McpClient {
    McpClient::new(ClientOptions { max_body_bytes, ..local() }).unwrap()
}

pub(crate) fn endpoint(url: &str) -> Endpoint {
    Endpoint {
        server: ServerId::parse("mock").unwrap(),
        url: url.parse().unwrap(),
        headers: http::HeaderMap::new(),
        auth: None,
        tenant: Some(Tenant::parse("acme").unwrap()),
        transport: EndpointTransport::Http,
    }
}

pub(crate) fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

/// Far enough that only a hang reaches it.
pub(crate) fn later() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

/// Calls `echo` in a conversation.
pub(crate) async fn echo_in(
    client: &McpClient,
    server: &MockMcp,
    conversation: &str,
) -> Result<Answer, Fault> {
    let (endpoint, arguments) = (endpoint(&server.url()), raw(r#"{"call":"c1"}"#));
    let mut call = ToolCall::new(&endpoint, "echo", &arguments, later());
    call.conversation = Some(conversation);
    client.call_tool(call).await
}

pub(crate) async fn echo(client: &McpClient, server: &MockMcp) -> Result<Answer, Fault> {
    echo_in(client, server, "talk").await
}

pub(crate) async fn echo_until(
    client: &McpClient,
    server: &MockMcp,
    deadline: Instant,
) -> Result<Answer, Fault> {
    let (endpoint, arguments) = (endpoint(&server.url()), raw("{}"));
    client.call_tool(ToolCall::new(&endpoint, "echo", &arguments, deadline)).await
}

/// The fault must say that the tool did not run, and the server's counter must agree.
pub(crate) fn assert_not_executed(fault: &Fault, server: &MockMcp) {
    assert_eq!(fault.may_have_run(), MayHaveRun::No, "{fault:?}");
    assert_eq!(server.executions("echo"), 0, "{fault:?}");
}

/// Time that passes only when a test says so, though the sockets are real: beside blocking work a paused clock never jumps.
pub(crate) struct StoppedTime(
    #[expect(dead_code, reason = "dropping it ends the blocking work")] std::sync::mpsc::Sender<()>,
);

impl StoppedTime {
    pub(crate) fn new() -> Self {
        tokio::time::pause();
        let (end, wait) = std::sync::mpsc::channel();
        drop(tokio::task::spawn_blocking(move || wait.recv()));
        Self(end)
    }
}
