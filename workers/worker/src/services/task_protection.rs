//! Keeps the worker's ECS task from scale-in and deployments while it has calls that take long: ECS stops a task within two minutes, and a call
//! that needs more would be cut. The task's agent is asked; the protection ends by itself if the worker dies.
//!
//! **Invariant:** a task is protected only while such a call runs, or for a quarter of an hour after its worker was lost.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use url::Url;

use super::Service;
use crate::context::WorkerContext;
use crate::shutdown::Shutdown;

/// How long the protection lasts that was asked for last.
const MINUTES: u32 = 15;
/// It is asked for anew when so much of it is over.
const RENEW_AFTER: Duration = Duration::from_secs(5 * 60);
/// How often the calls are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// How long the agent may take to answer.
const TIME_OUT: Duration = Duration::from_secs(5);

/// The service that protects the task.
pub struct TaskProtection {
    context: Arc<WorkerContext>,
    agent: Url,
    state: Mutex<State>,
}

/// What the agent was told last.
#[derive(Debug, Default)]
struct State {
    protected: Option<Instant>,
    failing: bool,
}

impl TaskProtection {
    /// Protects the task of that agent, `ECS_AGENT_URI`.
    pub fn new(context: Arc<WorkerContext>, agent: Url) -> Self {
        Self { context, agent, state: Mutex::default() }
    }

    /// Asks for what the calls under way need, unless that holds already.
    pub async fn look(&self) {
        let mut state = self.state.lock().await;
        let wanted = self.context.activity.long_calls() > 0;
        let fresh = state.protected.is_some_and(|since| since.elapsed() < RENEW_AFTER);
        if wanted == state.protected.is_some() && (!wanted || fresh) {
            return;
        }
        match protect(&self.agent, wanted).await {
            Ok(()) => {
                state.protected = wanted.then(Instant::now);
                state.failing = false;
            }
            Err(error) if !state.failing => {
                state.failing = true;
                tracing::error!(
                    error,
                    code = "protection_failed",
                    "the ECS task cannot be protected from scale-in; calls that take longer than a drain may be cut"
                );
            }
            Err(_) => {}
        }
    }
}

impl Service for TaskProtection {
    fn name(&self) -> &'static str {
        "task protection"
    }

    /// Never returns: a worker that drains still has calls.
    async fn run(&self, _: &Shutdown) {
        loop {
            self.look().await;
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

/// Tells the agent whether the task is protected.
///
/// # Errors
/// What the agent answered, or why it did not.
pub async fn protect(agent: &Url, protected: bool) -> Result<(), String> {
    let answer = timeout(TIME_OUT, put(agent, protected)).await;
    let answer = answer.map_err(|_| format!("{agent} did not answer within {} s", TIME_OUT.as_secs()))?;
    let answer = answer.map_err(|error| format!("{agent} does not answer: {error}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    let is_protection = |body: &Value| body.get("protection").is_some_and(Value::is_object);
    if status == "200" && serde_json::from_str(body.trim()).is_ok_and(|body| is_protection(&body)) {
        return Ok(());
    }
    Err(format!("{agent} answered {status}: {}", body.chars().take(300).collect::<String>()))
}

/// The agent is on the task's own link: no proxy, no TLS, no pool.
async fn put(agent: &Url, protected: bool) -> std::io::Result<String> {
    let (host, port) = (agent.host_str().unwrap_or_default(), agent.port_or_known_default().unwrap_or(80));
    let body = match protected {
        true => json!({"ProtectionEnabled": true, "ExpiresInMinutes": MINUTES}),
        false => json!({"ProtectionEnabled": false}),
    };
    let (path, body) = (agent.path().trim_end_matches('/'), body.to_string());
    let mut stream = TcpStream::connect((host, port)).await?;
    let request = format!(
        "PUT {path}/task-protection/v1/state HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(65_536).read_to_string(&mut answer).await?;
    Ok(answer)
}
