//! The file of contexts: `toolfleet/contexts.json` in the user's configuration folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::variables::{Variables, check};
use crate::exit::CommandError;
use crate::network::variable;

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is used where nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// The variables of each.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Variables>,
}

impl Contexts {
    /// Reads the file; empty where there is none.
    pub(crate) fn read() -> Result<Self, CommandError> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            Err(error) => return Err(CommandError::usage(format!("{}: {error}", path.display()))),
        };
        let wrong = |problem: String| {
            CommandError::usage(format!("{}: {problem}; correct it, or remove the file", path.display()))
        };
        let contexts: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        for (name, variables) in &contexts.contexts {
            let checked = variables.keys().try_for_each(|variable| check(variable));
            checked.map_err(|problem| wrong(format!("contexts.{name}.{problem}")))?;
        }
        Ok(contexts)
    }

    /// Changes the file, and returns what it holds then and what `change` returns. Who changes it at the same time waits: no change is lost.
    pub(crate) fn change<T>(
        change: impl FnOnce(&mut Self) -> Result<T, CommandError>,
    ) -> Result<(Self, T), CommandError> {
        let path = path().ok_or_else(|| {
            CommandError::usage(
                "HOME is not set, so there is no place for contexts; set it, or XDG_CONFIG_HOME",
            )
        })?;
        let unwritable = |error: std::io::Error| {
            CommandError::usage(format!("{}: cannot be written: {error}", path.display()))
        };
        // Dropped at the end, whatever happens; the system drops it with the process, too.
        let _lock = locked(&path.with_extension("lock")).map_err(unwritable)?;
        let mut contexts = Self::read()?;
        let changed = change(&mut contexts)?;
        let text = serde_json::to_string_pretty(&contexts).map_err(std::io::Error::other)?;
        replace(&path, &format!("{text}\n")).map_err(unwritable)?;
        Ok((contexts, changed))
    }

    /// The variables of that context.
    pub(crate) fn get(&self, name: &str) -> Result<&Variables, CommandError> {
        self.contexts.get(name).ok_or_else(|| {
            let known: Vec<_> = self.contexts.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "there is none yet".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            };
            CommandError::usage(format!(
                "no context `{name}`: {known}; `toolfleet context set {name} NAME=VALUE` makes it"
            ))
        })
    }
}

/// Where the file is.
pub(crate) fn path() -> Option<PathBuf> {
    Some(folder("XDG_CONFIG_HOME", ".config")?.join("contexts.json"))
}

/// The folder of this program among those of that kind.
pub(super) fn folder(variable_of_kind: &str, in_home: &str) -> Option<PathBuf> {
    let set = variable(variable_of_kind).filter(|path| Path::new(path).is_absolute()).map(PathBuf::from);
    Some(set.or_else(|| Some(std::env::home_dir()?.join(in_home)))?.join("toolfleet"))
}

/// A file of that name that this process alone has locked, once others have let it go.
fn locked(path: &Path) -> std::io::Result<fs::File> {
    let file = create_private(path)?;
    file.lock()?;
    Ok(file)
}

/// Replaces a file at once, so that a reader sees the old text or the new one. Only its owner may read it. A link stays: what it leads to is
/// replaced.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = linked(path)?;
    create_folder(&path)?;
    let new = path.with_extension(format!("{}.new", std::process::id()));
    // One is left of an earlier process of that number.
    if let Err(error) = fs::remove_file(&new)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    // A new file, and not what a link of that name leads to.
    private().create_new(true).open(&new)?.write_all(text.as_bytes())?;
    fs::rename(&new, path)
}

/// Where a link leads, over other links; the path itself where it is none. What it leads to need not be there.
fn linked(path: &Path) -> std::io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or_else(|| Path::new("")).join(to),
            // It is no link, or not there.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(std::io::Error::other("leads over too many links"))
}

/// Creates a file, or empties it, with its folder. Only its owner may read it.
pub(super) fn create_private(path: &Path) -> std::io::Result<fs::File> {
    create_folder(path)?;
    private().create(true).truncate(true).open(path)
}

fn create_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn private() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.write(true).mode(0o600);
    options
}
