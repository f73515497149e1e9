//! Shows the result of a message whose id another caller had used before: the message's own result, from its audit record.
//!
//! **Invariant:** a result of another caller's call is shown only if a worker allowed it for this message.

use std::time::Duration;

use tokio::time::Instant;
use toolfleet_client::{shell_command, system_clock};
use toolfleet_core::audit::AuditRecord;
use toolfleet_core::call::{CallRow, Finished};
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use crate::connect::ClientHandle;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::show;

/// How often the records are read.
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// So much of what was read before is read again: a record may be stored, and readable, later than its instant says.
const OVERLAP_MS: i64 = 5_000;

/// Waits for the message's own result and shows it.
pub(crate) async fn show(
    client: &ClientHandle,
    output: &Output,
    request: &CallRequest,
    row: &CallRow,
    sent: Timestamp,
    within: Duration,
) -> Result<Exit, CommandError> {
    let key = &request.key;
    let until = Instant::now() + within;
    let mut since = sent;
    let record = loop {
        let begun = system_clock()();
        let found = client.record_of_reused_id(request, since).await?;
        since = sent.max(Timestamp::from_ms(begun.as_ms().saturating_sub(OVERLAP_MS)));
        match found {
            Some(record) => break record,
            None if Instant::now() >= until => {
                output.note(&format!(
                    "the id {} was used before by another session, user or agent, and this message has no result yet; read it in \
                     its notice, or with: toolfleet history --tenant {}",
                    key.call_id,
                    shell_command::quoted(key.tenant.as_str())
                ));
                return Ok(Exit::NoResult);
            }
            None => tokio::time::sleep(POLL_INTERVAL).await,
        }
    };
    output.note(&format!(
        "the id {} was used before by another session, user or agent; this is the result of this message alone. Send it under \
         an id of its own.",
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
    Ok(show::call(output, key, Some(&own_row(row, record)))?)
}

/// The row of the call with the result of the message alone.
fn own_row(row: &CallRow, record: AuditRecord) -> CallRow {
    let code = record.code.and_then(|code| serde_json::from_value::<Code>(code.into()).ok());
    let error = CallError::new(
        code.unwrap_or(Code::IdempotencyMismatch),
        record.message.unwrap_or_default(),
        record.may_have_run.unwrap_or(MayHaveRun::No),
    );
    let finished = Finished { outcome: Outcome::ended(record.outcome, error), at: record.at };
    CallRow {
        finished: Some(finished),
        attempts: 0,
        enqueued_at: record.enqueued_at,
        worker: None,
        started_at: None,
        cancel_requested_at: None,
        notes: None,
        ..row.clone()
    }
}
