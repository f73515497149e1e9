//! S3: payloads that are too large for a message or a row.

mod check;
mod error;
mod objects;
mod packing;
pub mod payloads;

pub(crate) use objects::Objects;
