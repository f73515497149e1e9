//! A scripted AWS endpoint for what no emulator does: throttles, refusals of a whole request, rows left out.

use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use toolfleet_aws::{Aws, AwsOptions};

type Script = dyn Fn(usize, &Value) -> (u16, Value) + Send + Sync;

/// The endpoint and what it was asked.
pub(crate) struct Stub {
    pub(crate) aws: Aws,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Stub {
    /// Answers request number n (from 0) with the status and body that `script` gives.
    pub(crate) async fn start(
        script: impl Fn(usize, &Value) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
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

    /// What it was asked so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().expect("no test panics while it holds this").clone()
    }
}

async fn serve(socket: TcpStream, script: Arc<Script>, asked: Arc<Mutex<Vec<Value>>>) -> std::io::Result<()> {
    let mut socket = BufReader::new(socket);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if socket.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap_or(0);
            }
        }
        let mut body = vec![0; length];
        socket.read_exact(&mut body).await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let number = {
            let mut asked = asked.lock().expect("no test panics while it holds this");
            asked.push(body.clone());
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
