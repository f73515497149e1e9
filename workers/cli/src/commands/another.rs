//! Owns what `toolfleet call` shows of a message whose id somebody else had used before: what the message itself was answered by.
//!
//! **Invariant:** nothing of another caller's call is shown unless a worker has found that this one may have it.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_core::call::{CallRow, Finished};
use toolfleet_core::message::CallRequest;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::time::Timestamp;

use crate::connect::ClientHandle;
use crate::ending::{Ending, Failure};
use crate::output::Output;
use crate::shell;
use crate::show;

/// How often the records are looked at.
const PAUSE: Duration = Duration::from_millis(300);

/// Waits for the message's own answer and shows it.
pub(crate) async fn show(
    client: &ClientHandle,
    output: &Output,
    request: &CallRequest,
    row: &CallRow,
    sent: Timestamp,
    within: Duration,
) -> Result<Ending, Failure> {
    let key = &request.key;
    let until = Instant::now() + within;
    let record = loop {
        match client.record_of_reused_id(request, sent).await? {
            Some(record) => break record,
            None if Instant::now() >= until => {
                output.note(&format!(
                    "the id {} was used before by another session, user or agent, and this message has no answer yet; what it is \
                     answered by stands in its notice, and in: toolfleet history --tenant {}",
                    key.call_id,
                    shell::word(key.tenant.as_str())
                ));
                return Ok(Ending::NoResult);
            }
            None => tokio::time::sleep(PAUSE).await,
        }
    };
    output.note(&format!(
        "the id {} was used before by another session, user or agent; what follows is what this message was answered by. Send it \
         under an id of its own.",
        key.call_id
    ));
    let allowed = match record.outcome {
        OutcomeKind::Succeeded | OutcomeKind::ToolError | OutcomeKind::InputRequired => true,
        OutcomeKind::Failed
        | OutcomeKind::Refused
        | OutcomeKind::Expired
        | OutcomeKind::TimedOut
        | OutcomeKind::Cancelled
        | OutcomeKind::OutcomeUnknown => false,
    };
    if allowed {
        return Ok(show::call(output, key, Some(row))?);
    }
    let code = record.code.and_then(|code| serde_json::from_value::<Code>(code.into()).ok());
    let why = CallError::new(
        code.unwrap_or(Code::IdempotencyMismatch),
        record.message.unwrap_or_default(),
        record.may_have_run.unwrap_or(MayHaveRun::No),
    );
    let finished = Finished { outcome: Outcome::ended(record.outcome, why), at: record.at };
    let own = CallRow {
        finished: Some(finished),
        attempts: 0,
        enqueued_at: record.enqueued_at,
        worker: None,
        started_at: None,
        cancel_requested_at: None,
        notes: None,
        ..row.clone()
    };
    Ok(show::call(output, key, Some(&own))?)
}
