//! Owns where a catalog comes from, its reading, and its watching: a file, a secret or a row, with what its sections name.
//!
//! **Invariant:** a version that is wrong or cannot be read changes nothing but a count and a log line.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use toolfleet_aws::catalogs::Catalogs;
use toolfleet_aws::secrets::Secrets;
use toolfleet_aws::{Aws, AwsError, Tables};
use toolfleet_catalog::{Catalog, CatalogError, CatalogSources, Laptop, Literals, Programs, decode};
use toolfleet_core::digest::Digest;

use crate::context::WorkerContext;

/// How often a catalog is looked at again unless the configuration says otherwise.
pub const REFRESH: Duration = Duration::from_secs(30);

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

/// Whom to ask for what is not a file.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Secrets Manager.
    pub secrets: Secrets,
    /// The catalog table.
    pub catalogs: Catalogs,
}

/// Which catalog a worker goes by.
#[derive(Debug, Clone)]
pub struct CatalogConfig {
    /// Where it is.
    pub place: Place,
    /// How often it is looked at again.
    pub refresh: Duration,
    /// The tenants of a catalog that has no `tenants` of its own.
    pub tenants: Option<Vec<String>>,
    /// Whether it may name programs to be started; not said, only one in a file may.
    pub stdio: Option<bool>,
    /// The machine of somebody who tries it out: placeholders are filled in, and secrets that it writes out are stored.
    pub laptop: Option<Laptop>,
}

impl CatalogConfig {
    /// Whoever can write a file on the worker's machine can start programs there; who can write a table or a secret need not.
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
    /// A file is no text.
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
    /// It is no file, or names what is none, and there is nobody to ask for it.
    #[error("{0} is needed, and only files are at hand")]
    OnlyFiles(Place),
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] CatalogError),
    /// It lets nobody speak.
    #[error(
        "catalog: tenants: an array of tools, and another program's file, do not say who may speak for whom; set TOOLFLEET_TENANTS \
         (`acme,globex`, or `*`), or put the array under `pika` or `idp` of a catalog with `tenants`"
    )]
    NamesNobody,
}

impl Stores {
    /// Those of a fleet.
    pub fn new(aws: &Aws, tables: &Tables) -> Self {
        Self { secrets: aws.secrets(), catalogs: aws.catalogs(tables) }
    }
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

    /// The same, where a path is meant from beside this place.
    fn beside(&self, text: &str) -> Self {
        match (Self::of(text), self) {
            (Self::File(path), Self::File(own)) => {
                Self::File(own.parent().unwrap_or_else(|| Path::new("")).join(path))
            }
            (place, _) => place,
        }
    }

    async fn read(&self, stores: Option<&Stores>, anew: bool) -> Result<String, LoadError> {
        let stores = || stores.ok_or_else(|| LoadError::OnlyFiles(self.clone()));
        match self {
            Self::Row(key) => Ok(stores()?.catalogs.read(key).await?),
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
                let secrets = &stores()?.secrets;
                let secret = if anew { secrets.refresh(name).await } else { secrets.get(name).await };
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

impl From<PathBuf> for CatalogConfig {
    fn from(path: PathBuf) -> Self {
        Self { place: Place::File(path), refresh: REFRESH, tenants: None, stdio: None, laptop: None }
    }
}

/// All the texts of one version of a catalog.
pub struct Texts {
    /// Its own.
    pub text: String,
    /// Those of its sections that stand elsewhere.
    pub material: CatalogSources,
}

impl Texts {
    /// Reads them; `anew` asks also for secrets that were read a moment ago.
    pub async fn read(
        config: &CatalogConfig,
        stores: Option<&Stores>,
        anew: bool,
    ) -> Result<Self, LoadError> {
        let text = config.place.read(stores, anew).await?;
        let mut material = CatalogSources {
            tenants: config.tenants.clone(),
            programs: config.programs(),
            literals: config.literals(),
            laptop: config.laptop.clone(),
            ..CatalogSources::default()
        };
        for name in Catalog::references(&text)? {
            let included = config.place.beside(&name).read(stores, anew).await?;
            material.included.insert(name, included);
        }
        Ok(Self { text, material })
    }

    fn digest(&self) -> Digest {
        self.material.digest_with(&self.text)
    }

    /// The catalog, whoever may speak.
    pub fn catalog(&self) -> Result<Catalog, CatalogError> {
        Catalog::parse_with(&self.text, &self.material)
    }

    fn parse(&self) -> Result<Catalog, LoadError> {
        let catalog = self.catalog()?;
        if catalog.names_nobody() {
            return Err(LoadError::NamesNobody);
        }
        Ok(catalog)
    }
}

/// Reads and checks the catalog.
pub async fn load(config: &CatalogConfig, stores: &Stores) -> Result<Catalog, LoadError> {
    let mut catalog = Texts::read(config, Some(stores), false).await?.parse()?;
    store_written(&stores.secrets, &mut catalog).await?;
    report(&catalog);
    Ok(catalog)
}

/// Stores the secrets that a catalog on a laptop wrote out, before anything is called with them.
pub async fn store_written(secrets: &Secrets, catalog: &mut Catalog) -> Result<(), AwsError> {
    for written in catalog.take_written_secrets() {
        secrets.store(&written.name, written.value.expose()).await?;
    }
    Ok(())
}

/// So many lines about one catalog are logged.
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

/// Looks at the catalog again, every while and at SIGHUP, until the worker drains.
pub async fn watch(context: Arc<WorkerContext>, config: CatalogConfig) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut ticks = tokio::time::interval(config.refresh);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watcher = Watcher::new(context.clone(), config);
    loop {
        let anew = tokio::select! {
            () = context.shutdown.draining() => return Ok(()),
            _ = hangup.recv() => true,
            _ = ticks.tick() => false,
        };
        watcher.look(anew).await;
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

    /// Takes the catalog if it has changed and is right. `anew` asks also for secrets that were read a moment ago.
    pub async fn look(&mut self, anew: bool) {
        let found = match Texts::read(&self.config, Some(&self.context.stores), anew).await {
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
