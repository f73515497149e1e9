//! The command `flow`: scenarios with worker processes that measure limits, fairness, priority and switches.
//!
//! Each scenario prints a table with its goals, and fails if one is missed or a call was lost.

mod args;
pub mod calls;
pub mod counts;
mod dead_server;
mod idle;
mod kill;
mod limit;
mod noisy_tenant;
pub mod report;
pub(crate) mod rig;
mod server;

use clap::{Args, Subcommand};

/// Arguments of `flow`.
#[derive(Debug, Clone, Args)]
pub struct FlowArgs {
    #[command(subcommand)]
    scenario: Scenario,
}

/// The scenarios.
#[derive(Debug, Clone, Subcommand)]
enum Scenario {
    /// A rate limit and a concurrency limit while workers are killed: counted at the servers.
    Limit(limit::LimitArgs),
    /// One dead server among many: the others keep their throughput.
    DeadServer(dead_server::DeadServerArgs),
    /// One tenant with most of the traffic and long calls: the waits of the others.
    NoisyTenant(noisy_tenant::NoisyTenantArgs),
    /// Kill -9: how long until another worker executes the calls of the killed one.
    Kill(kill::KillArgs),
    /// Workers without calls: their requests to SQS and DynamoDB.
    Idle(idle::IdleArgs),
}

/// Runs the scenario and prints its report; true if no goal was missed and no call was lost.
///
/// # Errors
/// The scenario cannot run, or a worker ended by itself.
pub async fn run(args: &FlowArgs) -> anyhow::Result<bool> {
    match &args.scenario {
        Scenario::Limit(args) => Box::pin(limit::run(args)).await,
        Scenario::DeadServer(args) => Box::pin(dead_server::run(args)).await,
        Scenario::NoisyTenant(args) => Box::pin(noisy_tenant::run(args)).await,
        Scenario::Kill(args) => Box::pin(kill::run(args)).await,
        Scenario::Idle(args) => Box::pin(idle::run(args)).await,
    }
}
