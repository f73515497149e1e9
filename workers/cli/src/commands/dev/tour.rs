//! Owns `toolfleet dev --demo`: takes the steps one by one, and checks each of them, the call's row and its audit record.
//!
//! **Invariant:** exit code 0 means that every step was seen to end as it must.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_client::RecordsOf;
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::Tenant;
use toolfleet_core::message::CallRequest;

use super::environment::PREFIX;
use super::report;
use super::stage::{Options, Ports, Stage};
use super::steps::{self, Expects, Step};
use crate::commands::request::Ready;
use crate::connect::{ClientHandle, tables};
use crate::ending::{Ending, Failure};
use crate::output::Output;
use crate::show::readable;

/// How long one step may take before it counts as failed.
const STEP_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether the queue has come to rest.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A step that was taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) step: Step,
    pub(super) ready: Ready,
    pub(super) row: Option<CallRow>,
    /// How often the step's tool has run on the server, where the step asks.
    pub(super) executions: Option<u64>,
    pub(super) took: Duration,
    /// What is not as expected.
    pub(super) problems: Vec<String>,
}

/// Takes the tour.
pub(super) async fn run(slots: u32, output: &Output) -> Result<Ending, Failure> {
    let begun = Instant::now();
    let options = Options { ports: Ports::default(), data_dir: None, worker: true, catalog: None, slots };
    let stage = Box::pin(Stage::start(options)).await?;
    let client = ClientHandle::new(&stage.aws().await, stage.queue_url().to_owned(), &tables(PREFIX, 1));
    output.line(
        "A queue, tables, an MCP server with demo tools and a worker run in this process, in memory.",
    )?;
    let taken = take_all(&stage, &client, output).await?;
    let tenant = Tenant::parse(steps::TENANT).map_err(|e| Failure::Ours(e.into()))?;
    let records = client.records(&tenant, &RecordsOf::Everything, Duration::from_secs(3600), 100).await?;
    let problems = missing_records(&taken, &records);
    stage.stop().await;
    report::closing(output, &taken, &records, &problems, begun.elapsed())?;
    let as_expected = problems.is_empty() && taken.iter().all(|t| t.problems.is_empty());
    Ok(if as_expected { Ending::Done } else { Ending::NotSucceeded })
}

async fn take_all(stage: &Stage, client: &ClientHandle, output: &Output) -> Result<Vec<Taken>, Failure> {
    let mut all = Vec::new();
    for (number, step) in steps::all().into_iter().enumerate() {
        report::announce(output, number + 1, &step)?;
        let taken = Box::pin(take(stage, client, step)).await?;
        report::taken(output, &taken)?;
        all.push(taken);
    }
    Ok(all)
}

async fn take(stage: &Stage, client: &ClientHandle, step: Step) -> Result<Taken, Failure> {
    let body = step.request.to_string();
    let request = CallRequest::decode(&body).map_err(|e| Failure::Ours(e.error.into()))?;
    let ready = Ready { request, body };
    let begun = Instant::now();
    let mut row = None;
    for _ in 0..step.sends {
        let message_id = client.send(&ready).await?;
        row = client.wait(&ready.request.key, &message_id, STEP_WITHIN, |_| {}).await?;
    }
    let took = begun.elapsed();
    // Every message is out of the queue only when each delivery has found what to do with it.
    let at_rest = come_to_rest(client).await?;
    let executions = step.expects.executions.map(|(tool, _)| stage.executions(tool));
    let mut problems = differences(&step.expects, row.as_ref(), executions);
    if !at_rest {
        problems.push("messages are left in the queue".to_owned());
    }
    Ok(Taken { step, ready, row, executions, took, problems })
}

async fn come_to_rest(client: &ClientHandle) -> Result<bool, Failure> {
    let until = Instant::now() + STEP_WITHIN;
    while Instant::now() < until {
        let queues = client.depths().await?;
        if queues.iter().all(|q| q.depth.visible + q.depth.in_flight + q.depth.delayed == 0) {
            return Ok(true);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(false)
}

fn differences(expects: &Expects, row: Option<&CallRow>, executions: Option<u64>) -> Vec<String> {
    let Some((row, finished)) = row.and_then(|row| Some((row, row.finished.as_ref()?))) else {
        return vec![format!("no outcome, expected {}", expects.outcome)];
    };
    let outcome = &finished.outcome;
    let trouble = outcome.error.as_ref();
    let mut problems = Vec::new();
    let mut compare = |what: &str, found: String, expected: String| {
        if found != expected {
            problems.push(format!("{what} is {found}, expected {expected}"));
        }
    };
    compare("outcome", outcome.kind.to_string(), expects.outcome.to_string());
    compare("code", word(trouble.map(|t| t.code)), word(expects.code));
    compare("attempts", row.attempts.to_string(), expects.attempts.to_string());
    compare(
        "may_have_run",
        format!("{:?}", trouble.map(|t| t.may_have_run)),
        format!("{:?}", expects.may_have_run),
    );
    if let (Some((tool, expected)), Some(found)) = (expects.executions, executions) {
        compare(&format!("the server's count of `{tool}`"), found.to_string(), expected.to_string());
    }
    if let Some(says) = expects.says {
        let content = outcome.content.as_deref().map(readable).unwrap_or_default();
        if !content.contains(says) {
            problems.push(format!("content is `{content}`, expected one with `{says}`"));
        }
    }
    problems
}

fn word(code: Option<toolfleet_core::outcome::Code>) -> String {
    code.map_or("none", |code| code.as_str()).to_owned()
}

/// Each call has one audit record, which tells the same as its row.
fn missing_records(taken: &[Taken], records: &[AuditRecord]) -> Vec<String> {
    let mut problems = Vec::new();
    for taken in taken {
        let id = &taken.ready.request.key.call_id;
        let of_call: Vec<_> =
            records.iter().filter(|r| r.kind == AuditKind::Call && r.call_id == *id).collect();
        match of_call.as_slice() {
            [record] if record.outcome == taken.step.expects.outcome => {}
            [record] => problems.push(format!("the audit record of {id} says {}", record.outcome)),
            others => problems.push(format!("{id} has {} audit records, expected 1", others.len())),
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_without_an_outcome_is_a_problem() {
        for step in steps::all() {
            assert_eq!(differences(&step.expects, None, None).len(), 1, "{}", step.title);
        }
    }

    #[test]
    fn a_call_without_an_audit_record_is_a_problem() {
        let step = steps::all().remove(0);
        let body = step.request.to_string();
        let ready = Ready { request: CallRequest::decode(&body).unwrap(), body };
        let taken =
            Taken { step, ready, row: None, executions: None, took: Duration::ZERO, problems: Vec::new() };
        assert_eq!(missing_records(&[taken], &[]).len(), 1);
    }
}
