//! When and by whom the call of a dead letter was first sent, and whether a copy may say so.
//!
//! Workers believe what a message says about an earlier one only if its sender is one of `tenants.fleet`. A copy that is sent by such a
//! sender must therefore repeat only what the fleet itself has said: what a stranger wrote into the attributes of its message counts for
//! nothing, before and after a redrive.

use toolfleet_core::call::CallRow;
use toolfleet_core::ids::Tenant;
use toolfleet_core::message_attributes::{FIRST_MESSAGE, FIRST_SENDER};
use toolfleet_core::request::CallRequest;
use toolfleet_core::time::Timestamp;

use super::letter::DeadLetter;

/// What the workers' catalog says. `None` where no catalog was given.
pub trait RedriveRules: Sync {
    /// Whether workers believe what messages of that sender say about earlier ones.
    fn is_fleet(&self, sender: &str) -> Option<bool>;
    /// Whether that sender may send calls of the tenant.
    fn may_speak_for(&self, sender: &str, tenant: &Tenant) -> Option<bool>;
    /// Whether the call is safe to repeat.
    fn is_repeatable(&self, request: &CallRequest) -> bool;
    /// Whether workers may send the call without a claim. Only calls that are safe to repeat are sent so, but without a catalog it is not known
    /// which these are.
    fn may_be_claimless(&self, request: &CallRequest) -> bool {
        !request.is_always_claimed()
    }
}

/// The first sending of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) sent: Timestamp,
    pub(super) sender: Option<String>,
    pub(super) message_id: String,
}

/// What a copy says of its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Copy {
    /// The age, the sender and the first message stay.
    Of(Origin),
    /// It counts as sent now, by whoever redrives it.
    Anew,
}

/// Why a dead letter cannot be sent as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotKnown {
    #[error(
        "your sender id `{0}` is neither in `tenants.fleet` nor may it send for this tenant: workers would refuse the call as tenant_not_allowed; add it to `tenants.fleet` of the catalog"
    )]
    NotAllowed(String),
    #[error("no catalog says whether your sender id `{0}` is in `tenants.fleet`; give --catalog")]
    NoCatalog(String),
    #[error(
        "the message says that it replaces an earlier one, and only the catalog says whether its sender may say so; give --catalog"
    )]
    Unconfirmed,
}

/// What the copy of a letter that `own` sends has to say.
pub(super) fn copy_of(
    letter: &DeadLetter,
    row: Option<&CallRow>,
    own: &str,
    rules: &dyn RedriveRules,
) -> Result<Copy, NotKnown> {
    match rules.is_fleet(own) {
        Some(true) => origin(letter, row, rules).map(Copy::Of),
        Some(false) => {
            let tenant = letter.key().map(|key| &key.tenant);
            let allowed = tenant.is_none_or(|tenant| rules.may_speak_for(own, tenant) == Some(true));
            if allowed { Ok(Copy::Anew) } else { Err(NotKnown::NotAllowed(own.to_owned())) }
        }
        None => Err(NotKnown::NoCatalog(own.to_owned())),
    }
}

fn origin(letter: &DeadLetter, row: Option<&CallRow>, rules: &dyn RedriveRules) -> Result<Origin, NotKnown> {
    let as_sqs_says = || Origin {
        sent: letter.sent_at(),
        sender: letter.sender().map(str::to_owned),
        message_id: letter.message_id().to_owned(),
    };
    let as_it_says = || Origin {
        sent: letter.first_sent(),
        sender: letter.claim(FIRST_SENDER).or(letter.sender()).map(str::to_owned),
        message_id: letter.first_message_id().to_owned(),
    };
    if !letter.names_an_earlier_message() {
        return Ok(as_sqs_says());
    }
    match letter.sender().and_then(|sender| rules.is_fleet(sender)) {
        Some(true) => Ok(as_it_says()),
        Some(false) => Ok(as_sqs_says()),
        // A worker has stored the same: it has believed the message.
        None if row.is_some_and(|row| confirms(row, letter)) => Ok(as_it_says()),
        None => Err(NotKnown::Unconfirmed),
    }
}

fn confirms(row: &CallRow, letter: &DeadLetter) -> bool {
    let caller = row.caller.as_deref();
    caller.is_some_and(|caller| {
        caller.message_id.is_some()
            && caller.message_id.as_deref() == letter.claim(FIRST_MESSAGE)
            && caller.sender.as_deref() == letter.claim(FIRST_SENDER)
            && row.enqueued_at == letter.first_sent()
    })
}
