//! Connections of the scripted Lambda endpoint: reads requests, runs functions, writes answers.

use std::io;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use super::answer::{self, Answer};
use super::script::{LambdaFault, LambdaInvocation};
use super::state::State;
use crate::http1::{self, Kind, Message};

pub(super) async fn serve(stream: TcpStream, state: Arc<State>) {
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while let Ok(Some(message)) = http1::read(&mut reader, Kind::Request).await {
        if !matches!(answered(&message, &mut writer, &state).await, Ok(true)) {
            return;
        }
    }
}

/// Answers one request; false ends the connection.
async fn answered(message: &Message, writer: &mut OwnedWriteHalf, state: &State) -> io::Result<bool> {
    let answer = match invocation(message) {
        None => answer::of_sts(&String::from_utf8_lossy(&message.body), state),
        Some(invocation) => {
            let fault = {
                let mut inner = state.lock();
                inner.invocations.push(invocation.clone());
                inner.faults.pop_front().or_else(|| inner.always.clone())
            };
            state.arrival.notify_waiters();
            match fault {
                Some(fault) => return faulty(&fault, &invocation, writer, state).await,
                None => answer::of_function(&invocation, state),
            }
        }
    };
    writer.write_all(&answer.bytes()).await?;
    Ok(true)
}

async fn faulty(
    fault: &LambdaFault,
    invocation: &LambdaInvocation,
    writer: &mut OwnedWriteHalf,
    state: &State,
) -> io::Result<bool> {
    let ran = fault.runs().then(|| answer::of_function(invocation, state));
    let answer = match fault {
        LambdaFault::Service { status, code, retry_after } => Answer::error(*status, code, *retry_after),
        LambdaFault::RunThenService { status, code } => Answer::error(*status, code, None),
        LambdaFault::RunThenClose => return Ok(false),
        LambdaFault::RunThenCut => {
            let bytes = ran.map(|answer| answer.bytes()).unwrap_or_default();
            writer.write_all(bytes.get(..bytes.len() - 1).unwrap_or_default()).await?;
            return Ok(false);
        }
        LambdaFault::RunThenHold => std::future::pending().await,
        LambdaFault::RunThenError { kind, body } => Answer::function_error(kind, body),
        LambdaFault::Error { body } => Answer::function_error("Unhandled", body),
        LambdaFault::RunThenAnswer(body) => Answer::ok(body),
    };
    writer.write_all(&answer.bytes()).await?;
    Ok(true)
}

/// The invocation that a request is; none where it is not one.
fn invocation(message: &Message) -> Option<LambdaInvocation> {
    let path = message.word(1).split('?').next().unwrap_or_default();
    let name = path.strip_prefix("/2015-03-31/functions/")?.strip_suffix("/invocations")?;
    let name = name.replace("%3A", ":").replace("%24", "$");
    let mut parts = name.split(':').skip(6);
    let context = message.header("x-amz-client-context").and_then(answer::from_base64).unwrap_or_default();
    // Credential=KEY/DATE/REGION/lambda/aws4_request
    let scope = message.header("authorization").and_then(|header| header.split("Credential=").nth(1));
    let mut scope = scope.unwrap_or_default().split('/');
    Some(LambdaInvocation {
        function: parts.next()?.to_owned(),
        qualifier: parts.next().map(str::to_owned),
        event: serde_json::from_slice(&message.body).unwrap_or(Value::Null),
        client_context: serde_json::from_slice(&context).unwrap_or(Value::Null),
        durable_name: message.header("x-amz-durable-execution-name").map(str::to_owned),
        access_key: scope.next().unwrap_or_default().to_owned(),
        region: scope.nth(1).unwrap_or_default().to_owned(),
        dry_run: message.header("x-amz-invocation-type") == Some("DryRun"),
    })
}
