//! The only crate that uses the AWS SDKs: queue, tables, secrets, bucket, identity. No SDK type is in a public signature.
//!
//! Locally and in production the same SDK clients are used with different endpoints; there is no second backend.
//!
//! The tables execute conditional writes; what may follow a state is decided by the pure state tables of `toolfleet-core`, which
//! [`apply`] runs by compare-and-swap.

mod assumed_role;
mod batch;
mod blocking;
mod clock;
mod compare_and_swap;
mod connect;
mod direct;
mod dynamodb;
mod error;
mod gzip;
pub mod identity;
pub mod keys;
pub mod lambda;
mod retry_pause;
mod s3;
pub mod secrets;
mod server_time;
mod setup;
mod sqs;
mod time_outs;
mod usage;

pub use batch::RunQueue;
pub use clock::Clock;
pub use compare_and_swap::{Applied, EventOf, Read, RowOf, Store, Swap, apply, apply_in_rounds};
pub use connect::{Aws, AwsOptions, Tables};
pub use dynamodb::{
    Batching, Listing, PageOf, Reads, RecordCursor, RecordPage, calls, catalogs, fleet, history,
    mcp_sessions, sessions,
};
pub use error::{AwsError, AwsErrorKind};
pub use s3::payloads;
pub use server_time::ServerTime;
pub use setup::{Setup, TableEncryption, TableSetup};
pub use sqs::{event, queue};
pub use usage::{Units, Usage};
