//! The row of a call as a DynamoDB item: short, readable attributes that any language can read.
//!
//! docs/reference/data.md lists them. A result of up to 512 bytes is JSON text; a longer one is gzipped if that makes it shorter. Of a result
//! that is stored in the bucket the row holds the reference.
//!
//! **Invariant:** reading what was written gives the same row, the result byte for byte.

mod read;
mod size;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use read::from_item;
pub(crate) use size::{MAX_BYTES, check_fits};
pub(crate) use write::attributes_of;
