//! The step `supersede`: of the calls with one `supersede` key that were not started, only the newest goes on. The others end as cancelled.
//!
//! A call offers itself at each receive before it is started; the row of its key in the fleet table decides. A call without the field
//! reads and writes nothing here. A call that has started is never ended here.

use toolfleet_aws::AwsError;
use toolfleet_core::call::{CallRow, Event, Rejection};
use toolfleet_core::ids::CallId;
use toolfleet_core::outcome::{CallError, Code, MayHaveRun, Outcome, OutcomeKind};
use toolfleet_core::retention::RETENTION_MS;
use toolfleet_core::supersede::{Contender, Offer, Standing};

use super::admit::AdmittedCall;
use super::apply::{Applied, apply};
use super::disposition::Disposition;
use super::inbound::InboundCall;
use super::record::finished;
use crate::context::WorkerContext;

/// The call, if no newer one replaces it; else how its delivery leaves the worker.
pub(super) enum Superseded {
    GoesOn(Box<AdmittedCall>),
    Over(Disposition),
}

pub(super) async fn supersede(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: Box<AdmittedCall>,
) -> Result<Superseded, AwsError> {
    let Some(name) = &call.request.supersede else {
        return Ok(Superseded::GoesOn(call));
    };
    let key = &call.request.key;
    let row = context.calls.read(key).await?;
    // What has ended or started, and another caller's or another question's call, is for the claim to judge.
    if row.as_ref().is_some_and(|row| !may_be_replaced(row, inbound, &call)) {
        return Ok(Superseded::GoesOn(call));
    }
    let enqueued_at =
        row.filter(|row| row.digest.is_some()).map_or(inbound.enqueued_at, |row| row.enqueued_at);
    let contender = Contender { enqueued_at, call_id: key.call_id.clone() };
    let offer = Offer { contender, expires_at: inbound.enqueued_at.plus_ms(RETENTION_MS) };
    match context.fleet.offer(&key.tenant, name, &offer).await? {
        Standing::Newest => Ok(Superseded::GoesOn(call)),
        Standing::SupersededBy(newer) => end(context, inbound, call, &newer).await,
    }
}

/// Whether the row is that of this very call, neither started nor ended.
fn may_be_replaced(row: &CallRow, inbound: &InboundCall, call: &AdmittedCall) -> bool {
    let caller = row.caller.as_deref();
    let own = row.digest.as_ref().is_none_or(|digest| call.request.is_of(digest, caller));
    let is_another = caller.is_some_and(|caller| caller.is_another(&inbound.caller(&call.request)));
    own && !is_another && row.finished.is_none() && row.started_at.is_none()
}

/// Ends a call that a newer one replaces, unless it has started in between.
async fn end(
    context: &WorkerContext,
    inbound: &InboundCall,
    call: Box<AdmittedCall>,
    newer: &CallId,
) -> Result<Superseded, AwsError> {
    let delivery = inbound.delivery_context(context, &call.request, false);
    let definition = inbound.catalog().definition(&call.request.target);
    let event = Event::Conclude { delivery, outcome: superseded_by(newer), definition };
    match apply(&context.calls, None, &event).await? {
        Applied::Stored { row, .. } => {
            finished::stored(context, inbound, &call.request, &row).await;
            let recorded = finished::record_finished(context, inbound, *call.request, *row).await?;
            Ok(Superseded::Over(Disposition::completed(recorded)))
        }
        Applied::Rejected {
            rejection:
                Rejection::AlreadyRecorded
                | Rejection::HeldElsewhere { .. }
                | Rejection::Mismatch
                | Rejection::OfAnother
                | Rejection::AwaitingApproval
                | Rejection::Lost
                | Rejection::Nothing,
            ..
        } => Ok(Superseded::GoesOn(call)),
    }
}

fn superseded_by(newer: &CallId) -> Outcome {
    let text = format!(
        "The newer call `{newer}` with the same `supersede` key replaced this one before it was started. Nothing was sent to the tool."
    );
    Outcome::ended(OutcomeKind::Cancelled, CallError::new(Code::Superseded, text, MayHaveRun::No))
}
