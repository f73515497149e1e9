//! Tests of the load test without a load: plan, payloads, verification, reports, command line.
//!
//! The real load is a stage of CI (`toolfleet-loadtest run`).

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do: loudly, at the line")]

mod command;
mod distributions;
mod faults;
mod payloads;
mod plans;
mod reports;
mod verification;
