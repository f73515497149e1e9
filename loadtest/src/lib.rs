//! `toolfleet-loadtest` as a library, so that its plan, its verification and its reports can be tested without a load.
//!
//! **Invariant:** a figure is reported only beside the verification of every call that it was measured on.

pub mod bill;
pub mod cli;
pub mod distribution;
pub mod endpoints;
mod evidence;
pub mod faults;
mod helper;
pub mod mcp_cost;
pub mod parts;
pub mod payload;
pub mod plan;
mod plot;
pub mod prices;
mod proxy;
pub mod report;
pub mod rng;
mod run;
mod run_args;
pub mod series;
pub mod server;
mod stage;
pub mod timeline;
pub mod tool;
pub mod traffic;
mod usage;
pub mod verify;
mod watch;
mod worker;

pub use run::run;
