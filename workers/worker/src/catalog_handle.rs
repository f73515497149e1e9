//! The catalog in use, and its exchange for another one. There is always a whole, valid catalog; a call keeps the one it began with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use toolfleet_catalog::Catalog;

/// The catalog of a worker.
#[derive(Debug)]
pub struct CatalogHandle {
    current: ArcSwap<Catalog>,
    taken: AtomicU64,
    refused: AtomicU64,
}

/// How often a worker was offered another catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloads {
    /// Taken.
    pub taken: u64,
    /// Refused, because it was invalid or could not be read.
    pub refused: u64,
}

impl CatalogHandle {
    /// A handle that begins with `catalog`.
    pub fn new(catalog: Catalog) -> Self {
        let (taken, refused) = Default::default();
        Self { current: ArcSwap::from_pointee(catalog), taken, refused }
    }

    /// The catalog now. Keep it while one decision goes on.
    pub fn current(&self) -> Arc<Catalog> {
        self.current.load_full()
    }

    /// Uses `catalog` from now on, and returns the previous one.
    pub(crate) fn take(&self, catalog: Catalog) -> Arc<Catalog> {
        let previous = self.current.swap(Arc::new(catalog));
        self.taken.fetch_add(1, Ordering::Relaxed);
        previous
    }

    /// Counts a version that was not taken.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was exchanged, and how often a version was refused.
    pub fn reloads(&self) -> Reloads {
        Reloads { taken: self.taken.load(Ordering::Relaxed), refused: self.refused.load(Ordering::Relaxed) }
    }
}
