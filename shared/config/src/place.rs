//! Where the texts of a catalog are (a file, a secret, a row), and reading one.

use std::fmt;
use std::path::{Path, PathBuf};

use toolfleet_aws::AwsError;
use toolfleet_aws::catalogs::Catalogs;
use toolfleet_aws::secrets::Secrets;
use toolfleet_catalog::{CatalogError, decode};

/// Where a catalog is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// A secret of Secrets Manager, by name or ARN.
    Secret(String),
    /// A row of the catalog table, by its key.
    Row(String),
}

/// The clients that read a text which is in AWS.
#[derive(Debug, Clone)]
pub(crate) struct AwsStores {
    pub(crate) secrets: Secrets,
    pub(crate) catalogs: Catalogs,
}

/// Why there is no catalog.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("cannot read {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        why: std::io::Error,
    },
    /// A file is not text.
    #[error("{path}: {why}")]
    NoText {
        /// The file.
        path: String,
        /// What it is, and the remedy.
        why: String,
    },
    /// A secret or a row cannot be read.
    #[error(transparent)]
    Stored(#[from] AwsError),
    /// It needs a secret or a row, and there is no client to read one with.
    #[error("{0} is needed, and only files are at hand")]
    OnlyFiles(String),
    /// It is invalid.
    #[error(transparent)]
    Wrong(#[from] CatalogError),
    /// The thread that parsed it has ended.
    #[error("the parsing of the catalog has ended without a result")]
    Interrupted,
    /// It allows no tenant.
    #[error(
        "catalog: tenants: an array of tools, and another program's file, do not say who may speak for whom; set TOOLFLEET_TENANTS \
         (`acme,globex`, or `*`), or put the array under `pika` or `idp` of a catalog with `tenants`"
    )]
    NamesNobody,
}

impl Place {
    /// The place a text names: `secret://name`, `table://key`, or a path.
    pub fn of(text: &str) -> Self {
        match (text.strip_prefix("secret://"), text.strip_prefix("table://")) {
            (Some(name), _) => Self::Secret(name.to_owned()),
            (None, Some(key)) => Self::Row(key.to_owned()),
            (None, None) => Self::File(PathBuf::from(text)),
        }
    }

    /// The same, where a path is relative to this place.
    pub(crate) fn beside(&self, text: &str) -> Self {
        match (Self::of(text), self) {
            (Self::File(path), Self::File(own)) => {
                Self::File(own.parent().unwrap_or_else(|| Path::new("")).join(path))
            }
            (place, _) => place,
        }
    }

    /// The text there; `refresh` reads a secret again that is in the cache.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) async fn read(&self, aws: Option<&AwsStores>, refresh: bool) -> Result<String, LoadError> {
        let aws = || aws.ok_or_else(|| LoadError::OnlyFiles(self.to_string()));
        match self {
            Self::Row(key) => Ok(aws()?.catalogs.read(key).await?),
            Self::File(path) => {
                let shown = || path.display().to_string();
                match tokio::fs::read(path).await {
                    Ok(bytes) => decode(bytes).map_err(|why| LoadError::NoText { path: shown(), why }),
                    Err(why) if why.kind() == std::io::ErrorKind::IsADirectory => {
                        let why =
                            "is a directory; name the file in it, for example `mcp.json` or `catalog.json`";
                        Err(LoadError::NoText { path: shown(), why: why.to_owned() })
                    }
                    Err(why) => Err(LoadError::File { path: shown(), why }),
                }
            }
            Self::Secret(name) => {
                let secrets = &aws()?.secrets;
                let secret = if refresh { secrets.refresh(name).await } else { secrets.get(name).await };
                Ok(secret?.expose().to_owned())
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Secret(name) => write!(f, "secret://{name}"),
            Self::Row(key) => write!(f, "table://{key}"),
        }
    }
}
