//! The fleets of `toolfleet dev` that run on this machine: each `dev` says in a file of its own how to join it, and holds a lock on the file
//! while it runs.
//!
//! **Invariant:** a fleet whose `dev` has ended, whatever ended it, is never joined: the system has taken its lock away. Whoever finds its file
//! removes it.

use std::fs::{self, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
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
        // Where that fails, the next command removes the file, which nobody holds a lock on then.
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
    let mut file = locked(&path)?;
    file.write_all(serde_json::to_string(&dev)?.as_bytes())?;
    Ok(Announced { path, _locked: file })
}

/// The file at that path, with a lock. Until it is locked, another command may remove it as one that was left.
fn locked(path: &Path) -> std::io::Result<File> {
    loop {
        let file = create_private(path)?;
        file.lock()?;
        if file.metadata()?.nlink() > 0 {
            return Ok(file);
        }
    }
}

/// Removes the file of a `dev` that has ended. It holds no lock, and cannot get one while this command does.
fn remove(path: &Path, file: &File) {
    let place = |file: fs::Metadata| (file.dev(), file.ino());
    if fs::metadata(path).ok().map(place) == file.metadata().ok().map(place) {
        let _gone = fs::remove_file(path);
    }
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
        // It was killed, or has not locked its file yet and then makes another.
        Ok(()) => {
            remove(path, &file);
            return None;
        }
        Err(TryLockError::Error(_)) => return None,
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some((file.metadata().ok()?.modified().ok()?, serde_json::from_str(&text).ok()?))
}

fn files() -> Option<PathBuf> {
    Some(folder("XDG_STATE_HOME", ".local/state")?.join("dev"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_lock_is_removed_and_one_with_a_lock_is_read() {
        let folder = std::env::temp_dir().join(format!("toolfleet-dev-fleets-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let dev = DevFleet { pid: 7, env: Variables::new() };
        let (left, held) = (folder.join("6.json"), folder.join("7.json"));
        fs::write(&left, "{}").unwrap();
        let mut file = locked(&held).unwrap();
        file.write_all(serde_json::to_string(&dev).unwrap().as_bytes()).unwrap();
        assert!(read(&left).is_none() && read(&held).is_some_and(|(_, read)| read == dev));
        assert!(!left.exists() && held.exists());
        drop(file);
        assert!(read(&held).is_none() && !held.exists(), "its dev has ended");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_dev_whose_file_was_removed_before_its_lock_makes_another() {
        let path = std::env::temp_dir().join(format!("toolfleet-dev-race-{}.json", std::process::id()));
        let other = create_private(&path).unwrap();
        other.lock_shared().unwrap();
        let dev = std::thread::spawn({
            let path = path.clone();
            move || locked(&path).unwrap()
        });
        // It has opened the file when it waits for the lock; or it opens one of its own after this.
        remove(&path, &other);
        drop(other);
        let file = dev.join().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), file.metadata().unwrap().ino());
        fs::remove_file(&path).unwrap();
    }
}
