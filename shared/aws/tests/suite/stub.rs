//! A scripted AWS endpoint for what no emulator does: throttles, refusals of a whole request, rows left out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use toolfleet_aws::{Aws, AwsOptions};

type Script = dyn Fn(usize, &Value) -> (u16, Value) + Send + Sync;

/// One request, its headers in small letters.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) raw: Vec<u8>,
}

/// The endpoint and what it was asked.
pub(crate) struct Stub {
    pub(crate) aws: Aws,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Stub {
    /// Answers request number n (from 0) with the status and body that `script` gives.
    pub(crate) async fn start(
        script: impl Fn(usize, &Value) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, script): (_, Arc<Script>) = (asked.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, script.clone(), seen.clone()));
            }
        });
        let aws = Aws::connect(AwsOptions {
            region: Some("us-east-1".into()),
            sqs_endpoint: Some(url.clone()),
            dynamodb_endpoint: Some(url.clone()),
            secrets_endpoint: Some(url),
            s3_endpoint: None,
            static_credentials: Some(("AKIATEST".into(), "very-secret".into())),
            ..AwsOptions::default()
        })
        .await;
        Self { aws, asked }
    }

    /// Drops the connection to AWS and waits until no socket is left.
    pub(crate) async fn all_closed(self) {
        let Self { aws, asked } = self;
        // The listener has one, each socket another.
        assert!(Arc::strong_count(&asked) > 2, "nothing was open");
        drop(aws);
        let closed = async {
            while Arc::strong_count(&asked) > 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), closed).await.expect("the sockets are closed");
    }

    /// The bodies of the requests so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.requests().into_iter().map(|asked| asked.body).collect()
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics while it holds this").clone()
    }
}

async fn serve(socket: TcpStream, script: Arc<Script>, asked: Arc<Mutex<Vec<Asked>>>) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok());
        let mut raw = vec![0; length.unwrap_or(0)];
        socket.read_exact(&mut raw).await?;
        let body: Value = serde_json::from_slice(&raw).unwrap_or_default();
        let number = {
            let mut asked = asked.lock().expect("no test panics while it holds this");
            asked.push(Asked { headers, body: body.clone(), raw });
            asked.len() - 1
        };
        let (status, answer) = script(number, &body);
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        socket.write_all(head.as_bytes()).await?;
        socket.write_all(answer.as_bytes()).await?;
    }
}
