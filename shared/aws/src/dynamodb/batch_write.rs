//! Group commit: the writes of concurrent calls share BatchExecuteStatement requests of up to 25 statements, each with its own
//! condition and its own result.
//!
//! A statement's error is inside an HTTP 200, so the SDK does not retry it. A throttled statement is sent again by its own caller:
//! the other callers of its batch have their results and do not wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::BatchStatementErrorCodeEnum as Code;

use super::statement::{Statement, Written};
use super::wire::{self, Answer, Response};
use crate::batch::{Batcher, Rules, RunQueue, SendPart, send_or_split};
use crate::direct::Clients;
use crate::error::AwsError;
use crate::retry_pause::retry_pause;
use crate::usage::Units;

/// The service's limits of one request, and how long a statement waits for others while the runtime lags.
const RULES: Rules = Rules {
    max_items: 25,
    max_bytes: 4 * 1024 * 1024,
    linger: Duration::from_micros(1_500),
    max_in_flight: 32,
    // A service on the worker's machine takes milliseconds for 25 records, in which calls wait for it.
    idle_items: 4,
};
/// How often a throttled statement is sent before its caller gets an error.
const MAX_TRIES: u32 = 6;

type WriteResult = Result<Written, AwsError>;

/// The service's reply to one statement of a request.
enum Reply {
    Written(Written),
    /// Throttled or failed inside the service; the code.
    Retry(String),
}

/// What a caller gets: a result, or its statement back to send it again.
#[derive(Debug)]
enum Sent {
    Result(WriteResult),
    Retry(Box<Statement>, String),
}

/// How many statements were sent in how many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    /// Requests sent.
    pub requests: u64,
    /// Statements in them, repeated ones included.
    pub statements: u64,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    statements: AtomicU64,
}

/// Writes to the tables; all writes of a process share its batches.
#[derive(Debug, Clone)]
pub(crate) struct BatchWriter {
    batcher: Batcher<Statement, Sent>,
    counts: Arc<Counts>,
}

impl BatchWriter {
    pub(crate) fn new(clients: Clients<Client>, run_queue: RunQueue) -> Self {
        let counts = Arc::<Counts>::default();
        let requests = Arc::new(Requests { clients, counts: counts.clone() });
        let batcher = Batcher::new(RULES, run_queue, move |batch| send(requests.clone(), batch));
        Self { batcher, counts }
    }

    /// Writes; sends a throttled statement again, for about a second.
    pub(crate) async fn write(&self, mut statement: Statement) -> WriteResult {
        let table = statement.table.clone();
        let mut tries = 1;
        loop {
            match self.batcher.send(statement).await {
                None => {
                    let what = format!("a write to {table} failed: the task that sent its batch panicked");
                    return Err(AwsError::passing(what));
                }
                Some(Sent::Result(result)) => return result,
                Some(Sent::Retry(_, why)) if tries >= MAX_TRIES => {
                    let what = format!("BatchExecuteStatement on {table}: {why}, {tries} times");
                    return Err(AwsError::passing(what));
                }
                Some(Sent::Retry(again, _)) => statement = *again,
            }
            tokio::time::sleep(retry_pause(tries)).await;
            tries += 1;
        }
    }

    /// Sends the statements that wait for others, and lets none wait from now on.
    pub(crate) fn send_at_once(&self) {
        self.batcher.send_at_once();
    }

    pub(crate) fn batching(&self) -> Batching {
        Batching {
            requests: self.counts.requests.load(Ordering::Relaxed),
            statements: self.counts.statements.load(Ordering::Relaxed),
        }
    }
}

/// The requests of all writers of a process.
struct Requests {
    clients: Clients<Client>,
    counts: Arc<Counts>,
}

async fn send(requests: Arc<Requests>, batch: Vec<Statement>) -> Vec<Sent> {
    let replies = send_or_split(&batch, &*requests).await;
    let give = |(statement, reply): (Statement, Result<Reply, AwsError>)| match reply {
        Ok(Reply::Written(written)) => Sent::Result(Ok(written)),
        Ok(Reply::Retry(why)) => Sent::Retry(Box::new(statement), why),
        Err(error) => Sent::Result(Err(error)),
    };
    batch.into_iter().zip(replies).map(give).collect()
}

impl SendPart<Statement, Reply> for Requests {
    async fn send(&self, batch: &[Statement]) -> Result<Vec<Result<Reply, AwsError>>, AwsError> {
        self.counts.requests.fetch_add(1, Ordering::Relaxed);
        self.counts.statements.fetch_add(batch.len() as u64, Ordering::Relaxed);
        let responses = self.responses(batch).await?.into_iter().map(Some);
        let responses = responses.chain(std::iter::repeat_with(|| None));
        Ok(batch
            .iter()
            .zip(responses)
            .map(|(statement, response)| read(&statement.table, response))
            .collect())
    }
}

impl Requests {
    async fn responses(&self, batch: &[Statement]) -> Result<Vec<Response>, AwsError> {
        const OPERATION: &str = "BatchExecuteStatement";
        let direct = &self.clients.direct;
        let counts_units = direct.usage().is_on();
        match direct.post::<Answer>(OPERATION, || wire::request(batch, counts_units)).await {
            Ok(answer) => {
                for capacity in answer.consumed_capacity.into_iter().flatten() {
                    direct.usage().used(Units::Write, &capacity.sdk());
                }
                Ok(answer.responses.unwrap_or_default())
            }
            Err(why) => {
                let statements = batch.iter().map(wire::sdk_statement).collect::<Result<Vec<_>, _>>();
                let statements = statements.map_err(|error| {
                    AwsError::configuration(format!("a statement cannot be built: {error}"))
                })?;
                let repeating = aws_sdk_dynamodb::Config::builder().retry_config(why.retry_config());
                let request = self.clients.sdk.batch_execute_statement().set_statements(Some(statements));
                let request = request.customize().config_override(repeating);
                let output = request.send().await.map_err(|error| {
                    let table = batch.first().map_or("the tables", |statement| &statement.table);
                    AwsError::of_sdk(OPERATION, table, &error)
                })?;
                Ok(output.responses.unwrap_or_default().into_iter().map(Response::of_sdk).collect())
            }
        }
    }
}

fn read(table: &str, response: Option<Response>) -> Result<Reply, AwsError> {
    let Some(response) = response else {
        return Ok(Reply::Retry("no reply to a statement".into()));
    };
    let Some(error) = response.error else {
        return Ok(Reply::Written(Written::Done));
    };
    let Some(code) = error.code.as_deref().map(Code::from) else {
        return Ok(Reply::Retry("an error without a code".into()));
    };
    if code == Code::DuplicateItem {
        return Ok(Reply::Written(Written::Exists));
    }
    if code == Code::ConditionalCheckFailed {
        return Ok(Reply::Written(Written::ConditionFailed(error.item)));
    }
    let passes = [
        Code::ThrottlingError,
        Code::ProvisionedThroughputExceeded,
        Code::RequestLimitExceeded,
        Code::InternalServerError,
        Code::TransactionConflict,
    ];
    if passes.contains(&code) {
        return Ok(Reply::Retry(code.as_str().to_owned()));
    }
    Err(AwsError::of_code(
        "BatchExecuteStatement",
        table,
        code.as_str(),
        error.message.as_deref().unwrap_or_default(),
    ))
}
