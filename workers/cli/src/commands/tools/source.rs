//! Owns the reading of a catalog for a command, from where a worker would read it.
//!
//! **Invariant:** AWS is asked only for secrets that the catalog names.

use std::path::PathBuf;

use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_core::catalog::Catalog;
use toolfleet_worker::catalog::{CatalogConfig, LoadError, Place, REFRESH, Texts};

use crate::ending::Failure;

/// The texts of the catalog at `place`, and the catalog they make.
pub(super) async fn read(place: &str) -> Result<(Texts, Catalog), Failure> {
    let config = CatalogConfig { place: Place::of(place), refresh: REFRESH, tenants: None };
    let texts = match Texts::read(&config, None, false).await {
        Err(LoadError::NoSecrets(_)) => {
            let secrets = Aws::connect(AwsOptions::default()).await.secrets();
            Texts::read(&config, Some(&secrets), false).await
        }
        read => read,
    };
    let texts = texts.map_err(|error| failure(place, error))?;
    let catalog = texts.catalog().map_err(|error| failure(place, error.into()))?;
    Ok((texts, catalog))
}

/// The file to write, where the catalog is one.
pub(super) fn file(place: &str) -> Option<PathBuf> {
    match Place::of(place) {
        Place::File(path) => Some(path),
        Place::Secret(_) => None,
    }
}

fn failure(place: &str, error: LoadError) -> Failure {
    match error {
        LoadError::Secret(trouble) => trouble.into(),
        LoadError::File { .. } => Failure::usage(format!("--catalog: {error}")),
        LoadError::Wrong(_) | LoadError::NamesNobody | LoadError::NoSecrets(_) => {
            Failure::usage(format!("{place}: {error}"))
        }
    }
}
