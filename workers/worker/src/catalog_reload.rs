//! Reloads the catalog: at an interval and at SIGHUP. A version that is invalid or cannot be read is logged and counted, and the one
//! before stays in use.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use toolfleet_catalog::Catalog;
use toolfleet_config::catalog::{CatalogConfig, LoadError, Texts, report, store_written};

use crate::context::WorkerContext;

/// Looks at the catalog again, every while and at SIGHUP, until the worker drains.
pub async fn watch(context: Arc<WorkerContext>, config: CatalogConfig) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut ticks = tokio::time::interval(config.refresh);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watcher = Watcher::new(context.clone(), config);
    loop {
        let refresh = tokio::select! {
            () = context.shutdown.draining() => return Ok(()),
            _ = hangup.recv() => true,
            _ = ticks.tick() => false,
        };
        watcher.look(refresh).await;
    }
}

/// One worker's eye on its catalog.
pub struct Watcher {
    context: Arc<WorkerContext>,
    config: CatalogConfig,
    /// What was wrong the last time, so that it is said once.
    said: Option<String>,
}

impl Watcher {
    /// An eye that has seen nothing yet.
    pub const fn new(context: Arc<WorkerContext>, config: CatalogConfig) -> Self {
        Self { context, config, said: None }
    }

    /// Takes the catalog if it has changed and is right. `refresh` asks also for secrets that were read a moment ago.
    pub async fn look(&mut self, refresh: bool) {
        let found = match Texts::read(&self.config, Some(&self.context.stores), refresh).await {
            Ok(texts) if texts.digest() == *self.context.catalog.current().digest() => {
                self.said = None;
                return;
            }
            Ok(texts) => texts.parse(),
            Err(error) => Err(error),
        };
        let found = match found {
            Ok(mut catalog) => match store_written(&self.context.stores.secrets, &mut catalog).await {
                Ok(()) => Ok(catalog),
                Err(trouble) => Err(trouble.into()),
            },
            Err(error) => Err(error),
        };
        match found {
            Ok(catalog) => self.take(catalog),
            Err(error) => self.refuse(&error),
        }
    }

    fn take(&mut self, catalog: Catalog) {
        self.said = None;
        report(&catalog);
        let (servers, tools) = (catalog.servers().len(), catalog.tools().len());
        self.context.take_catalog(catalog);
        tracing::info!(catalog = %self.config.place, servers, tools, code = "catalog_taken", "the catalog has changed");
    }

    /// One bad version is counted and said once, however often it is seen.
    fn refuse(&mut self, error: &LoadError) {
        let text = error.to_string();
        if self.said.as_ref() == Some(&text) {
            return;
        }
        self.context.catalog.refuse();
        tracing::error!(
            catalog = %self.config.place, code = "catalog_refused",
            "the catalog is not taken, the one before stays: {text}"
        );
        self.said = Some(text);
    }
}
