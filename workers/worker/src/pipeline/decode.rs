//! The step `decode`: reads a message as a request, or says exactly why it is none. It has no side effect.

use toolfleet_core::ids::CallKey;
use toolfleet_core::request::{CallRequest, Malformed};

use super::inbound::InboundCall;

pub(super) enum Decoded {
    Request(Box<CallRequest>),
    /// No request, but it names a call that its sender may speak for: the refusal is that call's end.
    Refused {
        malformed: Box<Malformed>,
        key: CallKey,
    },
    /// No request, and it names no such call: its sender finds the answer by the message's id, an operator finds the body.
    Unreadable(Box<Malformed>),
}

pub(super) fn decode(inbound: &InboundCall) -> Decoded {
    match CallRequest::decode(inbound.body()) {
        Ok(request) => Decoded::Request(Box::new(request)),
        Err(malformed) => {
            // An answer is stored under the id it names only if its sender may speak for that tenant.
            let sender = inbound.sender.as_deref();
            let own = |key: &&CallKey| inbound.catalog().may_speak_for(sender, &key.tenant);
            match malformed.addressed.as_ref().filter(own).cloned() {
                Some(key) => Decoded::Refused { malformed, key },
                None => Decoded::Unreadable(malformed),
            }
        }
    }
}
