//! The command line: its subcommands and their arguments.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::bill::BillArgs;
use crate::endpoints::EndpointsArgs;
use crate::mcp_cost::McpCostArgs;
use crate::parts::PartsArgs;
use crate::run_args::RunArgs;

/// Load against a fleet of worker processes; every call is verified exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "toolfleet-loadtest",
    version,
    after_help = "Exit codes: 0 every call is as it should be, 1 one is not, 2 the load could not run, 130 a signal ended it"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a load, verify every call, print the figures. Exits with 1 if one call is not as it should be.
    Run(RunArgs),
    /// Run each kind of call by itself, count its requests and units, and print what a million of it costs.
    Bill(BillArgs),
    /// Measure the CPU time of a call's parts, each alone, and what the rest of a worker takes.
    Parts(PartsArgs),
    /// Measure the CPU time of one tool call in our MCP client and in rmcp's, on the same server, in turns.
    McpCost(McpCostArgs),
    /// Print the figures of two reports and their ratios.
    Compare {
        /// The report of the first run (`run --json FILE`).
        first: PathBuf,
        /// The report of the second run.
        second: PathBuf,
    },
    /// Queues and tables as a process of their own, for loads that kill them.
    #[command(hide = true)]
    Endpoints(EndpointsArgs),
    /// The MCP server of a load as a process of its own.
    #[command(hide = true)]
    Server,
    /// rmcp's MCP server as a process of its own.
    #[command(hide = true)]
    Peer {
        /// Speak the session-bound generations alone.
        #[arg(long)]
        sessions: bool,
    },
}
