//! Reads the catalog of a command from a file, a secret or a table row, as a worker does. AWS is used only for the latter two.

use std::path::{Path, PathBuf};

use toolfleet_aws::{Aws, AwsOptions};
use toolfleet_catalog::Catalog;
use toolfleet_config::catalog::{CatalogConfig, LoadError, Place, REFRESH, Stores, Texts};
use toolfleet_config::documents::{DocumentPlace, Unread};
use url::Url;

use crate::connect::Connect;
use crate::exit::CommandError;
use crate::network::{http_clients, local_environment};

/// The texts of the catalog at `place`, and the catalog they make. A file is read as `toolfleet dev` reads it.
pub(in crate::commands) async fn read(
    place: &str,
    connect: &Connect,
) -> Result<(Texts, Catalog), CommandError> {
    let texts = texts("--catalog", place, connect).await?;
    let catalog = texts.catalog().map_err(|error| failure("--catalog", place, error.into()))?;
    Ok((texts, catalog))
}

/// The texts of the catalog at `place`, which the command calls `option`.
pub(super) async fn texts(option: &str, place: &str, connect: &Connect) -> Result<Texts, CommandError> {
    let stdio = connect.allow_stdio()?;
    let found = Place::of(place);
    let local_environment = file(place)
        .map(|path| local_environment(std::path::absolute(path).ok().as_deref().and_then(Path::parent)));
    let config = CatalogConfig { place: found, refresh: REFRESH, tenants: None, stdio, local_environment };
    let clients = http_clients().await?;
    let texts = match Texts::read(&config, &Stores::files(clients), false).await {
        Err(LoadError::OnlyFiles(_)) => Texts::read(&config, &of_aws(connect).await?, false).await,
        read => read,
    };
    texts.map_err(|error| failure(option, place, error))
}

/// The text of an OpenAPI document at `place`, which the command calls `option`; with its address, where it is at one.
pub(super) async fn document(
    option: &str,
    place: &str,
    connect: &Connect,
) -> Result<(String, Option<Url>), CommandError> {
    let files = Stores::files(http_clients().await?);
    let read = match files.document(place).await {
        Err(Unread::Store(LoadError::OnlyFiles(_))) => of_aws(connect).await?.document(place).await,
        read => read,
    };
    match read {
        Ok(text) => Ok((text, DocumentPlace::address(place))),
        Err(Unread::Document(why)) => Err(CommandError::usage(format!("{option}: {place} {why}"))),
        Err(Unread::Store(error)) => Err(failure(option, place, error)),
    }
}

async fn of_aws(connect: &Connect) -> Result<Stores, CommandError> {
    let aws = Aws::connect(AwsOptions::default()).await;
    Ok(Stores::new(&aws, &connect.tables(), http_clients().await?))
}

/// The file to write, where the catalog is one.
pub(in crate::commands) fn file(place: &str) -> Option<PathBuf> {
    match Place::of(place) {
        Place::File(path) => Some(path),
        Place::Secret(_) | Place::Row(_) => None,
    }
}

fn failure(option: &str, place: &str, error: LoadError) -> CommandError {
    match error {
        LoadError::Stored(error) => error.into(),
        LoadError::File { .. } | LoadError::NoText { .. } => {
            CommandError::usage(format!("{option}: {error}"))
        }
        LoadError::Wrong(_) | LoadError::NamesNobody | LoadError::OnlyFiles(_) | LoadError::Interrupted => {
            CommandError::usage(format!("{place}: {error}"))
        }
    }
}
