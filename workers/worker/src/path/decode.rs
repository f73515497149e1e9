//! Owns the first step: text in, a request or the exact reason why not out.
//!
//! **Invariant:** pure; a message that cannot be read harms no neighbour and costs nothing but its record.

use toolfleet_core::message::{CallRequest, Malformed};

use super::visit::Arrival;

pub(super) enum Decoded {
    Request(Box<CallRequest>),
    Malformed(Box<Malformed>),
}

pub(super) fn decode(arrival: &Arrival) -> Decoded {
    match CallRequest::decode(arrival.body()) {
        Ok(request) => Decoded::Request(Box::new(request)),
        Err(mut malformed) => {
            // An answer is stored under the id it names only if its sender may speak for that tenant.
            let sender = arrival.sender.as_deref();
            malformed.addressed =
                malformed.addressed.filter(|key| arrival.catalog().may_speak_for(sender, &key.tenant));
            if malformed.addressed.is_none() {
                malformed.reply = None;
            }
            Decoded::Malformed(malformed)
        }
    }
}
