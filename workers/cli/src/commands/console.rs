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
use toolfleet_credentials::{SecretText, TokenHttpClient};

use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::network::{egress, no_client};
use crate::output::Output;
use crate::secret_setting::secret_of;
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
    let http = TokenHttpClient::from(&documents);
    let stores = Stores::new(&Aws::connect(AwsOptions::default()).await, &connect.tables(), documents);
    let (tokens, made) = tokens(args, &stores).await?;
    let key = key(args, &stores, output).await?;
    let secret =
        secret_of("TOOLFLEET_CONSOLE_OIDC_CLIENT_SECRET", args.oidc_client_secret.as_deref(), &stores);
    let secret = secret.await?.map(|secret| SecretText::new(secret.trim()));
    let listen = args.endpoint.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        wrong("TOOLFLEET_CONSOLE_LISTEN", format!("{listen} cannot be listened on: {error}"))
    })?;
    let address = listener.local_addr().map_err(|error| CommandError::Unavailable(error.into()))?;
    let oidc = args.oidc(address, secret, http).map_err(|error| CommandError::usage(error.to_string()))?;
    let (by_link, secure) = (made.is_some(), args.is_secure());
    let access = Access { tokens, oidc, key, session: args.session, by_link, secure };
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
    serve(Arc::new(console), listener, args.bounds(), stop.cancelled_owned()).await;
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

/// The configured tokens; else none where visitors log in at an issuer, or a new one, which is returned with them.
async fn tokens(args: &ConsoleArgs, stores: &Stores) -> Result<(Tokens, Option<String>), CommandError> {
    let wrong = |problem: String| wrong("TOOLFLEET_CONSOLE_TOKENS", problem);
    let Some(place) = args.tokens.as_deref().map(str::trim).filter(|place| !place.is_empty()) else {
        if args.has_oidc() {
            return Ok((Tokens::none(), None));
        }
        let token = new_token();
        return Ok((Tokens::only("this machine", &token), Some(token)));
    };
    let text = stores.text(&Place::of(place)).await;
    let text = text.map_err(|error| wrong(format!("{place} cannot be read: {error}")))?;
    Ok((Tokens::parse(&text).map_err(|error| wrong(format!("{place} {error}")))?, None))
}

async fn key(args: &ConsoleArgs, stores: &Stores, output: &Output) -> Result<SessionKey, CommandError> {
    let wrong = |problem: String| wrong("TOOLFLEET_CONSOLE_KEY", problem);
    let Some(text) = secret_of("TOOLFLEET_CONSOLE_KEY", args.key.as_deref(), stores).await? else {
        output.note("TOOLFLEET_CONSOLE_KEY is not set: logins end with this process");
        return SessionKey::random().map_err(|error| CommandError::Unavailable(error.into()));
    };
    SessionKey::parse(&text).map_err(|error| wrong(error.to_string()))
}
