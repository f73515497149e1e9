//! Reloads the catalog: at an interval and at SIGHUP. A version that is invalid or cannot be read is logged and counted, and the one
//! before stays in use. Texts are parsed and checked on a blocking thread, so calls go on meanwhile.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use toolfleet_catalog::Catalog;
use toolfleet_config::catalog::{CatalogConfig, LoadError, Texts, report, store_written};

use super::Service;
use crate::context::WorkerContext;
use crate::shutdown::Shutdown;

/// The service that reloads the catalog.
pub struct CatalogReload {
    context: Arc<WorkerContext>,
    config: CatalogConfig,
    /// Whether SIGHUP reloads at once.
    sighup: bool,
}

impl CatalogReload {
    /// The reload of that worker's catalog.
    pub const fn new(context: Arc<WorkerContext>, config: CatalogConfig, sighup: bool) -> Self {
        Self { context, config, sighup }
    }

    async fn watch(&self, shutdown: &Shutdown) -> std::io::Result<()> {
        let mut hangup = if self.sighup { Some(signal(SignalKind::hangup())?) } else { None };
        let mut ticks = tokio::time::interval(self.config.refresh);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watcher = Watcher::new(self.context.clone(), self.config.clone());
        loop {
            let hung_up = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            let refresh = tokio::select! {
                () = shutdown.draining() => return Ok(()),
                _ = hung_up => true,
                _ = ticks.tick() => false,
            };
            watcher.look(refresh).await;
        }
    }
}

impl Service for CatalogReload {
    fn name(&self) -> &'static str {
        "catalog reload"
    }

    async fn run(&self, shutdown: &Shutdown) {
        if let Err(error) = Box::pin(self.watch(shutdown)).await {
            tracing::error!(%error, code = "catalog_reload_failed", "the catalog is not reloaded: SIGHUP cannot be received");
        }
    }
}

/// Compares the stored catalog with the one in use.
pub struct Watcher {
    context: Arc<WorkerContext>,
    config: CatalogConfig,
    /// The last error, so that it is logged once.
    logged: Option<String>,
}

impl Watcher {
    /// A watcher that has read nothing yet.
    pub const fn new(context: Arc<WorkerContext>, config: CatalogConfig) -> Self {
        Self { context, config, logged: None }
    }

    /// Takes the catalog if it has changed and is valid. `refresh` reads secrets again that are in the cache.
    pub async fn look(&mut self, refresh: bool) {
        let found = match Texts::read(&self.config, &self.context.stores, refresh).await {
            Ok(texts) => texts.parse_changed(self.context.catalog.current()).await,
            Err(error) => Err(error),
        };
        let found = match found {
            Ok(None) => {
                self.logged = None;
                return;
            }
            Ok(Some(mut catalog)) => match store_written(&self.context.secrets, &mut catalog).await {
                Ok(()) => Ok(catalog),
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error),
        };
        match found {
            Ok(catalog) => self.take(catalog),
            Err(error) => self.refuse(&error),
        }
    }

    fn take(&mut self, catalog: Catalog) {
        self.logged = None;
        report(&catalog);
        let (servers, tools) = (catalog.servers().len(), catalog.tools().len());
        let previous = self.context.take_catalog(catalog);
        // Its memory is freed here unless a call still uses it, which takes milliseconds for thousands of tools.
        drop(tokio::task::spawn_blocking(move || drop(previous)));
        tracing::info!(catalog = %self.config.place, servers, tools, code = "catalog_taken", "the catalog has changed");
    }

    /// One invalid version is counted and logged once, however often it is read.
    fn refuse(&mut self, error: &LoadError) {
        let text = error.to_string();
        if self.logged.as_ref() == Some(&text) {
            return;
        }
        self.context.catalog.refuse();
        tracing::error!(
            catalog = %self.config.place, code = "catalog_refused",
            "the catalog is not taken, the one before stays: {text}"
        );
        self.logged = Some(text);
    }
}
