//! The only crate that knows the AWS SDKs: the queue, the tables, the secrets, the bucket. No SDK type stands in a public signature.
//!
//! Locally and in production the same SDKs talk to whatever endpoint they are given; there is no second backend.
//!
//! **Invariant:** the store executes conditions and decides nothing; what a call's state means is decided in the core.

mod batcher;
pub mod calls;
pub mod catalogs;
mod connect;
mod error;
pub mod history;
pub mod identity;
mod item;
pub mod mcp_sessions;
pub mod payloads;
pub mod queue;
mod read;
pub mod secrets;
pub mod sessions;
mod statements;

pub use connect::{Aws, AwsOptions, Tables};
pub use error::{AwsError, AwsErrorKind};
pub use statements::Batching;
