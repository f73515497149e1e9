//! The DynamoDB tables, one file each, and the requests they share: batched conditional writes and batched reads.

mod attributes;
mod batch_get;
mod batch_put;
mod batch_write;
mod call_item;
pub mod calls;
pub mod catalogs;
pub mod fleet;
mod group_item;
pub mod history;
mod history_page;
mod history_query;
pub mod mcp_sessions;
pub(crate) mod member_counter;
mod record_item;
mod session_attributes;
pub mod sessions;
mod statement;
mod wire;

pub(crate) use batch_write::BatchWriter;
pub use batch_write::Batching;
pub(crate) use call_item::MAX_BYTES as MAX_RESULT_BYTES;
pub use history_page::{Listing, PageOf, Reads, RecordCursor, RecordPage};
