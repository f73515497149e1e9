//! `toolfleet-loadtest`: puts calls on a queue, lets worker processes execute them, verifies every call once, reports.
//!
//! Calls either all wait in the queue before the workers start (a drain), or arrive at a given rate whether or not the
//! workers keep up (an open loop: a late send counts as latency).
//!
//! **Invariant:** a signal ends the load by dropping it, and with it its workers; only `kill -9` leaves them behind.

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};
use toolfleet_loadtest::cli::{Cli, Command};
use toolfleet_loadtest::{bill, endpoints, mcp_cost, parts, report, run, server};

#[tokio::main]
async fn main() -> ExitCode {
    let done = tokio::select! {
        done = Box::pin(obey(Cli::parse().command)) => done,
        signalled = signalled() => match signalled {
            Ok(name) => {
                eprintln!("toolfleet-loadtest: {name}: the load is over, its workers are gone");
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

async fn obey(command: Command) -> anyhow::Result<bool> {
    match command {
        Command::Run(args) => run(&args).await,
        Command::Bill(args) => bill::run(&args).await,
        Command::Parts(args) => parts::run(&args).await,
        Command::McpCost(args) => mcp_cost::run(&args).await,
        Command::Server => server::serve().await,
        Command::Peer { sessions } => mcp_cost::serve(sessions).await,
        Command::Endpoints(args) => endpoints::serve(&args).await,
        Command::Compare { first, second } => {
            print!("{}", report::compare(&first, &second)?);
            Ok(true)
        }
    }
}

/// Ends at the first signal that wants this program to end.
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
