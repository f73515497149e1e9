//! The gateway of `toolfleet dev`: on 127.0.0.1, without tokens, for one tenant. It publishes all tools unless the catalog says which.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use toolfleet_catalog::Catalog;
use toolfleet_client::{Client, system_clock};
use toolfleet_config::catalog::{CatalogConfig, Stores};
use toolfleet_core::ids::Tenant;
use toolfleet_gateway::{
    Authenticator, Bounds, CatalogSource, Gateway, Hosts, Limits, Parts, Sealer, SessionSource,
    publish_all_of, serve,
};

use crate::exit::CommandError;
use crate::network::{http_clients, variable};

/// The tenant of calls without another one.
const TENANT: &str = "demo";

/// A running gateway.
pub(super) struct DevGateway {
    url: String,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl DevGateway {
    /// Starts it on a listener that is bound already.
    pub(super) async fn start(
        listener: TcpListener,
        client: Client,
        mut catalog: Catalog,
        config: CatalogConfig,
    ) -> Result<Self, CommandError> {
        let tenant = variable("TOOLFLEET_TENANT").filter(|tenant| !tenant.is_empty());
        let tenant = Tenant::parse(tenant.unwrap_or_else(|| TENANT.to_owned()))
            .map_err(|error| CommandError::usage(format!("TOOLFLEET_TENANT: {error}")))?;
        publish_all_of(&mut catalog);
        let address = listener.local_addr().map_err(|error| CommandError::Unavailable(error.into()))?;
        let catalog = Arc::new(ArcSwap::from_pointee(catalog));
        let gateway = Arc::new(Gateway::new(Parts {
            client,
            catalog: Arc::clone(&catalog),
            authenticator: Authenticator::Open { tenant, session: SessionSource::None },
            sealer: Sealer::random().map_err(|error| CommandError::Unavailable(error.into()))?,
            limits: Limits::default(),
            now: system_clock(),
        }));
        let stop = CancellationToken::new();
        let hosts = Hosts { loopback: true, ..Hosts::default() };
        let stopped = stop.clone().cancelled_owned();
        let serving = tokio::spawn(async move {
            serve(gateway, listener, (hosts, Bounds::of_one_machine()), stopped).await;
        });
        let stores = Stores::files(http_clients().await?);
        let source = CatalogSource { config, stores, publish_all: true };
        let followed = stop.clone();
        let following = tokio::spawn(async move { source.follow(&catalog, &followed).await });
        Ok(Self { url: format!("http://{address}/mcp"), stop, tasks: vec![serving, following] })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Stops it: requests that wait are answered with a handle.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        futures::future::join_all(self.tasks).await;
    }
}
