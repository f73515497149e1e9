//! `toolfleet resources` and `toolfleet prompts`: what a server has beside tools, listed and read by calls like any other.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use toolfleet_core::ids::{ServerId, SessionId, Tenant};
use toolfleet_core::request::{Operation, User};

use super::call::{self, CallArgs};
use super::request::{RequestArgs, object, parse_user};
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::output::Output;
use crate::span_of_time::parse_span;

/// The verbs of `resources`.
#[derive(Debug, Subcommand)]
pub(crate) enum ResourcesCommand {
    /// List the resources of a server.
    List(OfServer),
    /// List the templates of its resources.
    Templates(OfServer),
    /// Read a resource, by its address at the server.
    Read {
        #[command(flatten)]
        of: OfServer,
        /// The address.
        #[arg(value_name = "URI")]
        uri: String,
    },
}

/// The verbs of `prompts`.
#[derive(Debug, Subcommand)]
pub(crate) enum PromptsCommand {
    /// List the prompts of a server.
    List(OfServer),
    /// Get a prompt, by its name at the server.
    Get {
        #[command(flatten)]
        of: OfServer,
        /// The name.
        #[arg(value_name = "NAME")]
        name: String,
        /// Its arguments: a JSON object of texts, @FILE, or - for stdin.
        #[arg(long, short, value_name = "JSON|@FILE|-", default_value = "{}")]
        arguments: String,
    },
}

/// Which server is asked, and for whom.
#[derive(Debug, Args)]
pub(crate) struct OfServer {
    /// The registered server.
    #[arg(value_name = "SERVER")]
    server: ServerId,
    /// Who the call is for; unless given, TOOLFLEET_TENANT.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<Tenant>,
    /// The session the call belongs to.
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// The user, for access rules.
    #[arg(long, value_name = "ID[:TYPE[:ROLE,ROLE]]", value_parser = parse_user)]
    user: Option<User>,
    /// How long to wait for the result.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = parse_span)]
    wait: Duration,
}

/// Runs a verb of `resources`.
pub(crate) async fn resources(
    command: ResourcesCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let args = match command {
        ResourcesCommand::List(of) => asked(of, Operation::ResourcesList, "{}".to_owned()),
        ResourcesCommand::Templates(of) => asked(of, Operation::ResourceTemplatesList, "{}".to_owned()),
        ResourcesCommand::Read { of, uri } => {
            asked(of, Operation::ResourcesRead, json!({ "uri": uri }).to_string())
        }
    };
    call::run(&args, connect, output).await
}

/// Runs a verb of `prompts`.
pub(crate) async fn prompts(
    command: PromptsCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let args = match command {
        PromptsCommand::List(of) => asked(of, Operation::PromptsList, "{}".to_owned()),
        PromptsCommand::Get { of, name, arguments } => {
            let arguments = object("--arguments", &arguments)?;
            asked(of, Operation::PromptsGet, json!({"name": name, "arguments": arguments}).to_string())
        }
    };
    call::run(&args, connect, output).await
}

fn asked(of: OfServer, operation: Operation, arguments: String) -> CallArgs {
    let OfServer { server, tenant, session, user, wait } = of;
    let mut request = RequestArgs::of_server(server, operation, arguments);
    (request.tenant, request.session, request.user) = (tenant, session, user);
    CallArgs { request, wait, wait_ms: None }
}
