//! `toolfleet-loadtest`: sends calls to a queue, starts worker processes that execute them, verifies every call, reports.
//!
//! Either all calls are in the queue before the workers start (a drain), or they arrive at a given rate whether or not the workers keep up
//! (an open loop; a late send counts as latency).
//!
//! **Invariant:** a signal drops the load, which ends its workers; only `kill -9` leaves workers running.

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use toolfleet_loadtest::cli::{Cli, Command};
use toolfleet_loadtest::{bill, chaos, console, endpoints, flow, mcp_cost, parts, peer, report, run, server};

#[tokio::main]
async fn main() -> ExitCode {
    let done = tokio::select! {
        done = Box::pin(execute(Cli::parse().command)) => done,
        signalled = signalled() => match signalled {
            Ok(name) => {
                eprintln!("toolfleet-loadtest: {name}: the load and its workers have ended");
                return ExitCode::from(130);
            }
            Err(error) => Err(error.into()),
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("toolfleet-loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn execute(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Run(args) => run::run(&args).await,
        Command::Bill(args) => bill::run(&args).await,
        Command::Chaos(args) => Box::pin(chaos::run(&args)).await,
        Command::Console(args) => Box::pin(console::run(&args)).await,
        Command::Flow(args) => Box::pin(flow::run(&args)).await,
        Command::Parts(args) => parts::run(&args).await,
        Command::McpCost(args) => mcp_cost::run(&args).await,
        Command::Server => server::serve().await,
        Command::Peer(args) => Box::pin(peer::run(&args)).await,
        Command::RmcpServer { sessions } => mcp_cost::serve(sessions).await,
        Command::Endpoints(args) => endpoints::serve(&args).await,
        Command::Compare { first, second } => {
            print!("{}", report::compare(&first, &second)?);
            Ok(true)
        }
    }
}

/// Waits for the first signal that ends this program.
async fn signalled() -> std::io::Result<&'static str> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
        _ = hangup.recv() => "SIGHUP",
    })
}
