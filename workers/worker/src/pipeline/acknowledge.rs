//! Last step: deletes the message. It takes the proof of a record, so no message is deleted without one.

use toolfleet_aws::AwsError;
use toolfleet_aws::queue::Queue;

use super::inbound::InboundCall;
use super::record::recorded::Recorded;

pub(super) async fn acknowledge(
    queue: &Queue,
    inbound: &InboundCall,
    _proof: &Recorded,
) -> Result<(), AwsError> {
    queue.delete(inbound.receipt()).await
}
