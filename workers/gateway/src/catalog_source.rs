//! The catalog that a gateway publishes from: read at the start, and again now and then. A catalog that is invalid is not taken.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use toolfleet_catalog::Catalog;
use toolfleet_config::catalog::{CatalogConfig, LoadError, Stores, Texts};

/// Reads a catalog.
pub struct CatalogSource {
    /// Where it is, and how often it is read.
    pub config: CatalogConfig,
    /// What reads it and what it names.
    pub stores: Stores,
    /// Whether all is published where the catalog does not say what is: for `toolfleet dev`.
    pub publish_all: bool,
}

/// Publishes all that a catalog registers, if it does not say what is published. Names that clash publish nothing.
pub fn publish_all_of(catalog: &mut Catalog) {
    if let Err(error) = catalog.publish_all_unless_chosen() {
        tracing::warn!(%error, "the gateway publishes no tool; say in `publish` of the catalog what is published");
    }
}

impl CatalogSource {
    /// The catalog now.
    ///
    /// # Errors
    /// It cannot be read, or is invalid.
    pub async fn load(&self) -> Result<Catalog, LoadError> {
        let texts = Texts::read(&self.config, &self.stores, false).await?;
        self.parse(texts).await
    }

    async fn parse(&self, texts: Texts) -> Result<Catalog, LoadError> {
        let publish_all = self.publish_all;
        let parse = move || {
            let mut catalog = texts.catalog()?;
            if publish_all {
                publish_all_of(&mut catalog);
            }
            Ok(catalog)
        };
        tokio::task::spawn_blocking(parse).await.map_err(|_| LoadError::Interrupted)?
    }

    /// Reads it again and again until `stop`, and exchanges it when it has changed.
    pub async fn follow(&self, current: &ArcSwap<Catalog>, stop: &CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.config.refresh) => {}
            }
            let read = Texts::read(&self.config, &self.stores, false).await;
            let changed = match read {
                Ok(texts) if texts.digest() == *current.load().digest() => continue,
                Ok(texts) => self.parse(texts).await,
                Err(error) => Err(error),
            };
            match changed {
                Ok(catalog) => {
                    tracing::info!(
                        digest = catalog.digest().short(12),
                        code = "catalog_taken",
                        "the catalog is exchanged"
                    );
                    current.store(Arc::new(catalog));
                }
                Err(error) => {
                    tracing::error!(%error, code = "catalog_refused", "the catalog cannot be used; the one before is kept");
                }
            }
        }
    }
}
