//! Runs the verb of the command line. Each verb is a file here; `request` and `reused_id` belong to `send` and `call`, `which` to all that are
//! about one call, group or session, `program` to `scale` and `doctor`.

pub(crate) mod call;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod context;
pub(crate) mod control;
pub(crate) mod dev;
pub(crate) mod dlq;
pub(crate) mod doctor;
pub(crate) mod fleet;
pub(crate) mod gateway;
pub(crate) mod group;
pub(crate) mod history;
pub(crate) mod plan;
pub(crate) mod program;
pub(crate) mod queue;
pub(crate) mod reading;
pub(crate) mod request;
pub(crate) mod result;
pub(crate) mod reused_id;
pub(crate) mod scale;
pub(crate) mod send;
pub(crate) mod sessions;
pub(crate) mod tools;
pub(crate) mod which;
pub(crate) mod why;

use clap::CommandFactory as _;

use crate::cli::{Cli, Command};
use crate::context::wish::Wish;
use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Runs the verb.
pub(crate) async fn run(cli: Cli, output: &Output) -> Result<Exit, CommandError> {
    let connect = &cli.connect;
    match cli.command {
        Command::Dev(args) => dev::run(args, output).await,
        Command::Gateway(args) => Box::pin(gateway::run(&args, connect, output)).await,
        Command::Console(args) => Box::pin(console::run(&args, connect, output)).await,
        Command::Send(args) => send::run(&args, connect, output).await,
        Command::Call(args) => call::run(&args, connect, output).await,
        Command::Result(args) => result::run(&args, connect, output).await,
        Command::Cancel(args) => cancel::run(&args, connect, output).await,
        Command::Plan(args) => Box::pin(plan::run(&args, connect, output)).await,
        Command::Doctor(args) => Box::pin(doctor::run(&args, connect, output)).await,
        Command::Catalog(command) => doctor::check_catalog(&command, connect, output).await,
        Command::Workers => fleet::workers::run(connect, output).await,
        Command::Servers => fleet::servers::run(connect, output).await,
        Command::Status => fleet::status::run(connect, output).await,
        Command::Top(args) => fleet::top::run(&args, connect, output).await,
        Command::Scale(command) => scale::run(&command, connect, output).await,
        Command::Stats(args) => fleet::stats::run(&args, connect, output).await,
        Command::Pause(args) => control::pause::pause(&args, connect, output).await,
        Command::Resume(args) => control::pause::resume(&args, connect, output).await,
        Command::Limit(command) => control::limit::run(&command, connect, output).await,
        Command::Drain(args) => control::drain::run(&args, connect, output).await,
        Command::Strike(args) => control::strike::run(&args, connect, output).await,
        Command::Weight(args) => control::weight::run(&args, connect, output).await,
        Command::Switches => control::switches::run(connect, output).await,
        Command::History(args) => history::run(&args, connect, output).await,
        Command::Tools(tools::ToolsCommand::List(args)) => tools::list::run(&args, connect, output).await,
        Command::Tools(tools::ToolsCommand::Diff(args)) => tools::diff::run(&args, connect, output).await,
        Command::Tools(tools::ToolsCommand::Approve(args)) => {
            tools::approve::run(&args, connect, output).await
        }
        Command::Tools(tools::ToolsCommand::Import(args)) => tools::import::run(&args, connect, output).await,
        Command::Resources(command) => reading::resources(command, connect, output).await,
        Command::Prompts(command) => reading::prompts(command, connect, output).await,
        Command::Sessions(command) => sessions::run(&command, connect, output).await,
        Command::Why(args) => why::run(&args, connect, output).await,
        Command::Group(command) => group::run(&command, connect, output).await,
        Command::Dlq(command) => dlq::run(&command, connect, output).await,
        Command::Queue(queue::QueueCommand::Status) => queue::status::run(connect, output).await,
        Command::Context(command) => {
            context::run(&command, &Wish::of(Cli::command(), std::env::args_os()), output)
        }
        Command::Completions(args) => completions::run(&args, Cli::command(), output),
    }
}
