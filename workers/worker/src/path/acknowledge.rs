//! Owns the last step: deleting the message.
//!
//! **Invariant:** cannot be called without the proof of a record.

use toolfleet_aws::Trouble;

use super::record::Recorded;
use super::visit::Arrival;
use crate::fleet::Fleet;

pub(super) async fn acknowledge(fleet: &Fleet, arrival: &Arrival, _proof: &Recorded) -> Result<(), Trouble> {
    fleet.queue.delete(arrival.receipt()).await
}
