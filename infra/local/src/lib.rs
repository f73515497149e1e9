//! SQS, DynamoDB, Secrets Manager and S3 on one machine, for development and tests with the official SDKs.
//!
//! The product's code does not depend on this crate: it gets the endpoint URLs. The queues, tables and buckets come from
//! `infra/cloudformation/data.yaml`, the file that also creates them in an account.
//!
//! ```no_run
//! # async fn example() -> Result<(), toolfleet_local::LocalError> {
//! use toolfleet_local::{Clock, LocalEndpoints, LocalOptions};
//!
//! let clock = Clock::manual(1_800_000_000_000);
//! let options = LocalOptions { clock: clock.clone(), ..LocalOptions::default() };
//! let endpoints = LocalEndpoints::start(options).await?;
//! println!("calls are sent to {}", endpoints.queue_url("toolfleet-calls"));
//! clock.advance_ms(30_000); // messages in flight are visible again, and waiting receives return them
//! endpoints.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! **Invariant:** it binds 127.0.0.1 only, and connects to no other machine.

mod clock;
pub mod demo;
mod dynamodb;
mod endpoints;
mod error;
mod http;
mod journal;
mod model;
mod names;
mod s3;
mod secrets;
mod server;
mod sqs;
mod template;

pub use clock::Clock;
pub use endpoints::{LocalEndpoints, LocalOptions};
pub use error::LocalError;
pub use journal::JournalError;
pub use model::{ModelMessage, QueueModel};
pub use names::{ACCOUNT_ID, REGION};
pub use template::error::TemplateError;
pub use template::spec::{BucketSpec, QueueSpec, TableSpec};
pub use template::{DATA_YAML, Template};
