//! `toolfleet why`: says where a call is, what it waits for, and when it goes on.

use clap::Args;
use serde_json::{Value, json};
use toolfleet_client::Why;
use toolfleet_client::shell_command;
use toolfleet_core::ids::CallKey;
use toolfleet_core::why::Place;

use super::which::WhichCall;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `why`.
#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    which: WhichCall,
}

/// Reads and shows.
pub(crate) async fn run(args: &WhyArgs, connect: &Connect, output: &Output) -> Result<Exit, CommandError> {
    let key = args.which.key()?;
    let why = connect.client().await?.why(&key).await.map_err(|error| error.of_call(&key))?;
    for (what, error) in &why.failures {
        output.note(&format!("{what} could not be read: {error}"));
    }
    if output.is_json() {
        output.document(&document(&key, &why)?)?;
    }
    for line in lines(&key, &why) {
        output.text(&line)?;
    }
    Ok(match why.explanation.place {
        Place::NotReceived => Exit::NoResult,
        Place::CancelledAhead
        | Place::InQueue
        | Place::Held
        | Place::Running
        | Place::WorkerLost
        | Place::AtServer
        | Place::AwaitingApproval
        | Place::DeadLetterQueue
        | Place::Ended => Exit::Done,
    })
}

fn document(key: &CallKey, why: &Why) -> Result<Value, CommandError> {
    let explanation = serde_json::to_value(&why.explanation).map_err(std::io::Error::other)?;
    let mut document = json!({"tenant": key.tenant, "call_id": key.call_id, "now": why.now});
    if let (Some(members), Value::Object(explanation)) = (document.as_object_mut(), explanation) {
        members.extend(explanation);
    }
    Ok(document)
}

/// One screen for people.
fn lines(key: &CallKey, why: &Why) -> Vec<String> {
    let Why { now, row, explanation, .. } = why;
    let mut lines = vec![format!(
        "{}: call {} of tenant {}: {}",
        explanation.state, key.call_id, key.tenant, explanation.text
    )];
    let mut add = |name: &str, text: &str| lines.push(format!("  {name:<12} {text}"));
    for waits in &explanation.waits_for {
        add("waits for", &waits.line(*now));
    }
    if explanation.place != Place::Ended {
        add("next", &explanation.next_line(*now));
    }
    if let Some(deadline) = explanation.deadline_line(*now) {
        add("deadline", &deadline);
    }
    if let Some(at) = explanation.cancel_requested_at {
        add("cancelled", &format!("its caller asked for it at {at}"));
    }
    if let Some(row) = row {
        add("first sent", &row.enqueued_at.to_string());
    }
    for text in &explanation.not_known {
        add("not known", text);
    }
    for text in &explanation.remedies {
        add("what to do", text);
    }
    if explanation.place == Place::Ended {
        add("result", &shell_command::result(key));
    }
    lines
}
