//! `toolfleet-loadtest` as a library, so that plan, verification and reports can be tested without a load.
//!
//! **Invariant:** figures of a load are reported only with the result of its verification.

mod bed;
pub mod bill;
pub mod chaos;
pub mod cli;
pub mod console;
pub mod distribution;
mod driver;
pub mod endpoints;
mod evidence;
pub mod faults;
pub mod flow;
mod helper;
pub mod mcp_cost;
pub mod parts;
pub mod payload;
pub mod peer;
pub mod plan;
mod plot;
pub mod prices;
mod proxy;
mod receives;
pub mod report;
pub mod run;
pub mod run_args;
pub mod server;
mod stored;
mod testbed;
pub mod time_series;
mod timeline;
pub mod tool;
pub mod traffic;
mod usage;
pub mod verify;
mod worker;
