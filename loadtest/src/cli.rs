//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::bill::BillArgs;
use crate::chaos::ChaosArgs;
use crate::console::ConsoleArgs;
use crate::endpoints::EndpointsArgs;
use crate::flow::FlowArgs;
use crate::mcp_cost::McpCostArgs;
use crate::parts::PartsArgs;
use crate::peer::PeerArgs;
use crate::run_args::RunArgs;

/// Runs a load on a fleet of worker processes and verifies every call.
#[derive(Debug, Parser)]
#[command(
    name = "toolfleet-loadtest",
    version,
    after_help = "Exit codes: 0 every check passed, 1 a check failed, 2 the load could not run, 130 a signal ended it"
)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a load, verify every call, print the figures. Exits with 1 if a check failed.
    Run(RunArgs),
    /// Run each kind of call by itself, count its requests and units, and print the cost of a million calls.
    Bill(BillArgs),
    /// Run a scenario of limits, fairness, priority or switches with worker processes. Exits with 1 if a rule was broken.
    Flow(FlowArgs),
    /// Run calls under faults of every kind, all drawn from a seed, and account for each call. Exits with 1 if a rule was broken.
    Chaos(ChaosArgs),
    /// Measure how long each page of the console takes over many servers and records. Exits with 1 if one takes longer than it may.
    Console(ConsoleArgs),
    /// Measure the CPU time of a call's parts, each alone, and of the rest of a worker.
    Parts(PartsArgs),
    /// Measure the CPU time of one tool call in our MCP client and in rmcp's, on the same server, in alternation.
    McpCost(McpCostArgs),
    /// Measure the worker beside a plain Rust worker that does the same durable job, by turns in one run. Exits with 1 if a call was lost
    /// or executed twice, or if it cost other write units than it must.
    Peer(PeerArgs),
    /// Print the figures of two reports and their ratios.
    Compare {
        /// The report of the first run (`run --json FILE`).
        first: PathBuf,
        /// The report of the second run.
        second: PathBuf,
    },
    /// Queues and tables as a separate process, for loads that kill it.
    #[command(hide = true)]
    Endpoints(EndpointsArgs),
    /// The MCP server of a load as a separate process.
    #[command(hide = true)]
    Server,
    /// rmcp's MCP server as a separate process.
    #[command(hide = true)]
    RmcpServer {
        /// Speak the protocol versions with sessions only.
        #[arg(long)]
        sessions: bool,
    },
}
