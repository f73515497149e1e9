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
use crate::server_time::ServerTime;

/// The fleet table.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub(crate) client: Client,
    pub(crate) writer: BatchWriter,
    pub(crate) counter: MemberCounter,
    pub(crate) table: String,
    pub(crate) server_time: ServerTime,
}

impl Fleet {
    /// How far this machine's clock is from that of the table.
    pub fn server_time(&self) -> ServerTime {
        self.server_time.clone()
    }
}
