//! Tests of the local endpoints through the official SDKs, operation by operation.
//!
//! **Invariant:** no test sleeps: time is a manual clock, and waiting ends by an event.

#![expect(clippy::unwrap_used, reason = "in a test an unexpected answer is the failure")]

mod batches;
mod durability;
mod fifo;
mod harness;
mod messages;
mod moves;
mod objects;
mod partiql;
mod queues;
mod secrets;
mod start;
