//! Owns which catalog a worker goes by, and the moment at which it goes by another.
//!
//! **Invariant:** there is always a whole, checked catalog; a call keeps the one that stood when it arrived.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use toolfleet_catalog::Catalog;

/// The catalog of a worker.
#[derive(Debug)]
pub struct CatalogHandle {
    current: RwLock<Arc<Catalog>>,
    taken: AtomicU64,
    refused: AtomicU64,
}

/// How often a worker was offered another catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloads {
    /// Taken.
    pub taken: u64,
    /// Refused, because it was wrong or could not be read.
    pub refused: u64,
}

impl CatalogHandle {
    /// A registry that begins with `catalog`.
    pub fn new(catalog: Catalog) -> Self {
        let (taken, refused) = Default::default();
        Self { current: RwLock::new(Arc::new(catalog)), taken, refused }
    }

    /// The catalog as it stands now. Keep it for as long as one decision goes on.
    pub fn current(&self) -> Arc<Catalog> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes by `catalog` from now on.
    pub(crate) fn take(&self, catalog: Catalog) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a version that was not taken.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was changed, and how often it was not.
    pub fn reloads(&self) -> Reloads {
        Reloads { taken: self.taken.load(Ordering::Relaxed), refused: self.refused.load(Ordering::Relaxed) }
    }
}
