//! The step `record`: stores what became of a call, and gives the proof of it ([`recorded::ResultStored`]), which becomes the proof that the
//! audit record is stored too ([`recorded::Recorded`]).
//!
//! The result goes into the call's row first, the audit record second, and the message is deleted last. A worker that finds the row in
//! between inserts the missing audit record: it is built from the row and the request alone, so every worker builds the same. An audit record
//! that nobody waits for waits for other writes, so that it shares its request.

pub(super) mod claimed;
pub(super) mod finished;
mod message_alone;
mod notices;
pub(super) mod persist;
pub(super) mod recorded;
mod unclaimed;
pub(super) mod unexecuted;
pub(super) mod without_call;
