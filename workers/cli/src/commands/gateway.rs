//! `toolfleet gateway`: serves the published tools of a catalog to MCP clients until a signal stops it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_client::system_clock;
use toolfleet_config::catalog::{CatalogConfig, Place, Stores, report};
use toolfleet_config::settings::{ConfigError, milliseconds};
use toolfleet_credentials::TokenHttpClient;
use toolfleet_gateway::{CatalogSource, Gateway, GatewayArgs, Parts, Sealer, serve};

use super::tools::source::file;
use crate::connect::Connect;
use crate::exit::{CommandError, Exit};
use crate::network::{egress, local_environment, no_client};
use crate::output::Output;
use crate::secret_setting::secret_of;
use crate::signals::cancel_at_signals;

/// Options of `gateway`.
#[derive(Debug, Args)]
pub(crate) struct GatewayCommand {
    /// The catalog: a file, secret://NAME or table://KEY.
    #[arg(long, value_name = "PLACE", env = "TOOLFLEET_CATALOG", hide_env_values = true)]
    catalog: Option<String>,
    /// How often the catalog is read again.
    #[arg(
        long = "catalog-refresh", alias = "catalog-refresh-ms",
        env = "TOOLFLEET_CATALOG_REFRESH_MS",
        hide_env_values = true,
        value_name = "SPAN",
        default_value = "30s",
        value_parser = milliseconds(100, 86_400_000)
    )]
    catalog_refresh: Duration,
    #[command(flatten)]
    gateway: GatewayArgs,
}

fn wrong(error: &ConfigError) -> CommandError {
    CommandError::usage(error.to_string())
}

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(
    command: &GatewayCommand,
    connect: &Connect,
    output: &Output,
) -> Result<Exit, CommandError> {
    let args = &command.gateway;
    let documents = egress()?.http_clients().await.map_err(no_client)?;
    let authenticator =
        args.authenticator(|| TokenHttpClient::from(&documents)).map_err(|error| wrong(&error))?;
    let client = connect.client().await?.library().clone();
    let stores = Stores::new(&Aws::connect(AwsOptions::default()).await, &connect.tables(), documents);
    let sealer = sealer(args.key.as_deref(), &stores, output).await?;
    let source = catalog_source(command, connect, stores)?;
    let catalog = source.load().await.map_err(|error| CommandError::usage(format!("--catalog: {error}")))?;
    report(&catalog);
    if catalog.published().is_empty() {
        output.note("the catalog publishes no tool: add a section `publish`, see docs/reference/gateway.md");
    }
    let catalog = Arc::new(ArcSwap::from_pointee(catalog));
    let listen = args.endpoint.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        CommandError::usage(format!("TOOLFLEET_GATEWAY_LISTEN: {listen} cannot be listened on: {error}"))
    })?;
    let address = listener.local_addr().map_err(|error| CommandError::Unavailable(error.into()))?;
    let parts = Parts {
        client,
        catalog: Arc::clone(&catalog),
        authenticator,
        sealer,
        limits: args.limits(),
        now: system_clock(),
    };
    let stop = CancellationToken::new();
    cancel_at_signals(&stop).map_err(|error| CommandError::Unavailable(error.into()))?;
    let url = format!("http://{address}/mcp");
    if output.is_json() {
        output.document(&json!({"ready": true, "url": url}))?;
    }
    output.line(&format!("# MCP gateway {url}"))?;
    output.note("ready; Ctrl-C stops it");
    let followed = stop.clone();
    let follow = tokio::spawn(async move { source.follow(&catalog, &followed).await });
    let endpoint = (args.hosts(), args.bounds());
    serve(Arc::new(Gateway::new(parts)), listener, endpoint, stop.clone().cancelled_owned()).await;
    stop.cancel();
    // It ends with the token.
    let _followed = follow.await;
    Ok(Exit::Done)
}

fn catalog_source(
    command: &GatewayCommand,
    connect: &Connect,
    stores: Stores,
) -> Result<CatalogSource, CommandError> {
    let Some(place) = command.catalog.as_deref().filter(|place| !place.is_empty()) else {
        return Err(CommandError::usage(
            "give --catalog FILE (or TOOLFLEET_CATALOG), the catalog of the workers",
        ));
    };
    let folder = file(place).and_then(|path| std::path::absolute(path).ok());
    let config = CatalogConfig {
        place: Place::of(place),
        refresh: command.catalog_refresh,
        tenants: None,
        stdio: connect.allow_stdio()?,
        local_environment: folder.map(|path| local_environment(path.parent().or(Some(Path::new("/"))))),
    };
    Ok(CatalogSource { config, stores, publish_all: false })
}

async fn sealer(key: Option<&str>, stores: &Stores, output: &Output) -> Result<Sealer, CommandError> {
    let wrong = |problem: String| wrong(&ConfigError::new("TOOLFLEET_GATEWAY_KEY", problem));
    let Some(text) = secret_of("TOOLFLEET_GATEWAY_KEY", key, stores).await? else {
        output.note("TOOLFLEET_GATEWAY_KEY is not set: handles and task ids end with this process");
        return Sealer::random().map_err(|error| CommandError::Unavailable(error.into()));
    };
    Sealer::parse(&text).map_err(|error| wrong(error.to_string()))
}
