//! Owns the last step: deleting the message.
//!
//! **Invariant:** cannot be called without the proof of a record.

use toolfleet_aws::Trouble;
use toolfleet_aws::queue::Queue;

use super::record::Recorded;
use super::visit::Arrival;

pub(super) async fn acknowledge(queue: &Queue, arrival: &Arrival, _proof: &Recorded) -> Result<(), Trouble> {
    queue.delete(arrival.receipt()).await
}
