//! The load test without a load: its plan, its payloads, its verification, its reports, and its answers to wrong arguments.
//!
//! **Invariant:** no test looks at a time; the real load is a stage of CI (`toolfleet-loadtest run`).

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do: loudly, at the line")]

mod command;
mod distributions;
mod faults;
mod payloads;
mod plans;
mod reports;
mod verification;
