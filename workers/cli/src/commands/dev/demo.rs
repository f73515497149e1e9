//! `toolfleet dev --demo`: runs the steps one by one, and checks the result, the row and the audit record of each.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_client::{RecordsOf, readable};
use toolfleet_core::audit::{AuditKind, AuditRecord};
use toolfleet_core::call::CallRow;
use toolfleet_core::ids::Tenant;
use toolfleet_core::request::CallRequest;

use super::demo_report;
use super::demo_result::StepResult;
use super::demo_steps::{self, Expects, Step};
use super::environment::PREFIX;
use super::local_fleet::{LocalFleet, Options, Ports};
use crate::commands::request::Ready;
use crate::connect::{ClientHandle, tables};
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// The time-out of one step.
const STEP_TIME_OUT: Duration = Duration::from_secs(10);
/// How often the depth of the queue is read.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs the demo.
pub(super) async fn run(slots: u32, output: &Output) -> Result<Exit, CommandError> {
    let start = Instant::now();
    let options = Options { ports: Ports::default(), data_dir: None, worker: true, catalog: None, slots };
    let fleet = Box::pin(LocalFleet::start(options)).await?;
    let client = ClientHandle::new(&fleet.aws().await, fleet.queue_url().to_owned(), &tables(PREFIX, 1));
    output.line(
        "A queue, tables, an MCP server with demo tools and a worker run in this process, in memory.",
    )?;
    let results = run_all(&fleet, &client, output).await?;
    let tenant = Tenant::parse(demo_steps::TENANT).map_err(|e| CommandError::Unavailable(e.into()))?;
    let records = client.records(&tenant, &RecordsOf::Everything, Duration::from_secs(3600), 100).await?;
    let problems = missing_records(&results, &records);
    fleet.stop().await;
    demo_report::summary(output, &results, &records, &problems, start.elapsed())?;
    let as_expected = problems.is_empty() && results.iter().all(|result| result.problems.is_empty());
    Ok(if as_expected { Exit::Done } else { Exit::NotSucceeded })
}

async fn run_all(
    fleet: &LocalFleet,
    client: &ClientHandle,
    output: &Output,
) -> Result<Vec<StepResult>, CommandError> {
    let mut all = Vec::new();
    for (number, step) in demo_steps::all().into_iter().enumerate() {
        demo_report::announce(output, number + 1, &step)?;
        let result = Box::pin(run_step(fleet, client, step)).await?;
        demo_report::step(output, &result)?;
        all.push(result);
    }
    Ok(all)
}

async fn run_step(fleet: &LocalFleet, client: &ClientHandle, step: Step) -> Result<StepResult, CommandError> {
    let body = step.request.to_string();
    let request = CallRequest::decode(&body).map_err(|e| CommandError::Unavailable(e.error.into()))?;
    let ready = Ready { request, body };
    let start = Instant::now();
    let mut row = None;
    for _ in 0..step.sends {
        let message_id = client.send(&ready).await?;
        row = client.wait(&ready.request.key, &message_id, STEP_TIME_OUT, |_| {}).await?;
    }
    let took = start.elapsed();
    // The queue is empty only when every delivery is completed.
    let is_empty = wait_until_empty(client).await?;
    let executions = step.expects.executions.map(|(tool, _)| fleet.executions(tool));
    let mut problems = differences(&step.expects, row.as_ref(), executions);
    if !is_empty {
        problems.push("messages are left in the queue".to_owned());
    }
    Ok(StepResult { step, ready, row, executions, took, problems })
}

async fn wait_until_empty(client: &ClientHandle) -> Result<bool, CommandError> {
    let until = Instant::now() + STEP_TIME_OUT;
    while Instant::now() < until {
        let queues = client.depths().await?;
        if queues.iter().all(|q| q.depth.visible + q.depth.in_flight + q.depth.delayed == 0) {
            return Ok(true);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(false)
}

fn differences(expects: &Expects, row: Option<&CallRow>, executions: Option<u64>) -> Vec<String> {
    let Some((row, finished)) = row.and_then(|row| Some((row, row.finished.as_ref()?))) else {
        return vec![format!("no outcome, expected {}", expects.outcome)];
    };
    let outcome = &finished.outcome;
    let error = outcome.error.as_ref();
    let mut problems = Vec::new();
    let mut compare = |what: &str, found: String, expected: String| {
        if found != expected {
            problems.push(format!("{what} is {found}, expected {expected}"));
        }
    };
    compare("outcome", outcome.kind.to_string(), expects.outcome.to_string());
    compare("code", word(error.map(|error| error.code)), word(expects.code));
    compare("attempts", row.attempts.to_string(), expects.attempts.to_string());
    compare(
        "may_have_run",
        format!("{:?}", error.map(|error| error.may_have_run)),
        format!("{:?}", expects.may_have_run),
    );
    if let (Some((tool, expected)), Some(found)) = (expects.executions, executions) {
        compare(&format!("the server's count of `{tool}`"), found.to_string(), expected.to_string());
    }
    if let Some(text) = expects.contains {
        let content = outcome.content().map(readable).unwrap_or_default();
        if !content.contains(text) {
            problems.push(format!("content is `{content}`, expected one with `{text}`"));
        }
    }
    problems
}

fn word(code: Option<toolfleet_core::outcome::Code>) -> String {
    code.map_or("none", |code| code.as_str()).to_owned()
}

/// Each call has one audit record, with the outcome of its row.
fn missing_records(results: &[StepResult], records: &[AuditRecord]) -> Vec<String> {
    let mut problems = Vec::new();
    for result in results {
        let id = &result.ready.request.key.call_id;
        let of_call: Vec<_> =
            records.iter().filter(|r| r.kind == AuditKind::Call && r.call_id == *id).collect();
        match of_call.as_slice() {
            [record] if record.outcome == result.step.expects.outcome => {}
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
        for step in demo_steps::all() {
            assert_eq!(differences(&step.expects, None, None).len(), 1, "{}", step.title);
        }
    }

    #[test]
    fn a_call_without_an_audit_record_is_a_problem() {
        let step = demo_steps::all().remove(0);
        let body = step.request.to_string();
        let ready = Ready { request: CallRequest::decode(&body).unwrap(), body };
        let result = StepResult {
            step,
            ready,
            row: None,
            executions: None,
            took: Duration::ZERO,
            problems: Vec::new(),
        };
        assert_eq!(missing_records(&[result], &[]).len(), 1);
    }
}
