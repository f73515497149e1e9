use serde_json::{Value, json};
use tokio::io::{self, AsyncWriteExt as _};
use toolfleet_mcp_protocol::header;

use super::super::ledger::Fate;
use super::*;
use crate::proxy::Side;

async fn post(side: &mut Side, body: &Value) -> Option<(Head, Vec<u8>)> {
    let body = body.to_string();
    let text =
        format!("POST /mcp HTTP/1.1\r\n{WORKER_HEADER}: w\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    side.write_all(text.as_bytes()).await.unwrap();
    let head = Head::read(side).await.ok()??;
    let body = read_body(side, head.length.unwrap()).await.ok()?;
    Some((head, body))
}

async fn connect(servers: &Servers, server: Server) -> Side {
    let address = servers.url(server).trim_start_matches("http://").trim_end_matches("/mcp");
    BufReader::new(TcpStream::connect(address).await.unwrap())
}

fn called(call: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {"call": call}}})
}

#[tokio::test]
async fn every_request_is_in_the_ledger_with_what_became_of_it() {
    let servers = Servers::start(1).await.unwrap();
    for n in 0..60 {
        let mut side = connect(&servers, Server::Resetting).await;
        let call = format!("c-{n}");
        let answered = post(&mut side, &called(&call)).await.is_some();
        let request = servers.ledger().requests().pop().unwrap();
        // Its trace does not name it, as in a redrive.
        assert_eq!((request.call, request.worker), (format!("{call}.r2"), "w".to_owned()));
        let expected = if answered { Fate::Answered } else { Fate::Reset };
        // The client may read the answer before the server has entered that it was written.
        assert!(request.fate == expected || (answered && request.fate == Fate::Open), "{:?}", request.fate);
    }
    let requests = servers.ledger().requests();
    assert!(requests.iter().any(|request| request.fate == Fate::Reset && request.ran));
    assert!(requests.iter().any(|request| request.fate == Fate::Reset && !request.ran));
}

#[tokio::test]
async fn a_dead_server_refuses_connections() {
    let servers = Servers::start(1).await.unwrap();
    let address = servers.url(Server::Dead).trim_start_matches("http://").trim_end_matches("/mcp");
    let error = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_lost_session_refuses_a_call_that_does_not_run() {
    let servers = Servers::start(1).await.unwrap();
    let mut side = connect(&servers, Server::Forgetful).await;
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}});
    let (head, _) = post(&mut side, &hello).await.unwrap();
    assert_eq!(head.header(header::SESSION_ID), Some("session-1"));
    servers.lose_sessions();
    let body = called("c").to_string();
    let text = format!(
        "POST /mcp HTTP/1.1\r\nmcp-session-id: session-1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    side.write_all(text.as_bytes()).await.unwrap();
    let head = Head::read(&mut side).await.unwrap().unwrap();
    assert!(head.text.starts_with("HTTP/1.1 404"));
    let request = servers.ledger().requests().pop().unwrap();
    // It was opened just now, perhaps for this call: then the answer proves nothing.
    assert_eq!((request.ran, request.fate), (false, Fate::Unclear));
    assert_eq!(servers.lost_answers(), 1);
}
