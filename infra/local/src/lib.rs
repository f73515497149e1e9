//! AWS on one machine: SQS, DynamoDB, Secrets Manager and S3 for development and tests, spoken to by the official SDKs.
//!
//! The product's code does not know about this crate: it is given the endpoint URLs. The queues, tables and buckets come from
//! `infra/cloudformation/data.yaml`, the file that also makes them in an account.
//!
//! ```no_run
//! # async fn example() -> Result<(), toolfleet_local::LocalError> {
//! use toolfleet_local::{Clock, LocalEndpoints, LocalOptions};
//!
//! let clock = Clock::manual(1_800_000_000_000);
//! let options = LocalOptions { clock: clock.clone(), ..LocalOptions::default() };
//! let endpoints = LocalEndpoints::start(options).await?;
//! println!("calls are sent to {}", endpoints.queue_url("toolfleet-calls"));
//! clock.advance_ms(30_000); // what was in flight is visible again, and whoever waits for it is woken
//! endpoints.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! **Invariant:** binds 127.0.0.1 only, and never reaches out to another machine.

mod clock;
pub mod demo;
mod dynamodb;
mod endpoints;
mod error;
mod http;
mod journal;
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
pub use names::{ACCOUNT_ID, REGION};
pub use template::{BucketSpec, DATA_YAML, QueueSpec, TableSpec, Template, TemplateError};
