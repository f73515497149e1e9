//! Owns what the tour prints: each step as it happens, and at the end the tables as they were read back.
//!
//! **Invariant:** a problem is printed wherever a step is.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use toolfleet_core::audit::AuditRecord;

use super::steps::Step;
use super::tour::Taken;
use crate::commands::history;
use crate::output::Output;
use crate::show::{CallView, readable, span};

/// What will be sent, and why.
pub(super) fn announce(output: &Output, number: usize, step: &Step) -> io::Result<()> {
    output.line(&format!("\n{number}. {}\n   {}", step.title, step.explains))?;
    let times = if step.sends > 1 { format!(" ({} times)", step.sends) } else { String::new() };
    output.line(&format!("   > {}{times}", step.request))
}

/// How it ended.
pub(super) fn taken(output: &Output, taken: &Taken) -> io::Result<()> {
    output.line(&format!("   < {}", ended(taken)))?;
    if let (Some((tool, _)), Some(times)) = (taken.step.expects.executions, taken.executions) {
        output.line(&format!(
            "     the server ran `{tool}` {times} {}",
            if times == 1 { "time" } else { "times" }
        ))?;
    }
    for problem in &taken.problems {
        output.line(&format!("   NOT AS EXPECTED: {problem}"))?;
    }
    Ok(())
}

fn ended(taken: &Taken) -> String {
    let took = span(ms(taken.took));
    let Some((row, finished)) = taken.row.as_ref().and_then(|row| Some((row, row.finished.as_ref()?))) else {
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

/// The tables read back, and the verdict.
pub(super) fn closing(
    output: &Output,
    taken: &[Taken],
    records: &[AuditRecord],
    problems: &[String],
    took: Duration,
) -> io::Result<()> {
    let good = taken.iter().filter(|t| t.problems.is_empty()).count();
    let as_expected = problems.is_empty() && good == taken.len();
    if output.is_json() {
        return output.document(&json!({
            "as_expected": as_expected,
            "steps": taken.iter().map(step_json).collect::<Vec<_>>(),
            "records": records,
            "problems": problems,
            "took_ms": ms(took),
        }));
    }
    output.line("\nThe calls, as they stand in DynamoDB:")?;
    output.table(
        &["call", "state", "outcome", "code", "attempts", "fence"],
        taken.iter().map(call_row).collect(),
    )?;
    output.line("\nThe audit records of the tenant, newest first:")?;
    output.table(&history::HEADER, records.iter().map(history::row).collect())?;
    for problem in problems {
        output.line(&format!("NOT AS EXPECTED: {problem}"))?;
    }
    output.line(&format!("\n{good} of {} steps ended as expected, in {}.", taken.len(), span(ms(took))))?;
    for taken in taken.iter().filter(|t| !t.problems.is_empty()) {
        output.note(&format!("error: step `{}`: {}", taken.step.title, taken.problems.join("; ")));
    }
    for problem in problems {
        output.note(&format!("error: audit: {problem}"));
    }
    if as_expected {
        output.line("Run `toolfleet dev` to keep it all running and send calls of your own.")?;
    }
    Ok(())
}

fn step_json(taken: &Taken) -> Value {
    json!({
        "step": taken.step.title,
        "explains": taken.step.explains,
        "request": taken.step.request,
        "sends": taken.step.sends,
        "result": CallView::new(&taken.ready.request.key, taken.row.as_ref()),
        "executions": taken.executions,
        "took_ms": ms(taken.took),
        "as_expected": taken.problems.is_empty(),
        "problems": taken.problems,
    })
}

fn call_row(taken: &Taken) -> Vec<String> {
    let key = &taken.ready.request.key;
    let Some(row) = &taken.row else {
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
