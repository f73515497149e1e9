//! Append-only files that keep queues and secrets across restarts: one line of JSON for each change.
//!
//! A change is handed to the operating system before its request is answered, so an acknowledged send survives `kill -9`.
//! It is not forced to the disk: after a power cut the last changes may be missing.
//!
//! **Invariant:** a written line is never changed. A file is replaced as a whole, by a rename.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Below this size a file is not worth rewriting.
const REWRITE_ABOVE_BYTES: u64 = 64 * 1024 * 1024;

/// Why a journal cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("{path} cannot be read or written; give a directory that this user may write to", path = path.display())]
    Io {
        /// The journal file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// A line before the last is no change: the file was damaged or written by another version.
    #[error("{path}, line {line}, cannot be understood; move the file away to start empty", path = path.display())]
    Damaged {
        /// The journal file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// An open journal of changes of type `C`.
#[derive(Debug)]
pub(crate) struct Journal<C> {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Size right after the last rewrite: what is live, more or less.
    live_bytes: u64,
    changes: PhantomData<fn(C)>,
}

impl<C: Serialize + DeserializeOwned> Journal<C> {
    /// The changes in a file, oldest first; none if there is no file. A torn last line was never acknowledged and is dropped.
    pub(crate) fn read(path: &Path) -> Result<Vec<C>, JournalError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(JournalError::Io { path: path.to_owned(), source });
            }
        };
        let mut changes = Vec::new();
        let whole_bytes = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at.saturating_add(1));
        let (whole, _torn) = text.split_at(whole_bytes);
        for (at, line) in whole.split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let change = serde_json::from_slice(line).map_err(|source| JournalError::Damaged {
                path: path.to_owned(),
                line: at.saturating_add(1),
                source,
            })?;
            changes.push(change);
        }
        Ok(changes)
    }

    /// Replaces the file by one with `snapshot` only, and keeps it open for further changes.
    pub(crate) fn rewrite(path: &Path, snapshot: &[C]) -> Result<Self, JournalError> {
        let failed = |source| JournalError::Io { path: path.to_owned(), source };
        let lines = lines_of(snapshot).map_err(failed)?;
        let fresh = path.with_extension("new");
        let mut file = private_file(&fresh).map_err(failed)?;
        file.write_all(&lines).map_err(failed)?;
        // The old file goes with the rename, so here, and only here, the new one has to be on the disk first.
        file.sync_data().map_err(failed)?;
        std::fs::rename(&fresh, path).map_err(failed)?;
        let bytes = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Ok(Self { file, path: path.to_owned(), bytes, live_bytes: bytes, changes: PhantomData })
    }

    /// Adds changes, in one write. They are with the operating system when this returns.
    pub(crate) fn append(&mut self, changes: &[C]) -> io::Result<()> {
        let lines = lines_of(changes)?;
        if let Err(error) = self.file.write_all(&lines) {
            // Half a line in the middle would make the whole file unreadable.
            self.file.set_len(self.bytes)?;
            self.file.seek(io::SeekFrom::Start(self.bytes))?;
            return Err(error);
        }
        self.bytes = self.bytes.saturating_add(u64::try_from(lines.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Rewrites the file if most of it is history.
    pub(crate) fn rewrite_if_worthwhile(
        &mut self,
        snapshot: impl FnOnce() -> Vec<C>,
    ) -> Result<(), JournalError> {
        if self.bytes > REWRITE_ABOVE_BYTES.max(self.live_bytes.saturating_mul(4)) {
            *self = Self::rewrite(&self.path, &snapshot())?;
        }
        Ok(())
    }
}

fn lines_of<C: Serialize>(changes: &[C]) -> io::Result<Vec<u8>> {
    let mut lines = Vec::new();
    for change in changes {
        serde_json::to_writer(&mut lines, change)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// A new file that only its owner can read: it holds arguments of calls, or secrets.
fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> PathBuf {
        let directory = std::env::temp_dir().join(format!("toolfleet-journal-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&directory).unwrap();
        directory.join("a.journal")
    }

    #[test]
    fn a_torn_last_line_is_dropped() {
        let path = scratch();
        std::fs::write(&path, "1\n2\n3").unwrap();
        assert_eq!(Journal::<u32>::read(&path).unwrap(), [1, 2]);
    }

    #[test]
    fn a_damaged_line_is_named() {
        let path = scratch();
        std::fs::write(&path, "1\nx\n3\n").unwrap();
        assert!(matches!(Journal::<u32>::read(&path), Err(JournalError::Damaged { line: 2, .. })));
    }

    #[test]
    fn what_was_appended_after_a_rewrite_is_read_again() {
        let path = scratch();
        let mut journal = Journal::rewrite(&path, &[1_u32]).unwrap();
        journal.append(&[2, 3]).unwrap();
        drop(journal);
        assert_eq!(Journal::<u32>::read(&path).unwrap(), [1, 2, 3]);
    }
}
