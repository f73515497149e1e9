//! The fleets of `toolfleet dev` that run on this machine: each `dev` says in a file of its own how to join it, and holds a lock on the file
//! while it runs.
//!
//! **Invariant:** a fleet whose `dev` has ended, whatever ended it, is never joined: the system has taken its lock away.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::file::{create_private, folder};
use super::variables::Variables;

/// A running `dev`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DevFleet {
    /// Its process.
    pub(crate) pid: u32,
    /// The variables with which programs use it.
    pub(crate) env: Variables,
}

/// The file of a `dev`, taken away when it is dropped.
#[derive(Debug)]
pub(crate) struct Announced {
    path: PathBuf,
    _locked: File,
}

impl Drop for Announced {
    fn drop(&mut self) {
        // Without it, the file of a `dev` without a lock is left, which the next command takes away.
        let _gone = fs::remove_file(&self.path);
    }
}

/// Says that a `dev` with those variables runs.
///
/// # Errors
/// The file cannot be written: other terminals need the variables then.
pub(crate) fn announce(env: Variables) -> std::io::Result<Announced> {
    let folder = files().ok_or_else(|| std::io::Error::other("HOME is not set"))?;
    let dev = DevFleet { pid: std::process::id(), env };
    let path = folder.join(format!("{}.json", dev.pid));
    let mut file = create_private(&path)?;
    file.lock()?;
    file.write_all(serde_json::to_string(&dev)?.as_bytes())?;
    Ok(Announced { path, _locked: file })
}

/// The `dev` that runs; of several, the one that was started last.
pub(crate) fn running() -> Option<DevFleet> {
    let entries = fs::read_dir(files()?).ok()?;
    let mut found: Vec<_> = entries.filter_map(|entry| read(&entry.ok()?.path())).collect();
    found.sort_by_key(|(started, _)| *started);
    found.pop().map(|(_, dev)| dev)
}

/// What that file says, and since when, if its `dev` still runs.
fn read(path: &Path) -> Option<(SystemTime, DevFleet)> {
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        // It was killed, or has not locked its file yet.
        Ok(()) | Err(TryLockError::Error(_)) => return None,
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some((file.metadata().ok()?.modified().ok()?, serde_json::from_str(&text).ok()?))
}

fn files() -> Option<PathBuf> {
    Some(folder("XDG_STATE_HOME", ".local/state")?.join("dev"))
}
