//! A scripted endpoint of AWS Lambda and STS: tests register functions, queue faults, and read what was invoked and what ran.
//!
//! It speaks Invoke (`POST /2015-03-31/functions/{name}/invocations`) and AssumeRole, over HTTP without TLS, and checks no signature.
//!
//! **Invariant:** an execution is counted where the function's closure runs and nowhere else, so a counter is exact whatever happens to
//! the answer.

mod answer;
mod connection;
mod script;
mod state;

use std::sync::Arc;

use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use script::{LambdaFault, LambdaInvocation};
use state::State;

use crate::accept::accept;

/// A scripted endpoint on 127.0.0.1. Dropping it stops it.
#[derive(Debug)]
pub struct MockLambda {
    state: Arc<State>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl MockLambda {
    /// Starts it.
    #[expect(clippy::expect_used, reason = "a test without its endpoint cannot go on")]
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port of this machine");
        let port = listener.local_addr().expect("the address of a bound socket").port();
        let state = Arc::new(State::default());
        let serves = Arc::clone(&state);
        let serve = move |stream| connection::serve(stream, Arc::clone(&serves));
        let accepting = tokio::spawn(accept(listener, serve));
        Self { state, port, accepting }
    }

    /// Its address, for Lambda and STS.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Registers a function: what it answers to an invocation.
    pub fn function(&self, name: &str, answer: impl Fn(&LambdaInvocation) -> Value + Send + Sync + 'static) {
        self.state.lock().functions.insert(name.to_owned(), Arc::new(answer));
    }

    /// The next invocation meets this fault.
    pub fn next(&self, fault: LambdaFault) {
        self.state.lock().faults.push_back(fault);
    }

    /// Every invocation meets this fault, once the queued ones are used up.
    pub fn always(&self, fault: LambdaFault) {
        self.state.lock().always = Some(fault);
    }

    /// Ends all faults.
    pub fn behave(&self) {
        let mut inner = self.state.lock();
        inner.faults.clear();
        inner.always = None;
        inner.refuses_roles = false;
    }

    /// STS refuses every role from now on.
    pub fn refuse_roles(&self) {
        self.state.lock().refuses_roles = true;
    }

    /// The invocations that arrived, faults included.
    pub fn invocations(&self) -> Vec<LambdaInvocation> {
        self.state.lock().invocations.clone()
    }

    /// How often a function ran.
    pub fn executions(&self, function: &str) -> u64 {
        self.state.lock().executions.get(function).copied().unwrap_or_default()
    }

    /// The roles that were assumed, each with the external id that was given.
    pub fn assumed(&self) -> Vec<(String, Option<String>)> {
        self.state.lock().assumed.clone()
    }

    /// Returns when so many invocations have arrived.
    pub async fn arrived(&self, count: usize) {
        loop {
            let arrival = self.state.arrival.notified();
            if self.state.lock().invocations.len() >= count {
                return;
            }
            arrival.await;
        }
    }
}

impl Drop for MockLambda {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
