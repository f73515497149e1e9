//! The cutting proxy: what the upstream server receives and the client does not.
//!
//! **Invariant:** no crate that the testkit serves is used here.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "the whole binary is tests")]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use toolfleet_testkit::{Cut, CuttingProxy, MockMcp, ProtocolRevision, Rule};

const PUT: &str = "DynamoDB_20120810.BatchExecuteStatement";

struct Client(TcpStream);

impl Client {
    async fn to(proxy: &CuttingProxy) -> Self {
        Self(TcpStream::connect(proxy.url().trim_start_matches("http://")).await.unwrap())
    }

    /// The status of the answer, or nothing when the connection ended without one.
    async fn ask(&mut self, target: &str, body: &str) -> Option<String> {
        let head =
            format!("POST /mcp HTTP/1.1\r\nX-Amz-Target: {target}\r\nContent-Length: {}\r\n\r\n", body.len());
        self.0.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = self.0.read(&mut answer).await.unwrap_or(0);
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        text.split(' ').nth(1).map(str::to_owned)
    }
}

#[tokio::test]
async fn an_answer_is_lost_after_upstream_gave_it_and_a_request_before_upstream_saw_it() {
    let upstream = MockMcp::start(ProtocolRevision::Legacy).await;
    let proxy = CuttingProxy::start(&upstream.url()).await;
    proxy.cut_after_answer("BatchExecute", 2);
    proxy.cut_before("BatchExecute", 3);
    let mut client = Client::to(&proxy).await;
    assert!(client.ask(PUT, "{}").await.is_some());
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(client.ask(PUT, "{}").await, None);
    assert_eq!(upstream.requests().len(), 2);
    let mut client = Client::to(&proxy).await;
    assert_eq!(client.ask(PUT, "{}").await, None);
    assert_eq!(upstream.requests().len(), 2);
    let mut client = Client::to(&proxy).await;
    assert!(client.ask(PUT, "{}").await.is_some());
    assert_eq!((proxy.count("BatchExecute"), proxy.count("SQS"), proxy.cuts()), (4, 0, 2));
}

#[tokio::test]
async fn a_rule_counts_only_the_bodies_it_is_about_and_strikes_as_often_as_it_is_told() {
    let upstream = MockMcp::start(ProtocolRevision::Legacy).await;
    let proxy = CuttingProxy::start(&upstream.url()).await;
    proxy.cut(Rule::new(Cut::BeforeRequest, PUT, 2).with_body("\"calls\"").times(2));
    let mut answered = Vec::new();
    for body in ["x", "\"calls\"", "x", "\"calls\"", "\"calls\"", "\"calls\""] {
        answered.push(Client::to(&proxy).await.ask(PUT, body).await.is_some());
    }
    assert_eq!(answered, [true, true, true, false, false, true]);
    proxy.cut_made(2).await;
}

#[tokio::test]
async fn many_requests_travel_over_one_kept_connection() {
    let upstream = MockMcp::start(ProtocolRevision::Legacy).await;
    let proxy = CuttingProxy::start(&upstream.url()).await;
    let mut client = Client::to(&proxy).await;
    for _ in 0..20 {
        assert_eq!(client.ask("AmazonSQS.SendMessage", "{}").await.as_deref(), Some("400"));
    }
    assert_eq!(upstream.requests().len(), 20);
}
