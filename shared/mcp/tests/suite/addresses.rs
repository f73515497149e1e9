//! Addresses: an address that the egress policy refuses is not called.

use toolfleet_core::failure::{Blame, RetryClass};
use toolfleet_egress::{EgressPolicy, Proxies};
use toolfleet_mcp::{ClientOptions, Fault, McpClient, ToolCall};
use toolfleet_testkit::{MockFault, MockMcp, ProtocolRevision};

use crate::support::*;

async fn refused(reach: EgressPolicy, url: &str) -> Fault {
    let client = McpClient::new(ClientOptions { reach, ..ClientOptions::default() }).unwrap();
    let (endpoint, arguments) = (endpoint(url), raw("{}"));
    client.call_tool(ToolCall::new(&endpoint, "echo", &arguments, later())).await.unwrap_err()
}

#[tokio::test]
async fn a_server_on_this_machine_is_not_called_by_address_or_by_name_and_sees_no_connection() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    let port = server.url().parse::<url::Url>().unwrap().port().unwrap();
    for host in ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "localhost"] {
        let reach = EgressPolicy { http: true, ..EgressPolicy::public() };
        let fault = refused(reach, &format!("http://{host}:{port}/mcp")).await;
        assert!(
            matches!(&fault, Fault::AddressRefused { detail } if detail.contains("not public")),
            "{host}: {fault:?}"
        );
        assert_eq!((fault.retry_class(), fault.blame()), (RetryClass::Permanent, Blame::Configuration));
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_server_without_tls_is_not_called_unless_that_is_allowed() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    let reach = EgressPolicy { http: false, ..EgressPolicy::with_loopback() };
    let fault = refused(reach, &server.url()).await;
    assert!(
        matches!(&fault, Fault::AddressRefused { detail } if detail.contains("TOOLFLEET_ALLOW_HTTP")),
        "{fault:?}"
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_name_that_may_be_called_is() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    server.echo();
    let url = server.url().replace("127.0.0.1", "localhost");
    let (endpoint, arguments) = (endpoint(&url), raw("{}"));
    client().call_tool(ToolCall::new(&endpoint, "echo", &arguments, later())).await.unwrap();
}

#[tokio::test]
async fn behind_a_proxy_an_address_in_the_url_is_judged_all_the_same() {
    // The "proxy" is a server that records what it is asked; a request in absolute form shows that it was used.
    let proxy = MockMcp::start(ProtocolRevision::Modern).await;
    proxy.always_for("server/discover", MockFault::status(403));
    let http = Some(proxy.url().parse().unwrap());
    let reach = EgressPolicy { http: true, ..EgressPolicy::public() };
    let proxies = Proxies { http, ..Proxies::default() };
    let client = McpClient::new(ClientOptions { reach, proxies, ..ClientOptions::default() }).unwrap();
    let arguments = raw("{}");
    let target = endpoint("http://169.254.169.254/latest/meta-data");
    let fault = client.call_tool(ToolCall::new(&target, "echo", &arguments, later())).await.unwrap_err();
    assert!(matches!(fault, Fault::AddressRefused { .. }), "{fault:?}");
    assert!(proxy.requests().is_empty());
    let target = endpoint("http://mcp.example/mcp");
    client.call_tool(ToolCall::new(&target, "echo", &arguments, later())).await.unwrap_err();
    assert_eq!(proxy.requests()[0].path, "http://mcp.example/mcp");
}
