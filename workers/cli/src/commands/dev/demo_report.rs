//! Prints the demo: each step when it is run, and at the end the rows of the tables.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_client::readable;
use toolfleet_core::audit::AuditRecord;

use super::demo_result::StepResult;
use super::demo_steps::Step;
use crate::commands::history;
use crate::output::Output;
use crate::show::{CallView, span};

/// Prints what is sent, and why.
pub(super) fn announce(output: &Output, number: usize, step: &Step) -> io::Result<()> {
    output.line(&format!("\n{number}. {}\n   {}", step.title, step.explains))?;
    let times = if step.sends > 1 { format!(" ({} times)", step.sends) } else { String::new() };
    output.line(&format!("   > {}{times}", step.request))
}

/// Prints how a step ended.
pub(super) fn step(output: &Output, result: &StepResult) -> io::Result<()> {
    output.line(&format!("   < {}", ended(result)))?;
    if let (Some((tool, _)), Some(times)) = (result.step.expects.executions, result.executions) {
        output.line(&format!(
            "     the server ran `{tool}` {times} {}",
            if times == 1 { "time" } else { "times" }
        ))?;
    }
    for problem in &result.problems {
        output.line(&format!("   NOT AS EXPECTED: {problem}"))?;
    }
    Ok(())
}

fn ended(result: &StepResult) -> String {
    let took = span(ms(result.took));
    let Some((row, finished)) = result.row.as_ref().and_then(|row| Some((row, row.finished.as_ref()?)))
    else {
        return format!("no outcome after {took}");
    };
    let attempts = match row.attempts {
        1 => "1 attempt".to_owned(),
        n => format!("{n} attempts"),
    };
    let outcome = &finished.outcome;
    let words = match (&outcome.error, outcome.content()) {
        (Some(error), _) => format!("{}: {}", error.code, error.message),
        (None, Some(content)) => readable(content),
        (None, None) => String::new(),
    };
    format!("{} after {attempts}, {took}: {words}", outcome.kind)
}

/// Prints the rows of the tables, and whether all is as expected.
pub(super) fn summary(
    output: &Output,
    results: &[StepResult],
    records: &[AuditRecord],
    problems: &[String],
    took: Duration,
) -> io::Result<()> {
    let good = results.iter().filter(|result| result.problems.is_empty()).count();
    let as_expected = problems.is_empty() && good == results.len();
    if output.is_json() {
        return output.document(&json!({
            "as_expected": as_expected,
            "steps": results.iter().map(step_json).collect::<Vec<_>>(),
            "records": records,
            "problems": problems,
            "took_ms": ms(took),
        }));
    }
    output.line("\nThe calls in DynamoDB:")?;
    output.table(
        &["call", "state", "outcome", "code", "attempts", "fence"],
        results.iter().map(call_row).collect(),
    )?;
    output.line("\nThe audit records of the tenant, newest first:")?;
    output.shaped(&history::SHAPE, &records.iter().map(history::row).collect::<Vec<_>>())?;
    for problem in problems {
        output.line(&format!("NOT AS EXPECTED: {problem}"))?;
    }
    output.line(&format!("\n{good} of {} steps ended as expected, in {}.", results.len(), span(ms(took))))?;
    for result in results.iter().filter(|result| !result.problems.is_empty()) {
        output.note(&format!("error: step `{}`: {}", result.step.title, result.problems.join("; ")));
    }
    for problem in problems {
        output.note(&format!("error: audit: {problem}"));
    }
    if as_expected {
        output.line("Run `toolfleet dev` to keep the fleet running and send your own calls.")?;
    }
    Ok(())
}

fn step_json(result: &StepResult) -> Value {
    json!({
        "step": result.step.title,
        "explains": result.step.explains,
        "request": result.step.request,
        "sends": result.step.sends,
        "result": CallView::new(&result.ready.request.key, result.row.as_ref()),
        "executions": result.executions,
        "took_ms": ms(result.took),
        "as_expected": result.problems.is_empty(),
        "problems": result.problems,
    })
}

fn call_row(result: &StepResult) -> Vec<String> {
    let key = &result.ready.request.key;
    let Some(row) = &result.row else {
        return vec![key.call_id.to_string(), "unknown".into()];
    };
    let outcome = row.finished.as_ref().map(|f| &f.outcome);
    vec![
        key.call_id.to_string(),
        row.state.as_str().to_owned(),
        outcome.map(|o| o.kind.to_string()).unwrap_or_default(),
        outcome.and_then(|o| o.error.as_ref()).map(|t| t.code.to_string()).unwrap_or_default(),
        row.attempts.to_string(),
        row.fence.to_string(),
    ]
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
