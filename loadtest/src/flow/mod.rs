//! The command `flow`: scenarios with worker processes that measure limits, fairness, priority, switches and groups.
//!
//! Each scenario accounts for every call and prints its figures beside their goals. It fails if a rule was broken (a lost call, a start too
//! many); with `--strict` also if a goal was missed that depends on the machine.

mod args;
pub mod calls;
mod catalog;
pub mod counts;
mod dead_server;
mod freed_permits;
mod group_cost;
pub(crate) mod groups;
pub(crate) mod idle;
mod kill;
mod limit;
mod noisy_tenant;
mod pause;
mod priority;
pub mod report;
pub(crate) mod rig;
pub(crate) mod server;
pub(crate) mod turns;

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
    /// High priority under a flood of low: what a call of high priority takes, and what low priority keeps.
    Priority(priority::PriorityArgs),
    /// A pause while calls run: how long until no call starts, and after the resume until all have.
    Pause(pause::PauseArgs),
    /// Kill -9: how long until another worker executes the calls of the killed one, and until its concurrency permits are free.
    Kill(kill::KillArgs),
    /// Groups while workers are killed: one decision each, which never changes, and a notice.
    Groups(groups::GroupsArgs),
    /// The write units of the members of a large group, beside those of the same calls without a group.
    GroupCost(group_cost::GroupCostArgs),
    /// Workers without calls: their requests to SQS and DynamoDB.
    Idle(idle::IdleArgs),
    /// A large catalog: its memory, and how long a reload stops the worker.
    Catalog(catalog::CatalogCostArgs),
}

/// Runs the scenario and prints its report; true if no rule was broken (with `--strict`, also no goal missed).
///
/// # Errors
/// The scenario cannot run, or a worker ended by itself.
pub async fn run(args: &FlowArgs) -> anyhow::Result<bool> {
    match &args.scenario {
        Scenario::Limit(args) => Box::pin(limit::run(args)).await,
        Scenario::DeadServer(args) => Box::pin(dead_server::run(args)).await,
        Scenario::NoisyTenant(args) => Box::pin(noisy_tenant::run(args)).await,
        Scenario::Priority(args) => Box::pin(priority::run(args)).await,
        Scenario::Pause(args) => Box::pin(pause::run(args)).await,
        Scenario::Kill(args) => Box::pin(kill::run(args)).await,
        Scenario::Groups(args) => Box::pin(groups::run(args)).await,
        Scenario::GroupCost(args) => Box::pin(group_cost::run(args)).await,
        Scenario::Idle(args) => Box::pin(idle::run(args)).await,
        Scenario::Catalog(args) => Box::pin(catalog::run(args)).await,
    }
}
