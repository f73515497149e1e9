//! The fleet table: what operators set for all workers, and what workers report. It holds no call.

mod control;
pub mod groups;
pub mod limits;
pub mod rollups;
mod supersede;
mod workers;

use aws_sdk_dynamodb::Client;

use super::batch_write::BatchWriter;
use super::member_counter::MemberCounter;

/// The fleet table.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub(crate) client: Client,
    pub(crate) writer: BatchWriter,
    pub(crate) counter: MemberCounter,
    pub(crate) table: String,
}
