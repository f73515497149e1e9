//! Owns the counting of requests: a proxy before an AWS endpoint that reads what passes and changes nothing of it.
//!
//! Only the requests are read; the answers are handed through as they come.
//!
//! **Invariant:** a request is counted before it is handed on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::io::{self, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How often an operation was asked for, and for how many entries (statements, receipts, messages) in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Entries of batches; one for a request that is no batch.
    pub entries: u64,
}

/// The counts by operation, shared by the proxies of a run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(Arc<Mutex<BTreeMap<String, Count>>>);

impl Counts {
    pub(crate) fn now(&self) -> BTreeMap<String, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins anew: what was asked for before the load is not the load's.
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn add(&self, operation: &str, entries: u64) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(operation.to_owned()).or_default();
        count.requests += 1;
        count.entries += entries;
    }
}

/// A proxy on 127.0.0.1. It ends when dropped.
#[derive(Debug)]
pub(crate) struct CountingProxy {
    pub(crate) url: String,
    _connections: JoinSet<()>,
}

impl CountingProxy {
    /// Starts one before an endpoint such as `http://127.0.0.1:9324`.
    pub(crate) async fn start(upstream: &str, counts: Counts) -> anyhow::Result<Self> {
        let upstream = upstream.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener =
            TcpListener::bind("127.0.0.1:0").await.context("no free port for the counting proxy")?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut connections = JoinSet::new();
        connections.spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while carried.try_join_next().is_some() {}
                let (upstream, counts) = (upstream.clone(), counts.clone());
                carried.spawn(async move {
                    // Either side may close at any time; the other one is closed with it.
                    let _closed = carry(client, &upstream, &counts).await;
                });
            }
        });
        Ok(Self { url, _connections: connections })
    }
}

async fn carry(client: TcpStream, upstream: &str, counts: &Counts) -> io::Result<()> {
    client.set_nodelay(true)?;
    let server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    let (asking, mut asked) = client.into_split();
    let (mut answering, answered) = server.into_split();
    tokio::select! {
        ended = hand_on(BufReader::new(asking), answered, counts) => ended,
        ended = io::copy(&mut answering, &mut asked) => ended.map(|_bytes| ()),
    }
}

async fn hand_on(
    mut from: BufReader<OwnedReadHalf>,
    mut to: OwnedWriteHalf,
    counts: &Counts,
) -> io::Result<()> {
    loop {
        let mut request = Vec::new();
        let mut lines = 0;
        while !(lines > 0 && request.ends_with(b"\r\n\r\n")) {
            if from.read_until(b'\n', &mut request).await? == 0 {
                return Ok(());
            }
            lines += 1;
        }
        let head = Head::parse(&String::from_utf8_lossy(&request));
        let Some(length) = head.length else {
            // Its end is not known from here, nor that of the requests behind it: handed on uncounted.
            counts.add("(not counted: a connection without lengths)", 0);
            to.write_all(&request).await?;
            return io::copy_buf(&mut from, &mut to).await.map(|_bytes| ());
        };
        let body_at = request.len();
        (&mut from).take(length).read_to_end(&mut request).await?;
        counts.add(&head.operation, entries(&head.operation, request.get(body_at..).unwrap_or_default()));
        to.write_all(&request).await?;
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    operation: String,
    length: Option<u64>,
}

impl Head {
    fn parse(text: &str) -> Self {
        let header = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(':'));
            lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
        };
        let operation = header("x-amz-target").and_then(|target| target.rsplit('.').next());
        let length = match header("transfer-encoding") {
            Some(_) => None,
            None => header("content-length").map_or(Some(0), |length| length.parse().ok()),
        };
        Self { operation: operation.unwrap_or("(no operation)").to_owned(), length }
    }
}

/// Entries of a batch; a quotation mark within a text is escaped, so a name with its marks is a member's name.
fn entries(operation: &str, body: &[u8]) -> u64 {
    let member: &[u8] = match operation {
        "BatchExecuteStatement" => b"\"Statement\":",
        batch if batch.ends_with("Batch") => b"\"Id\":",
        _ => return 1,
    };
    let found = body.windows(member.len()).filter(|window| *window == member).count();
    u64::try_from(found).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_names_its_operation_and_its_length() {
        let head = Head::parse(
            "POST / HTTP/1.1\r\nX-Amz-Target: DynamoDB_20120810.GetItem\r\nContent-Length: 7\r\n\r\n",
        );
        assert_eq!(head, Head { operation: "GetItem".into(), length: Some(7) });
        let chunked = Head::parse("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(chunked.length, None);
    }

    #[test]
    fn entries_are_counted_in_batches_alone_and_never_within_texts() {
        let deletes = br#"{"Entries":[{"Id":"0","ReceiptHandle":"\"Id\":"},{"Id":"1"}]}"#;
        assert_eq!(entries("DeleteMessageBatch", deletes), 2);
        assert_eq!(entries("BatchExecuteStatement", br#"{"Statements":[{"Statement":"x"}]}"#), 1);
        assert_eq!(entries("ReceiveMessage", br#"{"Id":"0","Id":"1"}"#), 1);
    }

    #[tokio::test]
    async fn requests_on_one_connection_arrive_unchanged_and_counted() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let counts = Counts::default();
        let url = format!("http://{}", upstream.local_addr().unwrap());
        let proxy = CountingProxy::start(&url, counts.clone()).await.unwrap();
        let sent = b"POST / HTTP/1.1\r\nx-amz-target: A.GetItem\r\ncontent-length: 2\r\n\r\n{}".repeat(3);
        let mut client = TcpStream::connect(proxy.url.trim_start_matches("http://")).await.unwrap();
        client.write_all(&sent).await.unwrap();
        let (mut server, _) = upstream.accept().await.unwrap();
        let mut arrived = vec![0; sent.len()];
        server.read_exact(&mut arrived).await.unwrap();
        assert_eq!(arrived, sent);
        server.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        assert_eq!(counts.now().get("GetItem"), Some(&Count { requests: 3, entries: 3 }));
    }
}
