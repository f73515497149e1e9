//! An HTTP interface for tests: it says what it received, and can run an operation and then fail.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::http1::{Kind, Message, read};

/// What happens to a request instead of the echo.
#[derive(Debug, Clone)]
pub enum EchoFault {
    /// This answer. `runs` says whether the operation runs before it.
    Answer {
        /// The status.
        status: u16,
        /// Header names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
        /// Whether the operation runs.
        runs: bool,
    },
    /// The connection ends, and nothing runs.
    Close,
    /// The operation runs, and the connection ends in the middle of the answer.
    RunAndCut,
    /// The operation runs, and nothing is ever answered.
    RunAndNeverAnswer,
}

impl EchoFault {
    /// A status with one header and a body; the operation runs where `runs` is true.
    pub fn status(status: u16, (name, value): (&str, &str), body: &str, runs: bool) -> Self {
        let headers = vec![(name.to_owned(), value.to_owned())];
        Self::Answer { status, headers, body: body.as_bytes().to_vec(), runs }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct EchoRequest {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header names as they arrived, and values.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// Whether its operation ran.
    pub ran: bool,
}

impl EchoRequest {
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
struct State {
    faults: VecDeque<EchoFault>,
    requests: Vec<EchoRequest>,
}

/// The interface. It ends when it is dropped.
#[derive(Debug)]
pub struct EchoHttp {
    url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl EchoHttp {
    /// Listens on a free port.
    #[expect(clippy::expect_used, reason = "a test double may panic")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it has an address"));
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    let _ = serve(stream, &state).await;
                });
            }
        });
        Self { url, state, task }
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What happens to the next request, after those that were queued before.
    pub fn next(&self, fault: EchoFault) {
        lock(&self.state).faults.push_back(fault);
    }

    /// All requests so far, in order.
    pub fn requests(&self) -> Vec<EchoRequest> {
        lock(&self.state).requests.clone()
    }
}

impl Drop for EchoHttp {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    // Head and body are two writes; without it the second waits for the client's acknowledgement.
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(message) = read(&mut stream, Kind::Request).await? {
        let fault = note(&message, state);
        match fault {
            None => write(&mut stream, 200, &[], echo(&message).to_string().as_bytes()).await?,
            Some(EchoFault::Answer { status, headers, body, .. }) => {
                write(&mut stream, status, &headers, &body).await?
            }
            Some(EchoFault::Close) => return Ok(()),
            Some(EchoFault::RunAndCut) => {
                stream
                    .write_all(
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
                    )
                    .await?;
                return stream.flush().await;
            }
            Some(EchoFault::RunAndNeverAnswer) => return std::future::pending().await,
        }
    }
    Ok(())
}

/// Records the request, and takes its fault.
fn note(message: &Message, state: &Mutex<State>) -> Option<EchoFault> {
    let mut state = lock(state);
    let fault = state.faults.pop_front();
    let ran = match &fault {
        None | Some(EchoFault::RunAndCut | EchoFault::RunAndNeverAnswer) => true,
        Some(EchoFault::Answer { runs, .. }) => *runs,
        Some(EchoFault::Close) => false,
    };
    state.requests.push(EchoRequest {
        method: message.word(0).to_owned(),
        target: message.word(1).to_owned(),
        headers: message.headers.clone(),
        body: message.body.clone(),
        ran,
    });
    fault
}

fn echo(message: &Message) -> Value {
    json!({
        "method": message.word(0),
        "target": message.word(1),
        "contentType": message.header("content-type"),
        "authorization": message.header("authorization"),
        "body": String::from_utf8_lossy(&message.body),
    })
}

async fn write(
    stream: &mut BufReader<TcpStream>,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status} Any\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        head.push_str("content-type: application/json\r\n");
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}
