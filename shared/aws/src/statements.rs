//! Owns group commit: the writes of concurrent calls travel in BatchExecuteStatement requests of up to 25 statements, each with
//! its own condition and its own answer.
//!
//! A statement's failure stands inside an HTTP 200, so what the service could not do just now is tried again here, alone.
//!
//! **Invariant:** values are parameters, never text; one key never stands twice in a request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum as Code, BatchStatementRequest, BatchStatementResponse,
    ReturnValuesOnConditionCheckFailure,
};

use crate::gather::{Gatherer, Rules, Wish};
use crate::trouble::Trouble;

/// A row as the table holds it.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The service's bounds for one request, and how long a statement waits for others.
const RULES: Rules = Rules { most: 25, most_bytes: 4 * 1024 * 1024, linger: Duration::from_micros(1_500) };
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

impl Wish for Statement {
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

type Answer = Result<Written, Trouble>;

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
    gatherer: Gatherer<Statement, Answer>,
    counts: Arc<Counts>,
}

impl Statements {
    pub(crate) fn new(client: Client) -> Self {
        let counts = Arc::<Counts>::default();
        let counted = counts.clone();
        let gatherer = Gatherer::new(RULES, move |batch| send(client.clone(), counted.clone(), batch));
        Self { gatherer, counts }
    }

    pub(crate) async fn write(&self, statement: Statement) -> Answer {
        let table = statement.table.clone();
        let answer = self.gatherer.ask(statement).await;
        answer
            .unwrap_or_else(|| Err(Trouble::passing(format!("a write to {table} was given up by its batch"))))
    }

    pub(crate) fn batching(&self) -> Batching {
        Batching {
            requests: self.counts.requests.load(Ordering::Relaxed),
            statements: self.counts.statements.load(Ordering::Relaxed),
        }
    }
}

async fn send(client: Client, counts: Arc<Counts>, batch: Vec<Statement>) -> Vec<Answer> {
    let mut answers: Vec<Option<Answer>> = batch.iter().map(|_| None).collect();
    let mut open: Vec<usize> = (0..batch.len()).collect();
    for tries in 1..=MOST_TRIES {
        let sent: Vec<&Statement> = open.iter().filter_map(|&i| batch.get(i)).collect();
        counts.requests.fetch_add(1, Ordering::Relaxed);
        counts.statements.fetch_add(sent.len() as u64, Ordering::Relaxed);
        let given = request(&client, &sent).await;
        let mut again = Vec::new();
        for ((&place, statement), given) in open.iter().zip(&sent).zip(given) {
            let answer = match given {
                Given::Answer(answer) => answer,
                Given::NotNow(_) if tries < MOST_TRIES => {
                    again.push(place);
                    continue;
                }
                Given::NotNow(why) => Err(Trouble::passing(format!(
                    "BatchExecuteStatement on {}: {why}, {tries} times",
                    statement.table
                ))),
            };
            if let Some(slot) = answers.get_mut(place) {
                *slot = Some(answer);
            }
        }
        if again.is_empty() {
            break;
        }
        open = again;
        tokio::time::sleep(pause(tries)).await;
    }
    let lost =
        || Err(Trouble::passing("BatchExecuteStatement: the service gave fewer answers than statements"));
    answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
}

/// About 25, 50, 100, .. ms, spread by up to the same again so that workers do not come back together.
fn pause(tries: u32) -> Duration {
    let base = 25_u64 << tries.min(6);
    let mut chance = [0_u8; 2];
    // Without chance the pause is merely regular.
    let _no_chance = getrandom::fill(&mut chance);
    Duration::from_millis(base / 2 + u64::from(u16::from_le_bytes(chance)) * base / 2 / u64::from(u16::MAX))
}

enum Given {
    Answer(Answer),
    NotNow(String),
}

async fn request(client: &Client, sent: &[&Statement]) -> Vec<Given> {
    let build = |statement: &&Statement| {
        BatchStatementRequest::builder()
            .statement(&statement.text)
            .set_parameters(Some(statement.parameters.clone()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
    };
    let whole = |trouble: Trouble| sent.iter().map(|_| Given::Answer(Err(trouble.clone()))).collect();
    let statements: Vec<_> = match sent.iter().map(build).collect::<Result<_, _>>() {
        Ok(statements) => statements,
        Err(error) => {
            return whole(Trouble::configuration(format!("a statement cannot be built: {error}")));
        }
    };
    match client.batch_execute_statement().set_statements(Some(statements)).send().await {
        Ok(output) => {
            let responses = output.responses.unwrap_or_default();
            let mut given: Vec<_> = sent.iter().zip(responses).map(|(s, r)| read(s, r)).collect();
            while given.len() < sent.len() {
                given.push(Given::NotNow("no answer for a statement".into()));
            }
            given
        }
        Err(error) => {
            let table = sent.first().map_or("the tables", |s| s.table.as_str());
            whole(Trouble::of_sdk("BatchExecuteStatement", table, &error))
        }
    }
}

fn read(statement: &Statement, response: BatchStatementResponse) -> Given {
    let Some(error) = response.error else {
        return Given::Answer(Ok(Written::Done));
    };
    let message = error.message().unwrap_or_default().to_owned();
    let Some(code) = error.code else {
        return Given::NotNow("an error without a code".into());
    };
    if code == Code::DuplicateItem {
        return Given::Answer(Ok(Written::Exists));
    }
    if code == Code::ConditionalCheckFailed {
        return Given::Answer(Ok(Written::Refused(error.item)));
    }
    let passes = [
        Code::ThrottlingError,
        Code::ProvisionedThroughputExceeded,
        Code::RequestLimitExceeded,
        Code::InternalServerError,
        Code::TransactionConflict,
    ];
    if passes.contains(&code) {
        return Given::NotNow(code.as_str().to_owned());
    }
    Given::Answer(Err(Trouble::of_code("BatchExecuteStatement", &statement.table, code.as_str(), &message)))
}
