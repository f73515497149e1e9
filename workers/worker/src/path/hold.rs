//! Holds a call visibly: its row says what it waits for and when it is tried next.
//!
//! A wait of a moment writes nothing, so that the usual call costs what it costs; a longer one, or one of many, costs one write.
//!
//! **Invariant:** a call that waits longer than [`WORTH_TELLING_MS`] before its claim has a row that says why.

use toolfleet_aws::Trouble;
use toolfleet_core::call::{Event, Finding, Held, HeldReason};
use toolfleet_core::fault::Fault;
use toolfleet_core::ids::ServerId;
use toolfleet_core::message::CallRequest;
use toolfleet_core::outcome::Code;

use super::record::{self, Concluded};
use super::swap::{Turn, apply};
use super::visit::Arrival;
use crate::breakers::Refusal;
use crate::fleet::Fleet;

/// A shorter wait is not written down.
pub(super) const WORTH_TELLING_MS: u64 = 3_000;

/// A wait that the call's caller can read.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) after_ms: u64,
    pub(super) held: Box<Held>,
}

impl Wait {
    /// A wait for a server after a fault.
    pub(super) fn after_fault(fleet: &Fleet, server: &ServerId, fault: &Fault, after_ms: u64) -> Self {
        Self::for_server(fleet, server, reason_of(fault), after_ms).with_fault(fault)
    }

    /// A wait for a server whose breaker is open, or that asked for a pause.
    pub(super) fn refused(fleet: &Fleet, server: &ServerId, refusal: Refusal) -> Self {
        let wait = Self::for_server(fleet, server, refusal.reason, refusal.retry_after_ms);
        match refusal.last_fault {
            Some(fault) => wait.with_fault(fault),
            None => wait,
        }
    }

    /// A wait for a server.
    pub(super) fn for_server(fleet: &Fleet, server: &ServerId, reason: HeldReason, after_ms: u64) -> Self {
        let held = Held::new(reason, Some(server.clone()), fleet.now(), after_ms);
        Self { after_ms, held: Box::new(held) }
    }

    /// The same with what was last seen to go wrong.
    pub(super) fn with_fault(self, fault: impl ToString) -> Self {
        Self { held: Box::new(self.held.with_fault(fault)), ..self }
    }

    /// Why, as a part of a sentence.
    pub(super) const fn why(&self) -> &'static str {
        self.held.reason.sentence()
    }

    /// Whether somebody may ask before it is over.
    fn is_worth_telling(&self, fleet: &Fleet, arrival: &Arrival) -> bool {
        self.after_ms >= WORTH_TELLING_MS || fleet.now().ms_since(arrival.enqueued_at) >= WORTH_TELLING_MS
    }

    /// Names server and next try in the log.
    pub(super) fn log(&self, request: &CallRequest) {
        let Held { reason, server, next_try_at, last_fault, .. } = &*self.held;
        let server = server.as_ref().map(ServerId::as_str);
        let fault = last_fault.as_deref();
        tracing::info!(
            call = %request.key, server, reason = reason.as_str(), %next_try_at, fault, code = "held",
            "a call waits: {}", reason.sentence()
        );
    }
}

/// Why a call ends now that would wait beyond its deadline.
pub(super) fn not_before_the_deadline(server: &ServerId, why: HeldReason, fault: Option<&str>) -> String {
    let fault = fault.map_or_else(String::new, |fault| format!(" Last fault: {fault}."));
    let why = why.sentence();
    format!("Server `{server}` will not be asked again before the call's deadline: {why}.{fault}")
}

/// The code of a call that ends because its wait would be longer than its deadline.
pub(super) const fn code_of(reason: HeldReason) -> Code {
    match reason {
        HeldReason::ServerUnreachable | HeldReason::Share => Code::ServerUnreachable,
        HeldReason::ServerFailing | HeldReason::BackOff => Code::ServerError,
        HeldReason::ServerPause => Code::RateLimited,
        HeldReason::Credential => Code::CredentialUnavailable,
        HeldReason::OwnTrouble => Code::InternalError,
    }
}

/// What a call waits for after a fault that another try may cure.
const fn reason_of(fault: &Fault) -> HeldReason {
    match fault {
        Fault::Connect { .. } => HeldReason::ServerUnreachable,
        Fault::CredentialPending { .. } => HeldReason::Credential,
        Fault::RegisterAway { .. } => HeldReason::OwnTrouble,
        Fault::RateLimited { .. } => HeldReason::ServerPause,
        Fault::ServerStatus { retry_after_ms: Some(_), .. } => HeldReason::ServerPause,
        Fault::Unauthorized
        | Fault::Forbidden { .. }
        | Fault::Credential { .. }
        | Fault::SessionLost
        | Fault::VersionUnsupported { .. }
        | Fault::NotResumable { .. }
        | Fault::Rpc { .. }
        | Fault::RpcAmbiguous { .. }
        | Fault::ServerStatus { .. }
        | Fault::ClientStatus { .. }
        | Fault::AnswerLost { .. }
        | Fault::AttemptTimeout { .. }
        | Fault::InvalidAnswer { .. }
        | Fault::AnswerTooLarge { .. }
        | Fault::AddressRefused { .. }
        | Fault::Redirect { .. } => HeldReason::BackOff,
    }
}

/// Writes down, before the call's claim, what it waits for.
pub(super) async fn hold(
    fleet: &Fleet,
    arrival: &Arrival,
    request: CallRequest,
    wait: Wait,
) -> Result<Concluded, Trouble> {
    let (after_ms, why) = (wait.after_ms, wait.why());
    if !wait.is_worth_telling(fleet, arrival) {
        return Ok(Concluded::Later { after_ms, why });
    }
    wait.log(&request);
    let event = Event::Hold { visit: arrival.visit(fleet, &request, false), held: *wait.held };
    match apply(&fleet.calls, None, &event).await? {
        Turn::Stored { row, .. } if row.finished.is_some() => {
            record::stored(fleet, arrival, &row).await;
            let recorded = record::already(fleet, arrival, request, *row).await?;
            Ok(Concluded::Recorded(Box::new(recorded)))
        }
        Turn::Found { row: Some(row), finding: Finding::AlreadyRecorded } => {
            let recorded = record::already(fleet, arrival, request, *row).await?;
            Ok(Concluded::Recorded(Box::new(recorded)))
        }
        Turn::Found { finding: Finding::Mismatch, .. } => {
            Ok(Concluded::Recorded(Box::new(record::mismatch(fleet, arrival, request).await?)))
        }
        Turn::Found { finding: Finding::HeldElsewhere { retry_after_ms }, .. } => {
            let after_ms = arrival.wait_for_holder_ms(retry_after_ms);
            Ok(Concluded::Later { after_ms, why: "another worker holds the call" })
        }
        Turn::Stored { .. }
        | Turn::Found {
            finding: Finding::AlreadyRecorded | Finding::AwaitingApproval | Finding::Lost | Finding::Nothing,
            ..
        } => Ok(Concluded::Later { after_ms, why }),
    }
}
