//! Catalog sources: where a catalog is (a file, a secret, a row), reading it with the sections it names, and checking it.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};
use toolfleet_aws::secrets::Secrets;
use toolfleet_aws::{Aws, AwsError, Tables};
use toolfleet_catalog::{
    Catalog, CatalogError, CatalogSources, Literals, LocalEnvironment, Programs, References,
};
use toolfleet_core::digest::Digest;
use toolfleet_egress::HttpClients;

use crate::documents::{Documents, Unread};
use crate::place::AwsStores;
pub use crate::place::{LoadError, Place};
use crate::settings::{ConfigError, milliseconds, true_or_false};

/// How often a catalog is read again unless the configuration says otherwise.
pub const REFRESH: Duration = Duration::from_secs(30);

/// The clients that read a catalog and what it names.
#[derive(Debug, Clone)]
pub struct Stores {
    aws: Option<AwsStores>,
    documents: Documents,
}

/// Which catalog a worker uses.
#[derive(Debug, Clone)]
pub struct CatalogConfig {
    /// Where it is.
    pub place: Place,
    /// How often it is read again.
    pub refresh: Duration,
    /// The tenants of a catalog that has no `tenants` of its own.
    pub tenants: Option<Vec<String>>,
    /// Whether it may name programs to be started; unset, only a catalog in a file may.
    pub stdio: Option<bool>,
    /// A developer's machine: placeholders are filled in, and secrets that the catalog writes out are stored.
    pub local_environment: Option<LocalEnvironment>,
}

impl CatalogConfig {
    /// Whoever can write a file on the worker's machine can start programs there. Whoever can write a table or a secret need not be
    /// able to.
    const fn programs(&self) -> Programs {
        match (self.stdio, &self.place) {
            (Some(true), _) | (None, Place::File(_)) => Programs::Allowed,
            (Some(false), _) | (None, Place::Secret(_) | Place::Row(_)) => Programs::Refused,
        }
    }
}

impl CatalogConfig {
    /// A file is read, copied and committed by many; a secret and a row are read by the workers' role.
    const fn literals(&self) -> Literals {
        match &self.place {
            Place::File(_) => Literals::Refused,
            Place::Secret(_) | Place::Row(_) => Literals::Accepted,
        }
    }
}

/// The declarations of these settings.
#[derive(Debug, Args)]
#[command(next_help_heading = "Catalog")]
pub struct CatalogArgs {
    /// The catalog: the path of a file, secret://NAME or table://KEY (required).
    #[arg(long, env = "TOOLFLEET_CATALOG", hide_env_values = true, value_name = "PLACE")]
    catalog: Option<String>,
    /// How often the catalog is read again, in milliseconds. SIGHUP reads it at once.
    #[arg(
        long = "catalog-refresh-ms",
        env = "TOOLFLEET_CATALOG_REFRESH_MS",
        hide_env_values = true,
        value_name = "MS",
        default_value = "30000",
        value_parser = milliseconds(100, 86_400_000)
    )]
    catalog_refresh: Duration,
    /// Whether the catalog may name programs to be started. Unset, only a catalog in a file may.
    #[arg(
        long,
        env = "TOOLFLEET_ALLOW_STDIO",
        hide_env_values = true,
        value_name = "true|false",
        action = ArgAction::Set,
        value_parser = true_or_false
    )]
    allow_stdio: Option<bool>,
    /// The tenants of a catalog that names none: a list separated by commas, or *.
    #[arg(long, env = "TOOLFLEET_TENANTS", hide_env_values = true, value_name = "TENANTS", value_parser = tenants)]
    tenants: Option<Tenants>,
}

impl CatalogConfig {
    /// The settings of these arguments.
    ///
    /// # Errors
    /// No catalog is named.
    pub fn of(args: CatalogArgs) -> Result<Self, ConfigError> {
        let needed = "is not set; give the path of the catalog file, secret://NAME or table://KEY (servers, tools, tenants)";
        let place = args.catalog.ok_or_else(|| ConfigError::new("TOOLFLEET_CATALOG", needed))?;
        Ok(Self {
            place: Place::of(&place),
            refresh: args.catalog_refresh,
            tenants: args.tenants.map(|tenants| tenants.0),
            stdio: args.allow_stdio,
            local_environment: None,
        })
    }
}

/// The names of tenants.
#[derive(Debug, Clone)]
struct Tenants(Vec<String>);

fn tenants(text: &str) -> Result<Tenants, Infallible> {
    Ok(Tenants(text.split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()))
}

impl Stores {
    /// The clients of that connection. Addresses are asked with `clients`.
    pub fn new(aws: &Aws, tables: &Tables, clients: HttpClients) -> Self {
        let documents = Documents::new(clients, Some(aws.object_reader()));
        Self { aws: Some(AwsStores { secrets: aws.secrets(), catalogs: aws.catalogs(tables) }), documents }
    }

    /// The text at `place`.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn text(&self, place: &Place) -> Result<String, LoadError> {
        place.read(self.aws.as_ref(), false).await
    }

    /// The text of an OpenAPI document; a path is relative to the current folder.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn document(&self, name: &str) -> Result<String, Unread> {
        self.documents.read(name, &Place::File(PathBuf::new()), self.aws.as_ref(), true).await
    }

    /// Files, and what they name at addresses. Whatever is in AWS is [`LoadError::OnlyFiles`].
    pub fn files(clients: HttpClients) -> Self {
        Self { aws: None, documents: Documents::new(clients, None) }
    }
}

impl From<PathBuf> for CatalogConfig {
    fn from(path: PathBuf) -> Self {
        Self {
            place: Place::File(path),
            refresh: REFRESH,
            tenants: None,
            stdio: None,
            local_environment: None,
        }
    }
}

/// All the texts of one version of a catalog.
pub struct Texts {
    /// Its own.
    pub text: String,
    /// Those of its sections that are stored elsewhere.
    pub sources: CatalogSources,
}

impl Texts {
    /// Reads them; `refresh` reads secrets again that are in the cache.
    pub async fn read(config: &CatalogConfig, stores: &Stores, refresh: bool) -> Result<Self, LoadError> {
        let text = config.place.read(stores.aws.as_ref(), refresh).await?;
        let mut sources = CatalogSources {
            tenants: config.tenants.clone(),
            programs: config.programs(),
            literals: config.literals(),
            local_environment: config.local_environment.clone(),
            ..CatalogSources::default()
        };
        let (text, names) = beside_runtime(move || {
            let names = Catalog::references(&text);
            (text, names)
        })
        .await?;
        let References { sections, documents } = names?;
        for name in sections {
            let included = config.place.beside(&name).read(stores.aws.as_ref(), refresh).await?;
            sources.included.insert(name, included);
        }
        for name in documents {
            match stores.documents.read(&name, &config.place, stores.aws.as_ref(), refresh).await {
                Ok(text) => drop(sources.included.insert(name, text)),
                Err(Unread::Document(why)) => drop(sources.unread.insert(name, why)),
                Err(Unread::Store(error)) => return Err(error),
            }
        }
        Ok(Self { text, sources })
    }

    /// Tells one version of the texts from another.
    pub fn digest(&self) -> Digest {
        self.sources.digest_with(&self.text)
    }

    /// The catalog, unless it is that of `current`; parsed and checked on a blocking thread. Schemas of `current` are not checked again.
    ///
    /// # Errors
    /// The texts are no valid catalog, or one that allows no tenant.
    pub async fn parse_changed(mut self, current: Arc<Catalog>) -> Result<Option<Catalog>, LoadError> {
        beside_runtime(move || {
            if self.digest() == *current.digest() {
                return Ok(None);
            }
            self.sources.known = current.known_schemas();
            self.sources.interfaces = current.known_interfaces();
            self.parse().map(Some)
        })
        .await?
    }

    /// The catalog, whatever its tenants are.
    pub fn catalog(&self) -> Result<Catalog, CatalogError> {
        Catalog::parse_with(&self.text, &self.sources)
    }

    /// The catalog; one that allows no tenant is an error.
    pub fn parse(&self) -> Result<Catalog, LoadError> {
        let catalog = self.catalog()?;
        if catalog.names_nobody() {
            return Err(LoadError::NamesNobody);
        }
        Ok(catalog)
    }
}

/// What `work` gives, done on a blocking thread.
async fn beside_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, LoadError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| LoadError::Interrupted)
}

/// Reads and checks the catalog.
pub async fn load(config: &CatalogConfig, stores: &Stores) -> Result<Catalog, LoadError> {
    let texts = Texts::read(config, stores, false).await?;
    let mut catalog = beside_runtime(move || texts.parse()).await??;
    if let Some(AwsStores { secrets, .. }) = &stores.aws {
        store_written(secrets, &mut catalog).await?;
    }
    report(&catalog);
    Ok(catalog)
}

/// Stores the secrets that a developer's catalog wrote out, before anything is called with them.
pub async fn store_written(secrets: &Secrets, catalog: &mut Catalog) -> Result<(), AwsError> {
    for written in catalog.take_written_secrets() {
        secrets.store(&written.name, written.value.expose()).await?;
    }
    Ok(())
}

/// The most lines that are logged about one catalog.
const MOST_LINES: usize = 100;

/// Logs what of a catalog cannot be called, and what of it has no effect.
pub fn report(catalog: &Catalog) {
    let servers = catalog.not_executable_servers().map(|(id, found)| (format!("server `{id}`"), found));
    let tools = catalog.not_executable_tools().map(|(id, found)| (format!("tool `{id}`"), found));
    for (what, found) in servers.chain(tools).take(MOST_LINES) {
        tracing::warn!(
            entry = found.entry,
            code = "not_executable",
            "{what} cannot be called: {}",
            found.reason
        );
    }
    for remark in catalog.remarks().iter().take(MOST_LINES) {
        tracing::warn!(code = "catalog_remark", "{}: {}", remark.entry, remark.text);
    }
}
