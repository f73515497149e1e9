//! The tests of the `toolfleet` command: the built binary, stdout, stderr and the exit code. No test sleeps.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do: loudly, at the line"
)]

mod calls;
mod cancel;
mod configurations;
mod connection;
mod console;
mod contexts;
mod control;
mod demo;
mod dev;
mod dlq;
mod doctor;
mod fleet;
mod gateway;
mod groups;
mod help;
mod history;
mod json_documents;
mod killed;
mod pins;
mod plan;
mod priorities;
mod programs;
mod reading;
mod run;
mod scale;
mod sessions;
mod tools;
mod tools_import;
mod why;
mod wrong_input;
