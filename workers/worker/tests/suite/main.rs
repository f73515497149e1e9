//! The tests of the worker: the real path, the real SDKs, embedded endpoints, scripted MCP servers.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do: loudly, at the line"
)]

mod addresses;
mod argument_leaks;
mod arrows;
mod aws_errors;
mod bad_input;
mod batch_turns;
mod batches;
mod bounds;
mod cache;
mod cancelling;
mod catalog_forms;
mod claimless;
mod clock;
mod complaints;
mod control;
mod control_reading;
mod crashes;
mod credentials;
mod ended_switches;
mod event_source;
mod fifo;
mod fleet_rows;
mod foreign_input;
mod function_process;
mod group_deadlines;
mod groups;
mod identities;
mod import_circles;
mod invocations;
mod isolation;
mod lambda;
mod lambda_lists;
mod lambda_policy;
mod leaks;
mod limits;
mod long_lists;
mod mcp_session_store;
mod one_policy;
mod openapi;
mod openapi_documents;
mod openapi_golden;
mod operations;

mod payload_requests;
mod payloads;
mod permits;
mod pins;
mod policy_rows;
mod policy_table;
mod priorities;
mod process;
mod programs;
mod progress;
mod query_key_leaks;
mod reaping;
mod records;
mod redrive;
mod reload;
mod resume;
mod rig;
mod scaling;
mod scheduling;
mod servers;
mod starting;
mod step_watch;
mod stopping;
mod superseding;
mod task_answers;
mod task_permits;
mod tasks;
mod telemetry;
mod telemetry_names;
mod tls;
mod tokens;
mod unlisted;
mod unreadable;
mod waiting;
