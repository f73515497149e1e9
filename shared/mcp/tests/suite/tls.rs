//! TLS and HTTP/2: which certificates are trusted, and what a refused or broken stream says about the tool.

use toolfleet_core::failure::RetryClass;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_mcp::{Answer, ClientOptions, Fault, McpClient, ToolCall};
use toolfleet_testkit::{Authority, H2Fault, H2Mcp, MockMcp, ProtocolRevision, TlsSide};

use crate::support::*;

fn trusting(authority: &Authority) -> McpClient {
    McpClient::new(ClientOptions { extra_roots: Some(authority.pem().into_bytes()), ..local() }).unwrap()
}

async fn call(client: &McpClient, url: &str) -> Result<Answer, Fault> {
    let (endpoint, arguments) = (endpoint(url), raw("{}"));
    client.call_tool(ToolCall::new(&endpoint, "echo", &arguments, later())).await
}

#[tokio::test]
async fn a_server_is_believed_under_an_extra_root_and_under_no_other() {
    let authority = Authority::new("ours");
    let server =
        MockMcp::start_tls(ProtocolRevision::Modern, &TlsSide::new(&authority.issue("localhost"))).await;
    server.echo();
    call(&trusting(&authority), &server.url()).await.unwrap();
    assert_eq!(server.executions("echo"), 1);

    for stranger in [client(), trusting(&Authority::new("theirs"))] {
        let fault = call(&stranger, &server.url()).await.unwrap_err();
        assert!(
            matches!(&fault, Fault::Connect { detail } if detail.contains("TLS: invalid peer certificate")),
            "{fault}"
        );
        assert_eq!((fault.retry_class(), fault.may_have_run()), (RetryClass::NotExecuted, MayHaveRun::No));
    }
    assert_eq!(server.executions("echo"), 1);
}

#[tokio::test]
async fn a_server_under_another_name_than_its_certificates_is_not_believed() {
    let authority = Authority::new("ours");
    let server =
        MockMcp::start_tls(ProtocolRevision::Modern, &TlsSide::new(&authority.issue("other.example"))).await;
    let fault = call(&trusting(&authority), &server.url()).await.unwrap_err();
    assert!(
        matches!(&fault, Fault::Connect { detail } if detail.contains("TLS") && detail.contains("localhost")),
        "{fault}"
    );
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_on_an_https_port_was_not_called() {
    let server = MockMcp::start(ProtocolRevision::Modern).await;
    let fault = call(&client(), &server.url().replace("http://", "https://")).await.unwrap_err();
    assert!(matches!(&fault, Fault::Connect { .. }), "{fault:?}");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_offered_over_one_connection() {
    let authority = Authority::new("ours");
    let server = H2Mcp::start(&TlsSide::new(&authority.issue("localhost"))).await;
    let client = trusting(&authority);
    for _ in 0..3 {
        call(&client, &server.url()).await.unwrap();
    }
    assert_eq!((server.executions(), server.connections()), (3, 1));
}

#[tokio::test]
async fn a_refused_stream_was_not_executed_and_a_broken_one_may_have_been() {
    let authority = Authority::new("ours");
    let server = H2Mcp::start(&TlsSide::new(&authority.issue("localhost"))).await;
    let client = trusting(&authority);
    call(&client, &server.url()).await.unwrap();
    for (h2, class, executions) in [
        (H2Fault::RefuseStream, RetryClass::NotExecuted, 0),
        (H2Fault::GoAwayBefore, RetryClass::NotExecuted, 0),
        (H2Fault::GoAwayAfter, RetryClass::Ambiguous, 1),
        (H2Fault::ResetBeforeAnswer, RetryClass::Ambiguous, 1),
        (H2Fault::ResetMidway, RetryClass::Ambiguous, 1),
    ] {
        let before = server.executions();
        server.next(h2);
        let fault = call(&client, &server.url()).await.unwrap_err();
        assert_eq!(fault.retry_class(), class, "{h2:?}: {fault:?}");
        assert_eq!(server.executions() - before, executions, "{h2:?}");
        // The next call finds its way, over a new connection if need be.
        call(&client, &server.url()).await.unwrap();
    }
}
