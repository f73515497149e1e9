//! Owns group commit: the writes of concurrent calls travel in BatchExecuteStatement requests of up to 25 statements, each with
//! its own condition and its own answer.
//!
//! A statement's failure stands inside an HTTP 200, so what the service could not do just now is tried again here, by the caller
//! of that statement: its neighbours have their answers and do not wait for it, and it travels again with whoever writes then.
//!
//! **Invariant:** values are parameters, never text; one key never stands twice in a request.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum as Code, BatchStatementRequest, BatchStatementResponse,
    ReturnValuesOnConditionCheckFailure,
};

use crate::batcher::{BatchItem, Batcher, Rules, sent};
use crate::error::AwsError;

/// A row as the table holds it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The service's bounds for one request, and how long a statement waits for others.
const RULES: Rules = Rules {
    most: 25,
    most_bytes: 4 * 1024 * 1024,
    linger: Duration::from_micros(1_500),
    patient: false,
    most_under_way: 32,
};
/// How often one statement is sent again when the service could not do it just now.
const MOST_TRIES: u32 = 6;

/// One write.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) text: String,
    pub(crate) parameters: Vec<AttributeValue>,
    pub(crate) bytes: usize,
}

impl BatchItem for Statement {
    fn key(&self) -> Option<&str> {
        Some(&self.key)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Written {
    Done,
    /// An INSERT met a row.
    Exists,
    /// A condition did not hold; the row that stands, if one does.
    Refused(Option<Item>),
}

type Answer = Result<Written, AwsError>;

/// What came back for one statement of a request.
enum Reply {
    Written(Written),
    /// Not just now, and why.
    NotNow(String),
}

/// What a caller gets: an answer, or its statement back to ask again.
#[derive(Debug)]
enum Given {
    Answer(Answer),
    NotNow(Box<Statement>, String),
}

/// How many statements travelled in how many requests.
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

/// The one way of writes to the tables.
#[derive(Debug, Clone)]
pub(crate) struct Statements {
    gatherer: Batcher<Statement, Given>,
    counts: Arc<Counts>,
}

impl Statements {
    pub(crate) fn new(client: Client) -> Self {
        let counts = Arc::<Counts>::default();
        let counted = counts.clone();
        let gatherer = Batcher::new(RULES, move |batch| send(client.clone(), counted.clone(), batch));
        Self { gatherer, counts }
    }

    /// Writes; tries again while the service cannot do it just now, for about a second.
    pub(crate) async fn write(&self, mut statement: Statement) -> Answer {
        let table = statement.table.clone();
        let mut tries = 1;
        loop {
            match self.gatherer.ask(statement).await {
                None => {
                    let what = format!("a write to {table} was given up by its batch");
                    return Err(AwsError::passing(what));
                }
                Some(Given::Answer(answer)) => return answer,
                Some(Given::NotNow(_, why)) if tries >= MOST_TRIES => {
                    let what = format!("BatchExecuteStatement on {table}: {why}, {tries} times");
                    return Err(AwsError::passing(what));
                }
                Some(Given::NotNow(again, _)) => statement = *again,
            }
            tokio::time::sleep(pause(tries)).await;
            tries += 1;
        }
    }

    pub(crate) fn batching(&self) -> Batching {
        Batching {
            requests: self.counts.requests.load(Ordering::Relaxed),
            statements: self.counts.statements.load(Ordering::Relaxed),
        }
    }
}

async fn send(client: Client, counts: Arc<Counts>, batch: Vec<Statement>) -> Vec<Given> {
    let replies = sent(&batch, |part| request(&client, &counts, part)).await;
    let give = |(statement, reply): (Statement, Result<Reply, AwsError>)| match reply {
        Ok(Reply::Written(written)) => Given::Answer(Ok(written)),
        Ok(Reply::NotNow(why)) => Given::NotNow(Box::new(statement), why),
        Err(trouble) => Given::Answer(Err(trouble)),
    };
    batch.into_iter().zip(replies).map(give).collect()
}

/// About 25, 50, 100, .. ms, spread by up to the same again so that workers do not come back together.
pub(crate) fn pause(tries: u32) -> Duration {
    let base = 25_u64 << tries.min(6);
    let mut chance = [0_u8; 2];
    // Without chance the pause is merely regular.
    let _no_chance = getrandom::fill(&mut chance);
    Duration::from_millis(base / 2 + u64::from(u16::from_le_bytes(chance)) * base / 2 / u64::from(u16::MAX))
}

/// Sends the statements in one request; one reply for each, or what befell them all.
fn request(
    client: &Client,
    counts: &Counts,
    batch: &[Statement],
) -> impl Future<Output = Result<Vec<Result<Reply, AwsError>>, AwsError>> + Send + use<> {
    counts.requests.fetch_add(1, Ordering::Relaxed);
    counts.statements.fetch_add(batch.len() as u64, Ordering::Relaxed);
    let build = |statement: &Statement| {
        BatchStatementRequest::builder()
            .statement(&statement.text)
            .set_parameters(Some(statement.parameters.clone()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
    };
    let statements = batch.iter().map(build).collect::<Result<Vec<_>, _>>();
    let tables: Vec<String> = batch.iter().map(|statement| statement.table.clone()).collect();
    let request = client.batch_execute_statement();
    async move {
        let statements = statements
            .map_err(|error| AwsError::configuration(format!("a statement cannot be built: {error}")))?;
        let output = request.set_statements(Some(statements)).send().await.map_err(|error| {
            AwsError::of_sdk("BatchExecuteStatement", tables.first().map_or("the tables", |t| t), &error)
        })?;
        let responses = output.responses.unwrap_or_default().into_iter().map(Some);
        let responses = responses.chain(std::iter::repeat_with(|| None));
        Ok(tables.iter().zip(responses).map(|(table, response)| read(table, response)).collect())
    }
}

fn read(table: &str, response: Option<BatchStatementResponse>) -> Result<Reply, AwsError> {
    let Some(response) = response else {
        return Ok(Reply::NotNow("no answer for a statement".into()));
    };
    let Some(error) = response.error else {
        return Ok(Reply::Written(Written::Done));
    };
    let message = error.message().unwrap_or_default().to_owned();
    let Some(code) = error.code else {
        return Ok(Reply::NotNow("an error without a code".into()));
    };
    if code == Code::DuplicateItem {
        return Ok(Reply::Written(Written::Exists));
    }
    if code == Code::ConditionalCheckFailed {
        return Ok(Reply::Written(Written::Refused(error.item)));
    }
    let passes = [
        Code::ThrottlingError,
        Code::ProvisionedThroughputExceeded,
        Code::RequestLimitExceeded,
        Code::InternalServerError,
        Code::TransactionConflict,
    ];
    if passes.contains(&code) {
        return Ok(Reply::NotNow(code.as_str().to_owned()));
    }
    Err(AwsError::of_code("BatchExecuteStatement", table, code.as_str(), &message))
}
