//! The command line: the verbs, and the options that all of them share.

use clap::{Parser, Subcommand};

use crate::commands::control::{drain, limit, pause, strike, weight};
use crate::commands::fleet::{stats, top};
use crate::commands::{
    call, cancel, completions, console, context, dev, dlq, doctor, gateway, group, history, plan, queue,
    reading, result, scale, send, sessions, tools, why,
};
use crate::connect::Connect;

const EXIT_CODES: &str = "\
Exit codes: 0 done, for `call` and `result`: the call succeeded; 1 the call ended otherwise, a difference was found, or a check \
failed; 2 the command or the configuration is wrong; 3 no such call or session, or no result yet; 4 unavailable, for example a queue that does not answer. With --json, stdout \
holds one JSON document, also for an error: {\"error\": {\"kind\", \"message\"}}.

The fleet is, in this order: that of --context, of TOOLFLEET_QUEUE_URL or --queue-url, of TOOLFLEET_CONTEXT, of `toolfleet context use`, \
and that of a `toolfleet dev` that runs on this machine. TOOLFLEET_TENANT is the tenant where a verb needs one and none is given.

Region, credentials and endpoints are read from the AWS SDK's own variables and files: AWS_REGION, AWS_ACCESS_KEY_ID, \
AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL_SECRETS_MANAGER, AWS_ENDPOINT_URL_S3.";

/// Send tool calls to a fleet of workers, read their results and their history; run it all on one machine with `dev`.
#[derive(Debug, Parser)]
#[command(name = "toolfleet", version, after_help = EXIT_CODES, max_term_width = 110)]
pub(crate) struct Cli {
    /// Print machine-readable JSON on stdout.
    #[arg(long, global = true, help_heading = "Output")]
    pub(crate) json: bool,
    /// Which log lines to print on stderr, for example `debug` or `warn,toolfleet_worker=debug`.
    #[arg(
        long,
        global = true,
        help_heading = "Output",
        value_name = "FILTER",
        env = "TOOLFLEET_LOG",
        hide_env_values = true
    )]
    pub(crate) log: Option<String>,
    /// Use the fleet of this context (`toolfleet context`).
    #[arg(long, global = true, help_heading = "Connection", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The fleet.
    #[command(flatten)]
    pub(crate) connect: Connect,
    /// The verb.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a fleet on this machine: queues, tables, a demo MCP server, a worker, the MCP gateway and the console.
    Dev(dev::DevArgs),
    /// Serve the published tools of a catalog to MCP clients, over streamable HTTP.
    Gateway(gateway::GatewayCommand),
    /// Show the fleet in a browser: what runs and waits and why, servers, tools, calls, groups, dead letters. It changes nothing.
    Console(console::ConsoleCommand),
    /// Send a call and print its id, without waiting.
    Send(send::SendArgs),
    /// Send a call, wait for its result and print it.
    Call(call::CallArgs),
    /// Print the result of a call, or its state.
    Result(result::ResultArgs),
    /// Say where a call is, what it waits for, and when it goes on.
    Why(why::WhyArgs),
    /// Cancel a call by its id, or calls by a filter.
    Cancel(cancel::CancelArgs),
    /// Show the fleet on one screen: queues, rates, workers, breakers, limits that bind, pauses, noisy tenants, failing tools.
    Status,
    /// Show the same live, with panes for servers, limits, tenants, tools and switches.
    Top(top::TopArgs),
    /// Say how many workers a load needs, how long its calls wait then, and what that costs in a month.
    Plan(plan::PlanArgs),
    /// Check all that a fleet needs, and say what to do about what is wrong; `--pre` before the first worker is started.
    Doctor(doctor::DoctorArgs),
    /// List the workers: version, slots, busy, draining, since when. One that missed three beats is dead.
    Workers,
    /// List the servers (breaker, pause, limit, requests under way, failures, latency), all limits and all pauses.
    Servers,
    /// Show and set how many workers run: on ECS, EC2 or Kubernetes, or in a `toolfleet dev`.
    #[command(subcommand)]
    Scale(scale::ScaleCommand),
    /// Count calls by tool over a period: success and error rates, attempts, p50 and p95.
    Stats(stats::StatsArgs),
    /// Stop new starts of a server, a tool, a tenant or a queue; its calls wait.
    Pause(pause::PauseArgs),
    /// Continue what was paused.
    Resume(pause::ResumeArgs),
    /// Change limits of the running fleet.
    #[command(subcommand)]
    Limit(limit::LimitCommand),
    /// Let one worker finish its calls and exit.
    Drain(drain::DrainArgs),
    /// Hold the calls of one digest, such as a request that breaks a server each time.
    Strike(strike::StrikeArgs),
    /// Set the share of a tenant against the others.
    Weight(weight::WeightArgs),
    /// List what operators have set: pauses, strikes, drains, limits, weights, cancel rules.
    Switches,
    /// List the audit records of a tenant, newest first.
    History(history::HistoryArgs),
    /// Create sessions, change their grants, end them.
    #[command(subcommand)]
    Sessions(sessions::SessionsCommand),
    /// List, compare, pin and import the tools of a catalog or of a server.
    #[command(subcommand)]
    Tools(tools::ToolsCommand),
    /// List and read the resources of a server, through the fleet.
    #[command(subcommand)]
    Resources(reading::ResourcesCommand),
    /// List and get the prompts of a server, through the fleet.
    #[command(subcommand)]
    Prompts(reading::PromptsCommand),
    /// Check a catalog and its servers.
    #[command(subcommand)]
    Catalog(doctor::CatalogCommand),
    /// Show the queues.
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Show a group of calls, wait for it, cancel it, and send again what did not succeed.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// List dead letters, show one, and move them back to the calls.
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Keep the settings of several fleets under names, and choose one.
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// Print the completions of a shell, for example `toolfleet completions bash > /etc/bash_completion.d/toolfleet`.
    Completions(completions::CompletionsArgs),
}

impl Command {
    /// The default log level.
    pub(crate) const fn log_level(&self) -> &'static str {
        match self {
            Self::Dev(dev) if !dev.demo => "info",
            Self::Gateway(_) | Self::Console(_) => "info",
            Self::Dev(_)
            | Self::Send(_)
            | Self::Call(_)
            | Self::Result(_)
            | Self::Why(_)
            | Self::Cancel(_)
            | Self::Status
            | Self::Top(_)
            | Self::Plan(_)
            | Self::Doctor(_)
            | Self::Catalog(_)
            | Self::Workers
            | Self::Servers
            | Self::Scale(_)
            | Self::Stats(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Limit(_)
            | Self::Drain(_)
            | Self::Strike(_)
            | Self::Weight(_)
            | Self::Switches
            | Self::History(_)
            | Self::Sessions(_)
            | Self::Tools(_)
            | Self::Resources(_)
            | Self::Prompts(_)
            | Self::Queue(_)
            | Self::Group(_)
            | Self::Dlq(_)
            | Self::Context(_)
            | Self::Completions(_) => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::EXIT_CODES;

    #[test]
    fn the_exit_codes_of_the_help_are_those_of_the_reference() {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let help = words(EXIT_CODES);
        let (codes, _) = help.split_once(" With --json,").unwrap();
        let codes = codes.strip_prefix("Exit codes: ").unwrap();
        let page = words(include_str!("../../../docs/reference/command-line.md"));
        assert!(page.contains(&format!("* **Exit codes**: {codes} * ")), "{codes}");
    }
}
