//! The agent of an ECS task: it is asked to protect the task, or not to protect it any more.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

/// How long the protection lasts that was asked for last.
const MINUTES: u32 = 15;
/// How long the agent may take to answer.
const TIME_OUT: Duration = Duration::from_secs(5);

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
