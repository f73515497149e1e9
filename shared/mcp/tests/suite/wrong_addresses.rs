//! Addresses that refuse a POST: the old HTTP+SSE transport, and addresses without MCP.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use toolfleet_core::outcome::MayHaveRun;
use toolfleet_mcp::{Fault, ToolCall};

use crate::support::{client, endpoint, later, raw};

/// A server that gives one answer to every POST and one to every GET.
struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(post: &'static str, get: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !is_whole(&request) {
                        let mut part = [0; 4096];
                        match stream.read(&mut part).await {
                            Ok(read) if read > 0 => request.extend_from_slice(part.get(..read).unwrap()),
                            _ => return,
                        }
                    }
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let is_get = text.starts_with("GET ");
                    log.lock().unwrap().push(text);
                    stream.write_all(if is_get { get } else { post }.as_bytes()).await.unwrap();
                    // A stream stays open until the client goes.
                    if is_get {
                        let _ = stream.read(&mut [0; 16]).await;
                    }
                });
            }
        });
        Self { port, seen }
    }

    async fn call(&self, path: &str, times: usize) -> Fault {
        let (endpoint, arguments) = (endpoint(&format!("http://127.0.0.1:{}{path}", self.port)), raw("{}"));
        let client = client();
        let mut fault = None;
        for _ in 0..times {
            let call = ToolCall::new(&endpoint, "echo", &arguments, later());
            fault = Some(client.call_tool(call).await.unwrap_err());
        }
        fault.unwrap()
    }

    fn gets(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|request| request.starts_with("GET ")).cloned().collect()
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or_default()
}

const REFUSED: &str = "HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 16\r\nconnection: close\r\n\r\nCannot POST /sse";
const OLD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n: hi\r\nid: 1\r\nevent: endpoint\r\ndata: /messages?s=1\r\n\r\n";
const OTHER: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\nevent: message\ndata: {}\n\n";

#[tokio::test]
async fn the_old_transport_is_told_by_its_endpoint_event() {
    for post in [REFUSED, NOT_FOUND, BAD_REQUEST] {
        let server = Server::start(post, OLD).await;
        // Its address for messages refuses them, too.
        let fault = server.call("/sse", 1).await;
        assert_eq!(fault.may_have_run(), MayHaveRun::No, "{fault}");
        assert!(fault.to_string().contains("HTTP 40"), "{fault}");
        let gets = server.gets();
        assert_eq!(gets.len(), 2, "one to look, and one that is the stream");
        assert!(gets[0].to_ascii_lowercase().contains("accept: text/event-stream"), "{}", gets[0]);
        let posts = server
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|request| request.starts_with("POST /messages?s=1 "))
            .count();
        assert!(posts >= 1, "the message went to the address that the stream named");
    }
}

#[tokio::test]
async fn an_address_without_mcp_gets_the_usual_path_as_a_hint() {
    for (get, path, hinted) in
        [(NOT_FOUND, "/", true), (OTHER, "/api", true), (NOT_FOUND, "/mcp", false), (REFUSED, "/sse", true)]
    {
        let server = Server::start(NOT_FOUND, get).await;
        let fault = server.call(path, 1).await;
        assert!(matches!(fault, Fault::ClientStatus { status: 404, .. }), "{fault:?}");
        assert_eq!(fault.to_string().contains("often `/mcp`"), hinted, "{path}: {fault}");
        assert_eq!(fault.may_have_run(), MayHaveRun::No);
    }
}

#[tokio::test]
async fn a_refusal_that_is_mcp_is_not_looked_into() {
    let answer = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 75\r\nconnection: close\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32000,\"message\":\"not today..\"}}";
    let server = Server::start(answer, OLD).await;
    server.call("/", 1).await;
    assert!(server.gets().is_empty());
}
