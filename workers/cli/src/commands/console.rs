//! `toolfleet console`: serves the fleet's pages to browsers until a signal stops it.

use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_client::system_clock;
use toolfleet_config::catalog::{Place, Stores};
use toolfleet_config::settings::ConfigError;
use toolfleet_console::{Access, Console, ConsoleArgs, Parts, SessionKey, Tokens, serve};

use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::network::{egress, no_client};
use crate::output::Output;
use crate::signals::cancel_at_signals;

/// Options of `console`.
#[derive(Debug, Args)]
pub(crate) struct ConsoleCommand {
    #[command(flatten)]
    console: ConsoleArgs,
}

fn wrong(variable: &str, problem: String) -> CommandError {
    CommandError::usage(ConfigError::new(variable, problem).to_string())
}

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(
    command: &ConsoleCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let args = &command.console;
    args.check().map_err(|error| CommandError::usage(error.to_string()))?;
    let client = connect.client().await?.library().clone();
    let documents = egress()?.http_clients().await.map_err(no_client)?;
    let stores = Stores::new(&Aws::connect(AwsOptions::default()).await, &connect.tables(), documents);
    let (tokens, made) = tokens(args, &stores).await?;
    let key = key(args, &stores, output).await?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        wrong("TOOLFLEET_CONSOLE_LISTEN", format!("{} cannot be listened on: {error}", args.listen))
    })?;
    let address = listener.local_addr().map_err(|error| CommandError::Unavailable(error.into()))?;
    let access =
        Access { tokens, key, session: args.session, by_link: made.is_some(), secure: args.is_secure() };
    let console = Console::new(Parts {
        client,
        access,
        hosts: args.hosts(),
        port: address.port(),
        now: system_clock(),
    });
    let url = made.map_or_else(|| format!("http://{address}/"), |token| login_address(address, &token));
    if output.is_json() {
        output.document(&json!({"ready": true, "url": url}))?;
    }
    output.line(&format!("# console {url}"))?;
    output.note("ready; Ctrl-C stops it");
    let stop = CancellationToken::new();
    cancel_at_signals(&stop).map_err(|error| CommandError::Unavailable(error.into()))?;
    serve(Arc::new(console), listener, stop.cancelled_owned())
        .await
        .map_err(|error| CommandError::Unavailable(error.into()))?;
    Ok(Exit::Done)
}

/// The address that logs in by itself.
pub(crate) fn login_address(address: std::net::SocketAddr, token: &str) -> String {
    format!("http://{address}/?token={token}")
}

/// A token of this process alone.
pub(crate) fn new_token() -> String {
    // Two of them have 244 random bits.
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

/// The configured tokens; else a new one, which is returned with them.
async fn tokens(args: &ConsoleArgs, stores: &Stores) -> Result<(Tokens, Option<String>), CommandError> {
    let wrong = |problem: String| wrong("TOOLFLEET_CONSOLE_TOKENS", problem);
    let Some(place) = args.tokens.as_deref().map(str::trim).filter(|place| !place.is_empty()) else {
        let token = new_token();
        return Ok((Tokens::only("this machine", &token), Some(token)));
    };
    let text = stores.text(&Place::of(place)).await;
    let text = text.map_err(|error| wrong(format!("{place} cannot be read: {error}")))?;
    Ok((Tokens::parse(&text).map_err(|error| wrong(format!("{place} {error}")))?, None))
}

async fn key(args: &ConsoleArgs, stores: &Stores, output: &Output) -> Result<SessionKey, CommandError> {
    let wrong = |problem: String| wrong("TOOLFLEET_CONSOLE_KEY", problem);
    let Some(key) = args.key.as_deref().filter(|key| !key.trim().is_empty()) else {
        output.note("TOOLFLEET_CONSOLE_KEY is not set: logins end with this process");
        return SessionKey::random().map_err(|error| CommandError::Unavailable(error.into()));
    };
    let text = match Place::of(key) {
        place @ Place::Secret(_) => {
            stores.text(&place).await.map_err(|error| wrong(format!("cannot be read: {error}")))?
        }
        Place::File(_) | Place::Row(_) => key.to_owned(),
    };
    SessionKey::parse(&text).map_err(|error| wrong(error.to_string()))
}
