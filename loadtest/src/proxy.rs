//! The counting proxy in front of an AWS endpoint: counts requests and forwards them.
//!
//! It supports the HTTP/1.1 that the SDKs use: one request at a time on a connection, bodies with a declared length.
//!
//! **Invariant:** a request is counted before it is forwarded. When one side closes its connection, the other one is closed.

use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{self, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::traffic::{Counts, with_return_capacity};

/// A proxy on 127.0.0.1. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct CountingProxy {
    pub(crate) url: String,
    _connections: JoinSet<()>,
}

impl CountingProxy {
    /// Starts a proxy in front of an endpoint such as `http://127.0.0.1:9324`.
    /// Each request takes `one_way` longer to arrive, and so does its answer.
    pub(crate) async fn start(upstream: &str, counts: Counts, one_way: Duration) -> anyhow::Result<Self> {
        let upstream = upstream.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("no free port for the counting proxy")?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut forwarding = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while forwarding.try_join_next().is_some() {}
                let (upstream, counts) = (upstream.clone(), counts.clone());
                forwarding.spawn(async move {
                    // Either side may close at any time; the other one is closed with it.
                    let _closed = forward(client, &upstream, &counts, one_way).await;
                });
            }
        });
        Ok(Self { url, _connections: connections })
    }
}

/// One side of a connection.
pub(crate) type Side = BufReader<TcpStream>;

async fn forward(client: TcpStream, upstream: &str, counts: &Counts, one_way: Duration) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    let (mut client, mut server) = (BufReader::new(client), BufReader::new(server));
    while let Some(head) = Head::read(&mut client).await? {
        let Some(length) = head.length else {
            counts.request("(not counted: a connection without lengths)", b"");
            return forward_rest(head, client, server).await;
        };
        let body = read_body(&mut client, length).await?;
        counts.request(&head.operation, &body);
        let changed = with_return_capacity(&head.operation, body);
        travel(one_way).await;
        server.write_all(&[head.with_length(changed.len()).as_bytes(), &changed].concat()).await?;

        let answer = tokio::select! {
            answer = Head::read(&mut server) => answer?,
            () = closed(&mut client) => return Ok(()),
        };
        let Some(answer) = answer else { return Ok(()) };
        let Some(length) = answer.length else {
            return forward_rest(answer, server, client).await;
        };
        let body = read_body(&mut server, length).await?;
        counts.answer(&head.operation, &changed, &body);
        if head.operation == "ReceiveMessage" {
            counts.received(&head.application, &body);
        }
        travel(one_way).await;
        client.write_all(&[answer.text.as_bytes(), &body].concat()).await?;
    }
    Ok(())
}

async fn travel(one_way: Duration) {
    if !one_way.is_zero() {
        sleep(one_way).await;
    }
}

/// Forwards a body without a declared length: it ends with its connection, and is not counted.
pub(crate) async fn forward_rest(head: Head, mut from: Side, mut to: Side) -> io::Result<()> {
    to.write_all(head.text.as_bytes()).await?;
    io::copy_bidirectional(&mut from, &mut to).await.map(|_bytes| ())
}

/// Returns when that side has closed its connection.
pub(crate) async fn closed(side: &mut Side) {
    match side.fill_buf().await {
        Ok([]) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// Reads a body of that many bytes; it is shorter if the connection ends.
pub(crate) async fn read_body(side: &mut Side, length: u64) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    side.take(length).read_to_end(&mut body).await?;
    Ok(body)
}

/// The head of a request or of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) text: String,
    pub(crate) operation: String,
    /// The application's name in the SDK's user agent (`AWS_SDK_UA_APP_ID`).
    pub(crate) application: String,
    /// The length of the body; none if it is not declared.
    pub(crate) length: Option<u64>,
}

impl Head {
    /// Reads the next head; `None` if the connection ends.
    pub(crate) async fn read(side: &mut Side) -> io::Result<Option<Self>> {
        let mut text = Vec::new();
        let mut lines = 0;
        while !(lines > 0 && text.ends_with(b"\r\n\r\n")) {
            if side.read_until(b'\n', &mut text).await? == 0 {
                return Ok(None);
            }
            lines += 1;
        }
        Ok(Some(Self::parse(&String::from_utf8_lossy(&text))))
    }

    /// The value of that header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.text, name)
    }

    fn parse(text: &str) -> Self {
        let header = |name: &str| header(text, name);
        let operation = header("x-amz-target").and_then(|target| target.rsplit('.').next());
        let length = match header("transfer-encoding") {
            Some(_) => None,
            None => header("content-length").map_or(Some(0), |length| length.parse().ok()),
        };
        let agent = header("x-amz-user-agent").or_else(|| header("user-agent")).unwrap_or_default();
        let application = agent.split(' ').find_map(|part| part.strip_prefix("app/")).unwrap_or_default();
        Self {
            operation: operation.unwrap_or("(no operation)").to_owned(),
            application: application.to_owned(),
            length,
            text: text.to_owned(),
        }
    }

    /// The same head before a body of that length.
    pub(crate) fn with_length(&self, length: usize) -> String {
        let lines = self.text.lines().map(|line| match line.split_once(':') {
            Some((name, _)) if name.eq_ignore_ascii_case("content-length") => format!("{name}: {length}\r\n"),
            Some(_) | None => format!("{line}\r\n"),
        });
        lines.collect()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_names_its_operation_and_its_length() {
        let text = "POST / HTTP/1.1\r\nX-Amz-Target: DynamoDB_20120810.GetItem\r\nContent-Length: 7\r\n\r\n";
        let head = Head::parse(text);
        assert_eq!((head.operation.as_str(), head.length), ("GetItem", Some(7)));
        assert_eq!(head.with_length(7), text);
        assert!(head.with_length(40).contains("Content-Length: 40\r\n"));
        assert_eq!(head.application, "");
        let chunked = Head::parse(
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nx-amz-user-agent: aws-sdk-rust/1 app/load-3 os/linux\r\n\r\n",
        );
        assert_eq!(chunked.application, "load-3");
        assert_eq!(chunked.length, None);
    }

    #[tokio::test]
    async fn requests_on_one_connection_are_forwarded_and_counted() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let counts = Counts::default();
        let url = format!("http://{}", upstream.local_addr().unwrap());
        let proxy = CountingProxy::start(&url, counts.clone(), Duration::ZERO).await.unwrap();
        let mut client = TcpStream::connect(proxy.url.trim_start_matches("http://")).await.unwrap();
        let request =
            b"POST / HTTP/1.1\r\nx-amz-target: A.DeleteMessageBatch\r\ncontent-length: 8\r\n\r\n{\"Id\":1}";
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        client.write_all(request).await.unwrap();
        let (mut server, _) = upstream.accept().await.unwrap();
        for round in 1..=3 {
            let mut arrived = vec![0; request.len()];
            server.read_exact(&mut arrived).await.unwrap();
            assert_eq!(arrived, request);
            server.write_all(answer).await.unwrap();
            let mut back = vec![0; answer.len()];
            client.read_exact(&mut back).await.unwrap();
            assert_eq!(back, answer);
            if round < 3 {
                client.write_all(request).await.unwrap();
            }
        }
        let count = counts.now().operations.get("DeleteMessageBatch").copied().unwrap();
        assert_eq!((count.requests, count.entries), (3, 3));
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_closes_the_upstream_connection() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", upstream.local_addr().unwrap());
        let proxy = CountingProxy::start(&url, Counts::default(), Duration::ZERO).await.unwrap();
        let mut client = TcpStream::connect(proxy.url.trim_start_matches("http://")).await.unwrap();
        client.write_all(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        let (mut server, _) = upstream.accept().await.unwrap();
        let mut byte = [0; 1];
        server.read_exact(&mut byte).await.unwrap();
        drop(client);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"\r\n\r\n"));
    }
}
