//! The step `acknowledge`: deletes the message. It takes the proof that the record is stored (`Recorded`).

use toolfleet_aws::AwsError;

use super::inbound::InboundCall;
use super::record::recorded::Recorded;

pub(super) async fn acknowledge(inbound: &InboundCall, _proof: &Recorded) -> Result<(), AwsError> {
    inbound.delete().await
}
