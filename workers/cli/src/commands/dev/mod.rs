//! `toolfleet dev`: runs a fleet on this machine until it is stopped, or the demo. It listens on 127.0.0.1 only.

mod console;
mod demo;
mod demo_report;
mod demo_result;
mod demo_steps;
pub(crate) mod environment;
mod gateway;
mod local_fleet;
mod pool;
mod process;
pub(crate) mod scaling;
mod serve;

use std::path::PathBuf;

use clap::Args;
use toolfleet_config::settings::number;

use crate::exit::{CommandError, Exit};
use crate::output::Output;

/// Options of `dev`.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Run a short demo instead: send calls that end in different ways, check that each ends as expected, and stop.
    #[arg(long, conflicts_with_all = ["port_base", "sqs_port", "dynamodb_port", "mcp_port", "gateway_port", "console_port", "data_dir", "no_worker", "catalog"])]
    pub(crate) demo: bool,
    /// First of five ports in a row: SQS, DynamoDB, MCP server, gateway, console; 0 takes any that are free.
    #[arg(long, value_name = "PORT")]
    port_base: Option<u16>,
    /// Port of SQS, Secrets Manager and S3; 0 takes any that is free [default: 9324].
    #[arg(long, value_name = "PORT")]
    sqs_port: Option<u16>,
    /// Port of DynamoDB; 0 takes any that is free [default: 8000].
    #[arg(long, value_name = "PORT")]
    dynamodb_port: Option<u16>,
    /// Port of the demo MCP server; 0 takes any that is free [default: 8931].
    #[arg(long, value_name = "PORT")]
    mcp_port: Option<u16>,
    /// Port of the MCP gateway; 0 takes any that is free [default: 8932].
    #[arg(long, value_name = "PORT")]
    gateway_port: Option<u16>,
    /// Port of the console; 0 takes any that is free [default: 8933].
    #[arg(long, value_name = "PORT")]
    console_port: Option<u16>,
    /// The folder for queues, tables and secrets; without it they are in memory only.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Start no worker: start `toolfleet-worker` as a process of its own, as often as you like.
    #[arg(long)]
    no_worker: bool,
    /// Your own catalog instead of the demo server's tools; it is reloaded when it changes.
    #[arg(long, value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// How many calls of one tenant to one server the worker makes at once; a quarter more is left to others.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = number(1_u32, 10_000))]
    slots: u32,
    /// Be one worker of a `dev` that runs: it starts such processes itself (`toolfleet scale`).
    #[arg(long, hide = true, value_name = "WORKER", requires = "catalog")]
    serve_as: Option<String>,
}

impl DevArgs {
    fn ports(&self) -> Result<local_fleet::Ports, CommandError> {
        let based = |offset: u16, default: u16| match self.port_base {
            None => Ok(default),
            Some(0) => Ok(0),
            Some(base) => base.checked_add(offset).ok_or_else(|| {
                CommandError::usage(format!("--port-base: is {base}; accepted are 0 to 65531"))
            }),
        };
        Ok(local_fleet::Ports {
            sqs: self.sqs_port.map_or_else(|| based(0, environment::SQS_PORT), Ok)?,
            dynamodb: self.dynamodb_port.map_or_else(|| based(1, environment::DYNAMODB_PORT), Ok)?,
            mcp: self.mcp_port.map_or_else(|| based(2, environment::MCP_PORT), Ok)?,
            gateway: self.gateway_port.map_or_else(|| based(3, environment::GATEWAY_PORT), Ok)?,
            console: self.console_port.map_or_else(|| based(4, environment::CONSOLE_PORT), Ok)?,
        })
    }
}

/// Runs until it is stopped, or runs the demo.
pub(crate) async fn run(args: DevArgs, output: &Output) -> Result<Exit, CommandError> {
    if args.demo {
        return Box::pin(demo::run(args.slots, output)).await;
    }
    if let (Some(id), Some(catalog)) = (&args.serve_as, &args.catalog) {
        return Box::pin(process::run(id, catalog, args.slots)).await;
    }
    let options = local_fleet::Options {
        ports: args.ports()?,
        data_dir: args.data_dir,
        worker: !args.no_worker,
        catalog: args.catalog,
        slots: args.slots,
    };
    Box::pin(serve::run(options, output)).await
}
