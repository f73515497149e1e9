//! A scripted runtime API of AWS Lambda: hands out invocations, takes their answers.
//!
//! It speaks the paths of version 2018-06-01 that a runtime needs: next, response, error, init error. As Lambda does, it hands out one
//! invocation for each poll and gives an invocation that was not answered to nobody else.
//!
//! **Invariant:** an invocation is answered once; a second answer to it is refused as Lambda refuses it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::accept::accept;
use crate::http1::{self, Kind, Message};

const BASE: &str = "/2018-06-01/runtime/";

/// What goes wrong at one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeFault {
    /// The next poll is answered with status 500.
    PollFails,
    /// The next answer arrives and is refused with status 500, as one that comes after the function's time-out: it does not count.
    AnswerLost,
}

/// How an invocation was answered.
#[derive(Debug, Clone, PartialEq)]
pub enum RuntimeAnswer {
    /// With that response.
    Response(Value),
    /// As failed, with that error.
    Error(Value),
    /// The answer was lost.
    Lost(Value),
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<(String, i64, Value)>,
    taken: Vec<String>,
    answers: BTreeMap<String, RuntimeAnswer>,
    faults: VecDeque<RuntimeFault>,
    start_errors: Vec<Value>,
    polls: usize,
    number: u32,
}

#[derive(Debug, Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Notify,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `found` finds something.
    async fn until<T>(&self, found: impl Fn(&Inner) -> Option<T>) -> T {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(found) = found(&self.lock()) {
                return found;
            }
            changed.await;
        }
    }

    fn take_fault(&self, fault: RuntimeFault) -> bool {
        let mut inner = self.lock();
        let meets = inner.faults.front() == Some(&fault);
        if meets {
            inner.faults.pop_front();
        }
        meets
    }
}

/// A scripted runtime API on 127.0.0.1. Dropping it stops it.
#[derive(Debug)]
pub struct MockRuntimeApi {
    state: Arc<State>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl MockRuntimeApi {
    /// Starts it.
    #[expect(clippy::expect_used, reason = "a test without its endpoint cannot go on")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of this machine");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let state = Arc::new(State::default());
        let serves = Arc::clone(&state);
        let accepting = tokio::spawn(accept(listener, move |stream| serve(stream, Arc::clone(&serves))));
        Self { state, port, accepting }
    }

    /// Its address, as `AWS_LAMBDA_RUNTIME_API` names it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The next poll gets this event, with that deadline in milliseconds. Returns the invocation's id.
    pub fn invoke(&self, event: Value, deadline_ms: i64) -> String {
        let id = {
            let mut inner = self.state.lock();
            inner.number += 1;
            let id = format!("invocation-{}", inner.number);
            inner.waiting.push_back((id.clone(), deadline_ms, event));
            id
        };
        self.state.changed.notify_waiters();
        id
    }

    /// The next request of that kind meets this fault.
    pub fn next(&self, fault: RuntimeFault) {
        self.state.lock().faults.push_back(fault);
    }

    /// Returns how that invocation was answered, once it was.
    pub async fn answer(&self, id: &str) -> RuntimeAnswer {
        self.state.until(|inner| inner.answers.get(id).cloned()).await
    }

    /// Returns once that invocation was handed out.
    pub async fn taken(&self, id: &str) {
        self.state.until(|inner| inner.taken.iter().any(|taken| taken == id).then_some(())).await;
    }

    /// Whether that invocation was answered.
    pub fn is_answered(&self, id: &str) -> bool {
        self.state.lock().answers.contains_key(id)
    }

    /// Returns once so many polls wait for an invocation.
    pub async fn polls(&self, count: usize) {
        self.state.until(|inner| (inner.polls == count).then_some(())).await;
    }

    /// Returns the error of a runtime that could not start.
    pub async fn start_error(&self) -> Value {
        self.state.until(|inner| inner.start_errors.first().cloned()).await
    }
}

impl Drop for MockRuntimeApi {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Counts a poll while it waits.
struct Poll<'a>(&'a State);

impl<'a> Poll<'a> {
    fn begin(state: &'a State) -> Self {
        state.lock().polls += 1;
        state.changed.notify_waiters();
        Self(state)
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        self.0.lock().polls -= 1;
        self.0.changed.notify_waiters();
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while let Ok(Some(message)) = http1::read(&mut reader, Kind::Request).await {
        let path = message.word(1).strip_prefix(BASE).unwrap_or_default().to_owned();
        let answered = if path == "invocation/next" {
            tokio::select! {
                answered = next(&mut writer, &state) => answered,
                // A runtime that has gone polls no more.
                _ = http1::read(&mut reader, Kind::Request) => return,
            }
        } else {
            taken(&message, &path, &mut writer, &state).await
        };
        if answered.is_err() {
            return;
        }
    }
}

/// Answers a poll with the next invocation, when there is one.
async fn next(writer: &mut OwnedWriteHalf, state: &State) -> io::Result<()> {
    if state.take_fault(RuntimeFault::PollFails) {
        return write(writer, 500, &[], "{}").await;
    }
    let poll = Poll::begin(state);
    let (id, deadline, event) = loop {
        state.until(|inner| (!inner.waiting.is_empty()).then_some(())).await;
        // Another poll may have been faster.
        if let Some(next) = state.lock().waiting.pop_front() {
            break next;
        }
    };
    drop(poll);
    state.lock().taken.push(id.clone());
    state.changed.notify_waiters();
    let deadline = deadline.to_string();
    let headers = [("Lambda-Runtime-Aws-Request-Id", id.as_str()), ("Lambda-Runtime-Deadline-Ms", &deadline)];
    write(writer, 200, &headers, &event.to_string()).await
}

/// Takes an answer.
async fn taken(message: &Message, path: &str, writer: &mut OwnedWriteHalf, state: &State) -> io::Result<()> {
    let body: Value = serde_json::from_slice(&message.body).unwrap_or(Value::Null);
    let parts: Vec<_> = path.split('/').collect();
    let status = match parts.as_slice() {
        ["init", "error"] => {
            state.lock().start_errors.push(body);
            202
        }
        ["invocation", id, kind @ ("response" | "error")] => {
            let lost = state.take_fault(RuntimeFault::AnswerLost);
            let mut inner = state.lock();
            let is_open = inner.taken.iter().any(|taken| taken == id) && !inner.answers.contains_key(*id);
            let answer = match (lost, *kind) {
                (true, _) => RuntimeAnswer::Lost(body),
                (false, "response") => RuntimeAnswer::Response(body),
                (false, _) => RuntimeAnswer::Error(body),
            };
            if is_open {
                inner.answers.insert((*id).to_owned(), answer);
            }
            match (is_open, lost) {
                (true, false) => 202,
                (true, true) => 500,
                (false, _) => 400,
            }
        }
        _ => 404,
    };
    state.changed.notify_waiters();
    write(writer, status, &[], "{}").await
}

async fn write(
    writer: &mut OwnedWriteHalf,
    status: u16,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<()> {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    writer.write_all(text.as_bytes()).await
}
